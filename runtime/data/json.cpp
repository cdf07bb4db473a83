#include "runtime/data/json.h"

#include <set>
#include <vector>

#include "absl/strings/escaping.h"
#include "runtime/data/git_lfs.h"

namespace qft {
namespace {

using nlohmann::json;

int NestingDepth(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > deepest) deepest = depth;
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  return deepest;
}

// The parser's own objects silently keep the last of equal keys; different readers of one file
// would then see different content.
class DuplicateKeys {
 public:
  bool OnEvent(json::parse_event_t event, const json& value) {
    if (event == json::parse_event_t::object_start) open_.emplace_back();
    if (event == json::parse_event_t::object_end && !open_.empty()) open_.pop_back();
    if (event == json::parse_event_t::key && !open_.empty() && first_.empty()) {
      const std::string& key = value.get_ref<const std::string&>();
      if (!open_.back().insert(key).second) first_ = absl::CHexEscape(key.substr(0, 200));
    }
    return true;
  }

  const std::string& first() const { return first_; }

 private:
  std::vector<std::set<std::string>> open_;
  std::string first_;
};

// Of a text that the parser refuses.
Status WhyInvalid(std::string_view text) {
  QFT_RETURN_IF_ERROR(RefuseGitLfsPointer(text));
  try {
    const json value = json::parse(text);
  } catch (const json::parse_error& error) {
    return Corrupt("not valid JSON at byte ", error.byte);
  } catch (const json::exception&) {
    return Corrupt("not valid JSON: a number is too large");
  }
  return Internal("JSON is refused once and taken again");
}

}  // namespace

StatusOr<json> ParseJson(std::string_view text, const std::string& what) {
  // The lexer takes a zero byte for the end of its input.
  if (text.find('\0') != std::string_view::npos) return Corrupt(what, ": not JSON (a zero byte)");
  if (NestingDepth(text) > kMaxJsonDepth) {
    return Corrupt(what, ": JSON nested deeper than ", kMaxJsonDepth);
  }
  DuplicateKeys duplicates;
  json value = json::parse(
      text.begin(), text.end(),
      [&duplicates](int, json::parse_event_t event, json& parsed) {
        return duplicates.OnEvent(event, parsed);
      },
      /*allow_exceptions=*/false);
  if (value.is_discarded()) return Annotate(WhyInvalid(text), what);
  if (!duplicates.first().empty()) {
    return Corrupt(what, ": the key \"", duplicates.first(), "\" stands twice in one object");
  }
  return value;
}

}  // namespace qft
