// Tokens that are recognised in the text itself, before anything is divided or merged.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/data/text/prefix_trie.h"

namespace qft {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;   // looked for after normalisation, not before
  bool single_word = false;  // not beside a word character
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool is_extra = false;     // not one of the model's own tokens: no merge makes it
};

// A part of a text: an added token, or (id < 0) plain text.
struct TextSegment {
  std::string_view text;
  int32_t id = -1;
};

// Finds added tokens from left to right, at each place the longest.
class AddedTokenFinder {
 public:
  AddedTokenFinder() = default;
  // Looks for the pattern of each token: its content, possibly normalised. Empty ones are left out.
  explicit AddedTokenFinder(const std::vector<std::pair<std::string, AddedToken>>& tokens);

  bool empty() const { return tokens_.empty(); }

  // Appends the segments of `text` (well-formed UTF-8, outlives them). special: also special
  // tokens.
  void Divide(std::string_view text, bool special, std::vector<TextSegment>* segments) const;

 private:
  std::vector<AddedToken> tokens_;
  PrefixTrie trie_;  // values: places in tokens_
};

}  // namespace qft
