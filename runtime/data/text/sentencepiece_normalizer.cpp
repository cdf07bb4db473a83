#include "runtime/data/text/sentencepiece_normalizer.h"

#include <utility>
#include <vector>

#include "runtime/data/text/metaspace.h"
#include "runtime/data/text/unicode.h"

namespace qft {

StatusOr<SentencePieceNormalizer> SentencePieceNormalizer::Create(const SentencePieceModel& model) {
  SentencePieceNormalizer result;
  QFT_ASSIGN_OR_RETURN(result.charsmap_, Charsmap::Parse(model.charsmap));
  std::vector<std::pair<std::string, int32_t>> verbatim;
  for (const auto& piece : model.pieces) {
    if (piece.type == SentencePieceModel::Type::kUserDefined) verbatim.emplace_back(piece.text, 0);
  }
  result.verbatim_ = PrefixTrie(std::move(verbatim));
  result.space_ = model.escape_whitespaces ? kSpaceMarker : " ";
  result.adds_dummy_ = model.add_dummy_prefix;
  result.dummy_is_suffix_ = model.whitespace_as_suffix;
  result.removes_extra_ = model.remove_extra_whitespaces;
  return result;
}

std::string_view SentencePieceNormalizer::Prefix(std::string_view text, size_t* length) const {
  if (verbatim_.Longest(text, length) != PrefixTrie::kNone) return text.substr(0, *length);
  std::string_view to;
  *length = charsmap_.Match(text, &to);
  if (*length > 0) return to;
  *length = CharacterLength(text);
  return text.substr(0, *length);
}

void SentencePieceNormalizer::SkipSpaces(std::string_view* text) const {
  size_t length = 0;
  while (!text->empty() && Prefix(*text, &length) == " ") text->remove_prefix(length);
}

std::string SentencePieceNormalizer::Normalize(std::string_view text, bool dummy_prefix) const {
  if (removes_extra_) SkipSpaces(&text);
  if (text.empty()) return "";
  const bool adds_dummy = adds_dummy_ && dummy_prefix;
  std::string result;
  result.reserve(text.size() + text.size() / 2);
  if (adds_dummy && !dummy_is_suffix_) result.append(space_);
  bool after_space = removes_extra_;
  for (size_t length = 0; !text.empty(); text.remove_prefix(length)) {
    std::string_view part = Prefix(text, &length);
    while (after_space && !part.empty() && part.front() == ' ') part.remove_prefix(1);
    if (!part.empty()) after_space = removes_extra_ && part.back() == ' ';
    for (const char c : part) {
      if (c == ' ') {
        result.append(space_);
      } else {
        result.push_back(c);
      }
    }
  }
  while (removes_extra_ && result.ends_with(space_)) result.resize(result.size() - space_.size());
  if (adds_dummy && dummy_is_suffix_) result.append(space_);
  return result;
}

}  // namespace qft
