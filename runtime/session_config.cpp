#include "runtime/session_config.h"

#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>
#include <utility>
#include <variant>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"

namespace qft {
namespace {

using Json = nlohmann::ordered_json;

struct ChoiceKey {
  std::vector<const char*> names;  // by value of the enum
  int32_t (*get)(const SessionConfig&);
  void (*set)(SessionConfig&, int32_t);
};

struct IntKey {
  int64_t SessionConfig::*member;
  int64_t minimum;
  int64_t maximum;
};

// Any text.
struct TextKey {
  std::string SessionConfig::*member;
};

struct FloatKey {
  double SessionConfig::*member;
  double minimum;
  double maximum;
  bool maximum_excluded;
};

struct Key {
  const char* name;
  std::variant<ChoiceKey, IntKey, FloatKey, TextKey> kind;
  const char* meaning;
};

template <auto kMember>
ChoiceKey Choice(std::vector<const char*> names) {
  using Enum = std::remove_reference_t<decltype(std::declval<SessionConfig&>().*kMember)>;
  return {std::move(names),
          [](const SessionConfig& config) { return static_cast<int32_t>(config.*kMember); },
          [](SessionConfig& config, int32_t value) { config.*kMember = static_cast<Enum>(value); }};
}

// Sets what the preset stands for; later settings change it again.
void SetPreset(SessionConfig& config, int32_t value) {
  const SessionConfig defaults;
  config.preset = static_cast<Preset>(value);
  const bool paper = config.preset == Preset::kPaper;
  config.arithmetic = paper ? Arithmetic::kFloat : defaults.arithmetic;
  config.rounding = paper ? Rounding::kNearest : defaults.rounding;
  config.residual_bits = paper ? 0 : defaults.residual_bits;
}

ChoiceKey PresetChoice() {
  ChoiceKey choice = Choice<&SessionConfig::preset>({"default", "paper"});
  choice.set = SetPreset;
  return choice;
}

constexpr int64_t kNoMaximum = std::numeric_limits<int64_t>::max();

std::vector<Key> MakeKeys() {
  using Config = SessionConfig;
  return {
      {"preset", PresetChoice(),
       "paper: arithmetic = float, rounding = nearest and residual_bits = 0, as QFT was published: "
       "only critical features and norms learn at usual learning rates; default: sets these back"},
      {"engine", Choice<&Config::engine>({"cpu", "cuda"}), "where the arithmetic happens"},
      {"device", IntKey{&Config::device, 0, 1024}, "number of the cuda engine's device"},
      {"mode", Choice<&Config::mode>({"train", "infer"}),
       "infer: weights only, no memory for gradients and momentum, and no steps"},
      {"threads", IntKey{&Config::threads, 0, 1024},
       "worker threads of the cpu engine; 0: one for each processor. Does not change results"},
      {"arithmetic", Choice<&Config::arithmetic>({"integer", "float"}),
       "of the matrix products of linear layers: INT8 with INT32 sums, or floating point"},
      {"states", Choice<&Config::states>({"int8", "fp32"}),
       "how weights, momentum and gradients are held; fp32 is for comparison"},
      {"gradients", Choice<&Config::gradients>({"auto", "stack", "fused"}),
       "stack: kept until the end of the step, clipped by their own norm; fused: used up layer by "
       "layer, clipped by the norm of the step before; auto: stack where memory allows"},
      {"accumulation", Choice<&Config::accumulation>({"vertical", "horizontal"}),
       "order of micro-batches: all through one layer before the next, or one after the other"},
      {"recompute", Choice<&Config::recompute>({"auto", "never", "always"}),
       "whether backward computes layers again instead of keeping their inputs; auto: as few as "
       "memory requires. Does not change results"},
      {"rounding", Choice<&Config::rounding>({"nearest", "stochastic"}), "of the weight update"},
      {"beta1", FloatKey{&Config::beta1, 0.0, 1.0, true},
       "share of the momentum in the update's direction (Lion)"},
      {"beta2", FloatKey{&Config::beta2, 0.0, 1.0, true}, "decay of the momentum (Lion)"},
      {"weight_decay", FloatKey{&Config::weight_decay, 0.0, 1.0, false},
       "decoupled; multiplied by the learning rate"},
      {"clip_norm", FloatKey{&Config::clip_norm, 0.0, std::numeric_limits<double>::max(), false},
       "largest norm of the whole gradient; 0: no clipping"},
      {"critical_features", IntKey{&Config::critical_features, 0, 64},
       "input features of each matmul kept in fp32, in activations, weights, gradients and "
       "momentum, chosen by their range over 256 random tokens (or micro_batch_tokens, if fewer); "
       "at "
       "most one in eight of the narrowest layer's inputs; 0: none"},
      {"residual_bits", IntKey{&Config::residual_bits, 0, 4},
       "4: each weight has four more bits, which integer matmuls do not read, so that rounding "
       "does "
       "not make it wander; 0: none, for half a byte less a parameter"},
      {"seed", IntKey{&Config::seed, 0, kNoMaximum}, "of every random number of the session"},
      {"micro_batch_tokens", IntKey{&Config::micro_batch_tokens, 1, 1048576},
       "most tokens in a micro-batch"},
      {"micro_batches", IntKey{&Config::micro_batches, 1, 65536}, "most micro-batches in a step"},
      {"memory_limit", IntKey{&Config::memory_limit, 0, kNoMaximum},
       "most bytes of memory: on the cpu what the session plans, on a GPU what is in use on the "
       "device, "
       "other programs included; 0: what is available"},
      {"host_memory_limit", IntKey{&Config::host_memory_limit, 0, kNoMaximum},
       "most bytes of host memory for momentum, staging, boundaries and a snapshot; 0: what is "
       "available"},
      {"snapshot", Choice<&Config::snapshot>({"none", "host"}),
       "host: host memory for a copy of all states is planned, so that a checkpoint is written "
       "beside training; none: training stands still meanwhile. Does not change results"},
      {"momentum", Choice<&Config::momentum>({"device", "host", "nvme", "auto"}),
       "where momentum lives: beside the weights, in host memory, or in files in nvme_folders; "
       "auto: the first of these with which the session fits. Does not change results"},
      {"boundaries", Choice<&Config::boundaries>({"device", "host"}),
       "where the residual stream between blocks waits for backward: beside the other activations, "
       "or in host memory. Does not change results"},
      {"nvme_folders", TextKey{&Config::nvme_folders},
       "folders for momentum = nvme, separated by colons: bytes are striped over them, and nothing "
       "is left there"},
      {"nvme_backend", Choice<&Config::nvme_backend>({"auto", "io_uring", "threads"}),
       "how files are read and written; auto: by io_uring where it is permitted. Does not change "
       "results"},
      {"staging", IntKey{&Config::staging, 0, kNoMaximum},
       "most bytes of engine memory through which momentum passes that lives elsewhere; at least "
       "what one update needs. Does not change results"},
      {"nvme_staging", IntKey{&Config::nvme_staging, 0, kNoMaximum},
       "most bytes of host memory through which momentum passes with momentum = nvme, likewise: "
       "the "
       "disk fills them before updates begin and empties them after the last. Does not change "
       "results"},
  };
}

const std::vector<Key>& Keys() {
  static const std::vector<Key> keys = MakeKeys();
  return keys;
}

StatusOr<const Key*> FindKey(std::string_view name) {
  for (const Key& key : Keys()) {
    if (name == key.name) return &key;
  }
  return MakeError(ErrorCode::kUnknownKey,
                   absl::StrCat("there is no setting \"", std::string(name), "\""));
}

const char* TypeName(const Key& key) {
  constexpr const char* kNames[] = {"string", "int", "float", "string"};
  return kNames[key.kind.index()];
}

Status WrongType(const Key& key, const char* got) {
  return InvalidArgument(key.name, " is of type ", TypeName(key), ", not ", got);
}

Status SetChoice(SessionConfig& config, const Key& key, std::string_view value) {
  const auto& choice = std::get<ChoiceKey>(key.kind);
  for (size_t i = 0; i < choice.names.size(); ++i) {
    if (value != choice.names[i]) continue;
    choice.set(config, static_cast<int32_t>(i));
    return absl::OkStatus();
  }
  return MakeError(ErrorCode::kOutOfRange,
                   absl::StrCat(key.name, " is \"", std::string(value), "\", must be one of ",
                                absl::StrJoin(choice.names, ", ")));
}

Status SetNumber(SessionConfig& config, const Key& key, int64_t value) {
  const auto& number = std::get<IntKey>(key.kind);
  if (value < number.minimum || value > number.maximum) {
    return MakeError(ErrorCode::kOutOfRange,
                     absl::StrCat(key.name, " is ", value, ", must be from ", number.minimum,
                                  " to ", number.maximum));
  }
  config.*number.member = value;
  return absl::OkStatus();
}

Status SetNumber(SessionConfig& config, const Key& key, double value) {
  const auto& number = std::get<FloatKey>(key.kind);
  const bool below = number.maximum_excluded ? value < number.maximum : value <= number.maximum;
  if (!(value >= number.minimum && below)) {
    return MakeError(
        ErrorCode::kOutOfRange,
        absl::StrCat(key.name, " is ", value, ", must be at least ", number.minimum, " and ",
                     number.maximum_excluded ? "below " : "at most ", number.maximum));
  }
  config.*number.member = value;
  return absl::OkStatus();
}

template <typename Number>
Status ParseAndSet(SessionConfig& config, const Key& key, std::string_view text) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error == std::errc::result_out_of_range) {
    return MakeError(ErrorCode::kOutOfRange,
                     absl::StrCat(key.name, " is out of range: ", std::string(text)));
  }
  if (error != std::errc() || stop != end) {
    return InvalidArgument(key.name, " is of type ", TypeName(key), ", got \"", std::string(text),
                           "\"");
  }
  return SetNumber(config, key, value);
}

