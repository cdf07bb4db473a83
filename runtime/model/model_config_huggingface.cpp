#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "runtime/data/json.h"
#include "runtime/model/model_config.h"

namespace qft {
namespace {

using nlohmann::json;

constexpr double kDefaultRopeTheta = 10000;

// nullptr when the key is absent or null, which Hugging Face treats alike.
const json* Find(const json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

std::string Shown(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace).substr(0, 100);
}

StatusOr<int64_t> ToInteger(const char* key, const json& value) {
  if (value.is_number_unsigned() &&
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    return BadData(key, " is ", Shown(value), ", which is absurd");
  }
  if (!value.is_number_integer()) return BadData(key, " is ", Shown(value), ", no integer");
  return value.get<int64_t>();
}

Status ReadInteger(const json& root, const char* key, std::optional<int64_t> fallback,
                   int64_t* out) {
  const json* value = Find(root, key);
  if (value == nullptr && !fallback.has_value()) return BadData(key, " is missing");
  if (value == nullptr) {
    *out = *fallback;
    return absl::OkStatus();
  }
  QFT_ASSIGN_OR_RETURN(*out, ToInteger(key, *value));
  return absl::OkStatus();
}

Status ReadNumber(const json& root, const char* key, double* out) {
  const json* value = Find(root, key);
  if (value == nullptr) return BadData(key, " is missing");
  if (!value->is_number()) return BadData(key, " is ", Shown(*value), ", no number");
  *out = value->get<double>();
  return absl::OkStatus();
}

// -1 is how older configurations write "none".
Status ReadToken(const json& root, const char* key, std::optional<int64_t>* out) {
  int64_t token;
  QFT_RETURN_IF_ERROR(ReadInteger(root, key, -1, &token));
  if (token != -1) *out = token;
  return absl::OkStatus();
}

Status ReadEosTokens(const json& root, std::vector<int64_t>* out) {
  const json* value = Find(root, "eos_token_id");
  if (value != nullptr && value->is_array()) {
    for (const json& element : *value) {
      QFT_ASSIGN_OR_RETURN(const int64_t token, ToInteger("eos_token_id", element));
      out->push_back(token);
    }
    return absl::OkStatus();
  }
  std::optional<int64_t> token;
  QFT_RETURN_IF_ERROR(ReadToken(root, "eos_token_id", &token));
  if (token.has_value()) out->push_back(*token);
  return absl::OkStatus();
}

StatusOr<FamilyTraits> ReadFamily(const json& root) {
  const json* architectures = Find(root, "architectures");
  if (architectures == nullptr) return BadData("architectures is missing");
  std::vector<const char*> known;
  for (const FamilyTraits& traits : kFamilies) {
    known.push_back(traits.architecture);
    if (*architectures != json::array({traits.architecture})) continue;
    const json* type = Find(root, "model_type");
    if (type != nullptr && *type != traits.model_type) {
      return Unsupported("model_type is ", Shown(*type), "; only ", traits.model_type,
                         " is supported with ", traits.architecture);
    }
    return traits;
  }
  return Unsupported("architectures is ", Shown(*architectures), "; supported are ",
                     absl::StrJoin(known, ", "));
}

// Settings that change the model's function, each with the one value that libqft computes. (JSON
// compares numbers by value: 1 equals 1.0.)
Status CheckFixedSettings(const json& root) {
  const std::pair<const char*, json> fixed[] = {
      {"hidden_act", "silu"},       {"attention_bias", false}, {"mlp_bias", false},
      {"pretraining_tp", 1},        {"attention_dropout", 0},  {"partial_rotary_factor", 1},
      {"use_sliding_window", false}};
  for (const auto& [key, supported] : fixed) {
    const json* value = Find(root, key);
    if (value != nullptr && *value != supported) {
      return Unsupported(key, " is ", Shown(*value), "; only ", supported.dump(), " is supported");
    }
  }
  if (const json* value = Find(root, "quantization_config"); value != nullptr) {
    return Unsupported("quantization_config is ", Shown(*value), "; it is not supported");
  }
  return absl::OkStatus();
}

// One window for all layers.
Status ReadWindow(const json& root, const FamilyTraits& traits, ModelConfig* config) {
  const json* window = Find(root, "sliding_window");
  if (window != nullptr && !traits.sliding_window) {
    return Unsupported("sliding_window is ", Shown(*window), "; ", traits.architecture,
                       " has none");
  }
  QFT_RETURN_IF_ERROR(ReadInteger(root, "sliding_window", 0, &config->sliding_window));
  if (window != nullptr && config->sliding_window < 1) {
    return BadData("sliding_window is ", config->sliding_window);
  }
  const char* const layer = window != nullptr ? "sliding_attention" : "full_attention";
  if (const json* types = Find(root, "layer_types"); types != nullptr) {
    for (const json& type : *types) {
      if (type != layer) return Unsupported("layer_types has ", Shown(type), " beside ", layer);
    }
  }
  return absl::OkStatus();
}

// null, or a finite number above `least`, at least where `equal`.
Status ReadPositive(const json& object, const char* key, double least, bool equal, double* out) {
  if (Find(object, key) == nullptr) return absl::OkStatus();
  QFT_RETURN_IF_ERROR(ReadNumber(object, key, out));
  if (!std::isfinite(*out) || !(*out > least || (equal && *out == least))) {
    return BadData(key, " is ", *out, ", must be ", equal ? "at least " : "above ", least);
  }
  return absl::OkStatus();
}

Status ReadPositive(const json& object, const char* key, std::optional<double>* out) {
  if (Find(object, key) == nullptr) return absl::OkStatus();
  double value = 0;
  QFT_RETURN_IF_ERROR(ReadPositive(object, key, 0, true, &value));
  *out = value;
  return absl::OkStatus();
}

StatusOr<RopeKind> ReadRopeKind(const char* object_key, const json& object) {
  std::optional<RopeKind> kind;
  for (const char* key : {"rope_type", "type"}) {
    const json* name = Find(object, key);
    if (name == nullptr) continue;
    const auto* found = std::find_if(std::begin(kRopeKindNames), std::end(kRopeKindNames),
                                     [&](const char* known) { return *name == known; });
    if (found == std::end(kRopeKindNames)) {
      return Unsupported(object_key, ".", key, " is ", Shown(*name), "; supported are default, ",
                         "linear, dynamic, llama3 and yarn");
    }
    const auto named = static_cast<RopeKind>(found - std::begin(kRopeKindNames));
    if (kind.has_value() && *kind != named) {
      return BadData(object_key, ".type and .rope_type differ");
    }
    kind = named;
  }
  return kind.value_or(RopeKind::kPlain);
}

// The keys that a kind has beside its type and rope_theta.
std::vector<std::string_view> RopeKeys(RopeKind kind) {
  switch (kind) {
    case RopeKind::kPlain:
      return {};
    case RopeKind::kLinear:
    case RopeKind::kDynamic:
      return {"factor"};
    case RopeKind::kLlama3:
      return {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"};
    case RopeKind::kYarn:
      return {"factor",           "original_max_position_embeddings",
              "attention_factor", "beta_fast",
              "beta_slow",        "mscale",
              "mscale_all_dim",   "truncate"};
  }
  return {};
}

// A key that is not understood may change the function.
Status CheckRopeKeys(const char* object_key, const json& object, RopeKind kind) {
  const std::vector<std::string_view> known = RopeKeys(kind);
  for (const auto& [key, value] : object.items()) {
    if (value.is_null() || key == "rope_theta" || key == "rope_type" || key == "type" ||
        (key == "partial_rotary_factor" && value == 1) ||
        std::find(known.begin(), known.end(), key) != known.end()) {
      continue;
    }
    return Unsupported(object_key, ".", absl::CHexEscape(key.substr(0, 100)), " is ", Shown(value),
                       "; rotary embeddings of type ", kRopeKindNames[static_cast<int>(kind)],
                       " do not have it");
  }
  return absl::OkStatus();
}

Status ReadStretched(const json& object, RopeScaling* scaling) {
  QFT_RETURN_IF_ERROR(ReadInteger(object, "original_max_position_embeddings", std::nullopt,
                                  &scaling->original_max_position));
  if (scaling->original_max_position < 1) {
    return BadData("original_max_position_embeddings is ", scaling->original_max_position);
  }
  if (scaling->kind == RopeKind::kLlama3) {
    for (const std::string_view key : RopeKeys(scaling->kind)) {
      if (Find(object, key.data()) == nullptr) return BadData(std::string(key), " is missing");
    }
    QFT_RETURN_IF_ERROR(
        ReadPositive(object, "low_freq_factor", 0, false, &scaling->low_frequency_factor));
    QFT_RETURN_IF_ERROR(ReadPositive(object, "high_freq_factor", scaling->low_frequency_factor,
                                     false, &scaling->high_frequency_factor));
    return absl::OkStatus();
  }
  QFT_RETURN_IF_ERROR(ReadPositive(object, "attention_factor", &scaling->attention_factor));
  QFT_RETURN_IF_ERROR(ReadPositive(object, "mscale", &scaling->mscale));
  QFT_RETURN_IF_ERROR(ReadPositive(object, "mscale_all_dim", &scaling->mscale_all_dim));
  QFT_RETURN_IF_ERROR(ReadPositive(object, "beta_slow", 0, false, &scaling->beta_slow));
  QFT_RETURN_IF_ERROR(ReadPositive(object, "beta_fast", 0, false, &scaling->beta_fast));
  if (const json* truncate = Find(object, "truncate"); truncate != nullptr) {
    if (!truncate->is_boolean()) return BadData("truncate is ", Shown(*truncate));
    scaling->truncate = truncate->get<bool>();
  }
  return absl::OkStatus();
}

Status ReadRopeObject(const char* object_key, const json& object, const ModelConfig& config,
                      RopeScaling* scaling) {
  if (!object.is_object()) return BadData(object_key, " is ", Shown(object), ", no object");
  QFT_ASSIGN_OR_RETURN(scaling->kind, ReadRopeKind(object_key, object));
  QFT_RETURN_IF_ERROR(CheckRopeKeys(object_key, object, scaling->kind));
  if (scaling->kind == RopeKind::kPlain) return absl::OkStatus();
  const bool stretched = scaling->kind == RopeKind::kLlama3 || scaling->kind == RopeKind::kYarn;
  if (stretched) QFT_RETURN_IF_ERROR(ReadStretched(object, scaling));
  if (Find(object, "factor") == nullptr) {
    if (scaling->kind != RopeKind::kYarn) return BadData(object_key, ".factor is missing");
    scaling->factor = static_cast<double>(config.max_position) /
                      static_cast<double>(scaling->original_max_position);
  }
  return ReadPositive(object, "factor", 1, true, &scaling->factor);
}

Status ReadRope(const json& root, ModelConfig* config) {
  config->rope_theta = kDefaultRopeTheta;
  if (Find(root, "rope_theta") != nullptr) {
    QFT_RETURN_IF_ERROR(ReadNumber(root, "rope_theta", &config->rope_theta));
  }
  const json* before = nullptr;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const json* object = Find(root, key);
    if (object == nullptr) continue;
    if (before != nullptr && *before != *object) {
      return BadData("rope_scaling and rope_parameters differ");
    }
    before = object;
    QFT_RETURN_IF_ERROR(ReadRopeObject(key, *object, *config, &config->rope_scaling));
    if (Find(*object, "rope_theta") == nullptr) continue;
    double inner;
    QFT_RETURN_IF_ERROR(ReadNumber(*object, "rope_theta", &inner));
    if (Find(root, "rope_theta") != nullptr && inner != config->rope_theta) {
      return BadData("rope_theta is ", config->rope_theta, ", but ", key, ".rope_theta is ", inner);
    }
    config->rope_theta = inner;
  }
  return absl::OkStatus();
}

Status ReadSizes(const json& root, ModelConfig* config) {
  QFT_RETURN_IF_ERROR(ReadInteger(root, "vocab_size", std::nullopt, &config->vocab_size));
  QFT_RETURN_IF_ERROR(ReadInteger(root, "hidden_size", std::nullopt, &config->hidden_size));
  QFT_RETURN_IF_ERROR(
      ReadInteger(root, "intermediate_size", std::nullopt, &config->intermediate_size));
  QFT_RETURN_IF_ERROR(ReadInteger(root, "num_hidden_layers", std::nullopt, &config->layers));
  QFT_RETURN_IF_ERROR(ReadInteger(root, "num_attention_heads", std::nullopt, &config->heads));
  QFT_RETURN_IF_ERROR(ReadInteger(root, "num_key_value_heads", config->heads, &config->kv_heads));
  QFT_RETURN_IF_ERROR(
      ReadInteger(root, "max_position_embeddings", std::nullopt, &config->max_position));
  if (config->heads < 1 || config->hidden_size % config->heads != 0) {
    return BadData("hidden_size ", config->hidden_size, " is no multiple of num_attention_heads ",
                   config->heads);
  }
  return ReadInteger(root, "head_dim", config->hidden_size / config->heads, &config->head_dim);
}

StatusOr<ModelConfig> ParseRoot(const json& root) {
  if (!root.is_object()) return BadData("no JSON object");
  QFT_ASSIGN_OR_RETURN(const FamilyTraits traits, ReadFamily(root));
  QFT_RETURN_IF_ERROR(CheckFixedSettings(root));
  ModelConfig config;
  config.family = traits.family;
  QFT_RETURN_IF_ERROR(ReadWindow(root, traits, &config));
  if (const json* name = Find(root, "_name_or_path"); name != nullptr && name->is_string()) {
    config.name = name->get_ref<const std::string&>();
  }
  QFT_RETURN_IF_ERROR(ReadSizes(root, &config));
  QFT_RETURN_IF_ERROR(ReadNumber(root, "rms_norm_eps", &config.rms_norm_epsilon));
  QFT_RETURN_IF_ERROR(ReadRope(root, &config));
  if (const json* tied = Find(root, "tie_word_embeddings"); tied != nullptr) {
    if (!tied->is_boolean()) return BadData("tie_word_embeddings is ", Shown(*tied));
    config.tie_embeddings = tied->get<bool>();
  }
  QFT_RETURN_IF_ERROR(ReadToken(root, "bos_token_id", &config.bos_token));
  QFT_RETURN_IF_ERROR(ReadEosTokens(root, &config.eos_tokens));
  QFT_RETURN_IF_ERROR(ReadToken(root, "pad_token_id", &config.pad_token));
  QFT_RETURN_IF_ERROR(CheckModelConfig(config));
  return config;
}

}  // namespace

StatusOr<ModelConfig> ParseHuggingFaceConfig(std::string_view text, const std::string& what) {
  QFT_ASSIGN_OR_RETURN(const json root, ParseJson(text, what));
  StatusOr<ModelConfig> config = ParseRoot(root);
  if (!config.ok()) return Annotate(config.status(), what);
  return config;
}

}  // namespace qft
