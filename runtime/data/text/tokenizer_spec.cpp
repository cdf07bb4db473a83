#include "runtime/data/text/tokenizer_spec.h"

#include "absl/strings/escaping.h"
#include "runtime/data/text/unicode.h"

namespace qft {
namespace {

constexpr size_t kMaxTokenBytes = 65536;

std::string Quoted(std::string_view text) {
  return absl::StrCat("\"", absl::Utf8SafeCHexEscape(std::string(text.substr(0, 100))), "\"");
}

}  // namespace

Status Vocabulary::Add(const std::string& text, int64_t id, size_t expected) {
  if (id < 0 || id > static_cast<int64_t>(2 * expected + 4096)) {
    return BadData("token ", Quoted(text), " has the impossible id ", id);
  }
  if (text.size() > kMaxTokenBytes)
    return BadData("token ", id, " is ", text.size(), " bytes long");
  if (!IsUtf8(text)) return BadData("token ", id, " is not UTF-8");
  const size_t place = static_cast<size_t>(id);
  if (place >= tokens_.size()) tokens_.resize(place + 1);
  if (tokens_[place].has_value()) {
    return BadData("tokens ", Quoted(*tokens_[place]), " and ", Quoted(text), " have the same id ",
                   id);
  }
  if (!ids_.emplace(text, static_cast<int32_t>(id)).second) {
    return BadData("token ", Quoted(text), " stands twice in the vocabulary");
  }
  tokens_[place] = text;
  return absl::OkStatus();
}

std::optional<int32_t> Vocabulary::Find(std::string_view text) const {
  const auto found = ids_.find(absl::string_view(text.data(), text.size()));
  if (found == ids_.end()) return std::nullopt;
  return found->second;
}

const std::string* Vocabulary::Text(int64_t id) const {
  if (id < 0 || id >= size()) return nullptr;
  const std::optional<std::string>& token = tokens_[static_cast<size_t>(id)];
  return token.has_value() ? &*token : nullptr;
}

Status AddToken(AddedToken token, size_t expected, TokenizerSpec* spec) {
  if (spec->vocabulary.Find(token.content) != token.id) {
    QFT_RETURN_IF_ERROR(spec->vocabulary.Add(token.content, token.id, expected));
    token.is_extra = true;
  }
  spec->added_tokens.push_back(std::move(token));
  return absl::OkStatus();
}

StatusOr<MergeRule> ResolveMerge(const Vocabulary& vocabulary, const std::string& left,
                                 const std::string& right, size_t rank) {
  const auto left_id = vocabulary.Find(left);
  const auto right_id = vocabulary.Find(right);
  const auto merged_id = vocabulary.Find(left + right);
  if (!left_id || !right_id || !merged_id) {
    return BadData("the merge of ", Quoted(left), " and ", Quoted(right),
                   " names a token that is not in the vocabulary");
  }
  return MergeRule{*left_id, *right_id, *merged_id, static_cast<int32_t>(rank)};
}

}  // namespace qft
