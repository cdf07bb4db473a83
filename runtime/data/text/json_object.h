// Typed access to the JSON of tokenizers; what is of the wrong type is kBadData, by name.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>

#include "runtime/data/json.h"

namespace qft {

template <typename... Args>
Status Refuse(const Args&... what) {
  return Unsupported("not supported: ", what...);
}

// One object; `what` names it in errors.
class Object {
 public:
  static StatusOr<Object> Of(const nlohmann::json& value, std::string what) {
    if (!value.is_object()) return BadData(what, " is not an object");
    return Object(value, std::move(what));
  }

  // nullptr when the key is missing or null.
  const nlohmann::json* Find(const char* key) const {
    const auto found = value_->find(key);
    return found == value_->end() || found->is_null() ? nullptr : &*found;
  }
  StatusOr<std::string> String(const char* key, const std::string& missing) const {
    const nlohmann::json* value = Find(key);
    if (value == nullptr) return missing;
    if (!value->is_string()) return BadData(what_, ".", key, " is not a string");
    return value->get<std::string>();
  }
  StatusOr<bool> Bool(const char* key, bool missing) const {
    const nlohmann::json* value = Find(key);
    if (value == nullptr) return missing;
    if (!value->is_boolean()) return BadData(what_, ".", key, " is not a boolean");
    return value->get<bool>();
  }
  // A key outside of `known` might change the ids.
  Status CheckKeys(std::initializer_list<std::string_view> known) const {
    for (const auto& [key, unused] : value_->items()) {
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        return Refuse(what_, ".", key);
      }
    }
    return absl::OkStatus();
  }
  const std::string& what() const { return what_; }

 private:
  Object(const nlohmann::json& value, std::string what) : value_(&value), what_(std::move(what)) {}

  const nlohmann::json* value_;
  std::string what_;
};

inline StatusOr<int64_t> TokenIdOf(const nlohmann::json& value, const std::string& what) {
  if (!value.is_number_integer() || value > nlohmann::json(INT32_MAX) ||
      value < nlohmann::json(0)) {
    return BadData(what, " is not a token id");
  }
  return value.get<int64_t>();
}

}  // namespace qft
