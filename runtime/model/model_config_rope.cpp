// The rotary embeddings of a config.json.
#include <algorithm>
#include <cmath>

#include "absl/strings/escaping.h"
#include "runtime/model/json_fields.h"
#include "runtime/model/model_config_rope.h"

namespace qft {
namespace {

using nlohmann::json;

// null, or a finite number above `least`, at least where `equal`.
Status ReadPositive(const json& object, const char* key, double least, bool equal, double* out) {
  if (FindField(object, key) == nullptr) return absl::OkStatus();
  QFT_RETURN_IF_ERROR(ReadNumber(object, key, out));
  if (!std::isfinite(*out) || !(*out > least || (equal && *out == least))) {
    return BadData(key, " is ", *out, ", must be ", equal ? "at least " : "above ", least);
  }
  return absl::OkStatus();
}

Status ReadPositive(const json& object, const char* key, std::optional<double>* out) {
  if (FindField(object, key) == nullptr) return absl::OkStatus();
  double value = 0;
  QFT_RETURN_IF_ERROR(ReadPositive(object, key, 0, true, &value));
  *out = value;
  return absl::OkStatus();
}

StatusOr<RopeKind> ReadRopeKind(const char* object_key, const json& object) {
  std::optional<RopeKind> kind;
  for (const char* key : {"rope_type", "type"}) {
    const json* name = FindField(object, key);
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
      if (FindField(object, key.data()) == nullptr) return BadData(std::string(key), " is missing");
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
  if (const json* truncate = FindField(object, "truncate"); truncate != nullptr) {
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
  if (FindField(object, "factor") == nullptr) {
    if (scaling->kind != RopeKind::kYarn) return BadData(object_key, ".factor is missing");
    scaling->factor = static_cast<double>(config.max_position) /
                      static_cast<double>(scaling->original_max_position);
  }
  return ReadPositive(object, "factor", 1, true, &scaling->factor);
}

}  // namespace

Status ReadRope(const json& root, ModelConfig* config) {
  config->rope_theta = config->family->rope_theta;
  if (FindField(root, "rope_theta") != nullptr) {
    QFT_RETURN_IF_ERROR(ReadNumber(root, "rope_theta", &config->rope_theta));
  }
  const json* before = nullptr;
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const json* object = FindField(root, key);
    if (object == nullptr) continue;
    if (before != nullptr && *before != *object) {
      return BadData("rope_scaling and rope_parameters differ");
    }
    before = object;
    QFT_RETURN_IF_ERROR(ReadRopeObject(key, *object, *config, &config->rope_scaling));
    if (FindField(*object, "rope_theta") == nullptr) continue;
    double inner;
    QFT_RETURN_IF_ERROR(ReadNumber(*object, "rope_theta", &inner));
    if (FindField(root, "rope_theta") != nullptr && inner != config->rope_theta) {
      return BadData("rope_theta is ", config->rope_theta, ", but ", key, ".rope_theta is ", inner);
    }
    config->rope_theta = inner;
  }
  return absl::OkStatus();
}

}  // namespace qft
