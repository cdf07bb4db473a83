// Tokens that are recognised in the text itself, before anything is divided or merged.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace qft {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;   // looked for after normalisation, not before
  bool single_word = false;  // not beside a word character
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
};

// A part of a text: an added token, or (id < 0) plain text.
struct TextSegment {
  std::string_view text;
  int32_t id = -1;
};

// Finds added tokens from left to right, at each place the longest.
class AddedTokenFinder {
 public:
  // Looks for `pattern` of each token: its content, possibly normalised. Empty ones are left out.
  void Add(const std::string& pattern, const AddedToken& token);

  // Appends the segments of `text` (well-formed UTF-8, outlives them). special: also special
  // tokens.
  void Divide(std::string_view text, bool special, std::vector<TextSegment>* segments) const;

 private:
  struct Node {
    std::map<char, int32_t> next;
    int32_t token = -1;  // place in tokens_
  };

  // The longest token at the start of `text`: its place and, in *length, its bytes. -1: none.
  int32_t Longest(std::string_view text, size_t* length) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_{1};
};

}  // namespace qft
