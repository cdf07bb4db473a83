// JSON from untrusted files.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "base/status.h"

namespace qft {

inline constexpr int kMaxJsonDepth = 64;

// Parses `text`; `what` names it in errors. Beyond what is no JSON, refuses nesting deeper than
// kMaxJsonDepth and objects that name a key twice. Throws only when memory runs out.
StatusOr<nlohmann::json> ParseJson(std::string_view text, const std::string& what);

}  // namespace qft
