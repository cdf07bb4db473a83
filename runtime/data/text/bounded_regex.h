// Regular expressions that come from a file and are run on any text, within bounds of time and
// stack.
#pragma once

#include <unicode/regex.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace qft {

// One part of a text; is_match is false for what lies between matches.
struct TextSpan {
  int32_t begin = 0;
  int32_t end = 0;
  bool is_match = false;
};

class BoundedRegex {
 public:
  // The syntax that ICU and Oniguruma (which Hugging Face tokenizers use) read alike; what they
  // read differently (\w, \b, \h, flags other than i ...) is refused. `literal`: plain text.
  static StatusOr<BoundedRegex> Compile(const std::string& pattern, bool literal);

  const icu::RegexPattern& pattern() const { return *pattern_; }

 private:
  explicit BoundedRegex(std::unique_ptr<icu::RegexPattern> pattern)
      : pattern_(std::move(pattern)) {}

  std::unique_ptr<icu::RegexPattern> pattern_;
};

// The use of a regular expression on one text, which must outlive it. One budget of time for all.
class RegexRun {
 public:
  static StatusOr<std::unique_ptr<RegexRun>> Start(const BoundedRegex& regex,
                                                   const icu::UnicodeString& text);
  // Divides [begin, end) of the text for itself (nothing looks across its borders) into matches and
  // what lies between, in order. Empty spans may be among them.
  // kUnsupported when the pattern takes too long or too deep a stack.
  Status Divide(int32_t begin, int32_t end, std::vector<TextSpan>* spans);

 private:
  RegexRun() = default;
  bool WithinBudget();
  static UBool OnMatchSteps(const void* self, int32_t steps);
  static UBool OnFindProgress(const void* self, int64_t index);

  std::unique_ptr<icu::RegexMatcher> matcher_;
  double budget_seconds_ = 0;
  double deadline_ = 0;  // of this thread's processor time; 0: not asked for yet
  uint32_t starts_ = 0;
};

}  // namespace qft