Json ValueOf(const SessionConfig& config, const Key& key) {
  if (const auto* choice = std::get_if<ChoiceKey>(&key.kind)) {
    return choice->names[static_cast<size_t>(choice->get(config))];
  }
  if (const auto* number = std::get_if<IntKey>(&key.kind)) return config.*number->member;
  if (const auto* text = std::get_if<TextKey>(&key.kind)) return config.*text->member;
  return config.*std::get<FloatKey>(key.kind).member;
}

Json RangeOf(const Key& key) {
  if (const auto* choice = std::get_if<ChoiceKey>(&key.kind)) return {{"choices", choice->names}};
  if (const auto* number = std::get_if<IntKey>(&key.kind)) {
    return {{"minimum", number->minimum}, {"maximum", number->maximum}};
  }
  if (std::holds_alternative<TextKey>(key.kind)) return Json::object();
  const auto& number = std::get<FloatKey>(key.kind);
  return {{"minimum", number.minimum},
          {number.maximum_excluded ? "below" : "maximum", number.maximum}};
}

}  // namespace

Status SessionConfig::SetString(std::string_view key, std::string_view value) {
  QFT_ASSIGN_OR_RETURN(const Key* found, FindKey(key));
  if (const auto* text = std::get_if<TextKey>(&found->kind)) {
    this->*text->member = value;
    return absl::OkStatus();
  }
  if (!std::holds_alternative<ChoiceKey>(found->kind)) return WrongType(*found, "string");
  return SetChoice(*this, *found, value);
}

