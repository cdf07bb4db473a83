#include "runtime/model/json_fields.h"

#include <limits>

namespace qft {

using nlohmann::json;

const json* FindField(const json& object, const char* key) {
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

Status ReadInteger(const json& object, const char* key, std::optional<int64_t> fallback,
                   int64_t* out) {
  const json* value = FindField(object, key);
  if (value == nullptr && !fallback.has_value()) return BadData(key, " is missing");
  if (value == nullptr) {
    *out = *fallback;
    return absl::OkStatus();
  }
  QFT_ASSIGN_OR_RETURN(*out, ToInteger(key, *value));
  return absl::OkStatus();
}

Status ReadNumber(const json& object, const char* key, double* out) {
  const json* value = FindField(object, key);
  if (value == nullptr) return BadData(key, " is missing");
  if (!value->is_number()) return BadData(key, " is ", Shown(*value), ", no number");
  *out = value->get<double>();
  return absl::OkStatus();
}

Status ReadBoolean(const json& object, const char* key, bool fallback, bool* out) {
  *out = fallback;
  const json* value = FindField(object, key);
  if (value == nullptr) return absl::OkStatus();
  if (!value->is_boolean()) return BadData(key, " is ", Shown(*value), ", neither true nor false");
  *out = value->get<bool>();
  return absl::OkStatus();
}

}  // namespace qft
