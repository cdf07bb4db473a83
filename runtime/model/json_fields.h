// Reading the fields of a config.json. Absent and null are alike, as Hugging Face has it; errors
// name the key.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/status.h"
#include "runtime/data/json.h"

namespace qft {

// nullptr when the key is absent or null.
const nlohmann::json* FindField(const nlohmann::json& object, const char* key);
// The start of a value, for errors.
std::string Shown(const nlohmann::json& value);

StatusOr<int64_t> ToInteger(const char* key, const nlohmann::json& value);
// Where there is no fallback the key must be there.
Status ReadInteger(const nlohmann::json& object, const char* key, std::optional<int64_t> fallback,
                   int64_t* out);
Status ReadNumber(const nlohmann::json& object, const char* key, double* out);
Status ReadBoolean(const nlohmann::json& object, const char* key, bool fallback, bool* out);

}  // namespace qft