Status SessionConfig::SetInt(std::string_view key, int64_t value) {
  QFT_ASSIGN_OR_RETURN(const Key* found, FindKey(key));
  if (!std::holds_alternative<IntKey>(found->kind)) return WrongType(*found, "int");
  return SetNumber(*this, *found, value);
}

Status SessionConfig::SetFloat(std::string_view key, double value) {
  QFT_ASSIGN_OR_RETURN(const Key* found, FindKey(key));
  if (!std::holds_alternative<FloatKey>(found->kind)) return WrongType(*found, "float");
  return SetNumber(*this, *found, value);
}

Status SessionConfig::SetText(std::string_view key, std::string_view value) {
  QFT_ASSIGN_OR_RETURN(const Key* found, FindKey(key));
  if (std::holds_alternative<ChoiceKey>(found->kind) ||
      std::holds_alternative<TextKey>(found->kind)) {
    return SetString(key, value);
  }
  if (std::holds_alternative<IntKey>(found->kind)) {
    return ParseAndSet<int64_t>(*this, *found, value);
  }
  return ParseAndSet<double>(*this, *found, value);
}

Status SessionConfig::AddGroup(TensorGroup group) {
  if (group.pattern.empty()) return InvalidArgument("the pattern of a group is empty");
  if (!std::isfinite(group.learning_rate_factor) || group.learning_rate_factor < 0) {
    return MakeError(ErrorCode::kOutOfRange,
                     absl::StrCat("learning_rate_factor is ", group.learning_rate_factor,
                                  ", must be finite and at least 0"));
  }
  if (std::isnan(group.weight_decay) || group.weight_decay > 1.0) {
    return MakeError(ErrorCode::kOutOfRange,
                     absl::StrCat("weight_decay is ", group.weight_decay, ", must be at most 1"));
  }
  groups.push_back(std::move(group));
  return absl::OkStatus();
}

std::string SessionConfig::ToJson() const {
  Json json = Json::object();
  for (const Key& key : Keys()) json[key.name] = ValueOf(*this, key);
  Json list = Json::array();
  for (const TensorGroup& group : groups) {
    list.push_back(
        {{"pattern", group.pattern},
         {"learning_rate_factor", group.learning_rate_factor},
         {"weight_decay", group.weight_decay < 0 ? Json(nullptr) : Json(group.weight_decay)},
         {"frozen", group.frozen}});
  }
  json["groups"] = std::move(list);
  return json.dump();
}

StoreOptions StoreOptionsOf(const SessionConfig& config) {
  StoreOptions store;
  store.folders = absl::StrSplit(config.nvme_folders, ':', absl::SkipEmpty());
  store.backend = config.nvme_backend;
  return store;
}

std::string DescribeSessionConfig() {
  const SessionConfig defaults;
  Json json = Json::array();
  for (const Key& key : Keys()) {
    json.push_back({{"key", key.name},
                    {"type", TypeName(key)},
                    {"default", ValueOf(defaults, key)},
                    {"range", RangeOf(key)},
                    {"meaning", key.meaning}});
  }
  return json.dump();
}

bool GlobMatch(std::string_view pattern, std::string_view name) {
  size_t p = 0;
  size_t n = 0;
  size_t star = std::string_view::npos;  // the last * met, and where in `name` it stopped matching
  size_t star_end = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_end = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++star_end;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

}  // namespace qft
