// Divides normalised text into the pieces that byte-pair encoding works on one by one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/data/text/bounded_regex.h"

namespace qft {

// What becomes of a match, as Hugging Face tokenizers name it.
enum class SplitBehavior { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

struct PreTokenizerStep {
  enum class Kind { kDigits, kSplit, kByteLevel };
  Kind kind = Kind::kByteLevel;
  bool individual_digits = false;                     // kDigits
  std::string pattern;                                // kSplit
  bool literal = false;                               // kSplit: the pattern is plain text
  SplitBehavior behavior = SplitBehavior::kIsolated;  // kSplit
  bool invert = false;                                // kSplit: what does not match is the match
  bool add_prefix_space = false;                      // kByteLevel
  bool use_regex = true;                              // kByteLevel: divide as GPT-2 does
};

class PreTokenizer {
 public:
  static StatusOr<PreTokenizer> Create(const std::vector<PreTokenizerStep>& steps);

  // `text` may be changed (prefix spaces); the pieces are spans of it, none empty.
  Status Split(icu::UnicodeString* text, std::vector<TextSpan>* pieces) const;

 private:
  struct CompiledStep {
    PreTokenizerStep step;
    std::vector<BoundedRegex> regex;  // none or one
  };

  std::vector<CompiledStep> steps_;
};

}  // namespace qft
