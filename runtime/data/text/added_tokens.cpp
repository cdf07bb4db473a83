#include "runtime/data/text/added_tokens.h"

#include <unicode/utf8.h>

#include <algorithm>

#include "runtime/data/text/unicode.h"

namespace qft {
namespace {

const uint8_t* Bytes(std::string_view text) {
  return reinterpret_cast<const uint8_t*>(text.data());
}

// The character that ends at `end`, and in *begin where it starts.
int32_t CharacterBefore(std::string_view text, size_t end, size_t* begin) {
  int32_t i = static_cast<int32_t>(end);
  UChar32 c;
  U8_PREV(Bytes(text), 0, i, c);
  *begin = static_cast<size_t>(i);
  return c;
}

int32_t CharacterAt(std::string_view text, size_t begin, size_t* end) {
  UChar32 c;
  *end = begin;
  U8_NEXT(Bytes(text), *end, text.size(), c);
  return c;
}

size_t SpacesBefore(std::string_view text, size_t end) {
  size_t begin;
  while (end > 0 && IsSpace(CharacterBefore(text, end, &begin))) end = begin;
  return end;
}

size_t SpacesAfter(std::string_view text, size_t begin) {
  size_t end;
  while (begin < text.size() && IsSpace(CharacterAt(text, begin, &end))) begin = end;
  return begin;
}

bool StandsAlone(std::string_view text, size_t begin, size_t end) {
  size_t other;
  if (begin > 0 && IsWordCharacter(CharacterBefore(text, begin, &other))) return false;
  return end == text.size() || !IsWordCharacter(CharacterAt(text, end, &other));
}

}  // namespace

AddedTokenFinder::AddedTokenFinder(const std::vector<std::pair<std::string, AddedToken>>& tokens) {
  std::vector<std::pair<std::string, int32_t>> keys;
  for (const auto& [pattern, token] : tokens) {
    if (pattern.empty()) continue;
    keys.emplace_back(pattern, static_cast<int32_t>(tokens_.size()));
    tokens_.push_back(token);
  }
  trie_ = PrefixTrie(std::move(keys));
}

void AddedTokenFinder::Divide(std::string_view text, bool special,
                              std::vector<TextSegment>* segments) const {
  size_t done = 0;
  size_t length = 0;
  for (size_t i = 0; !tokens_.empty() && i < text.size(); i += length) {
    length = 1;
    const int32_t found = trie_.Longest(text.substr(i), &length);
    if (found < 0) continue;
    const AddedToken& token = tokens_[static_cast<size_t>(found)];
    if (token.special && !special) continue;
    if (token.single_word && !StandsAlone(text, i, i + length)) continue;
    const size_t begin = token.lstrip ? std::max(SpacesBefore(text, i), done) : i;
    const size_t end = token.rstrip ? SpacesAfter(text, i + length) : i + length;
    // Behind a token with rstrip: one with lstrip has lost all that it would take.
    if (begin >= end) continue;
    if (done < begin) segments->push_back({text.substr(done, begin - done), -1});
    segments->push_back({text.substr(begin, end - begin), token.id});
    done = end;
  }
  if (done < text.size()) segments->push_back({text.substr(done), -1});
}

}  // namespace qft
