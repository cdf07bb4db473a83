// What is done to a text before it is divided, as a tokenizer.json asks for it.
#pragma once

#include <unicode/normalizer2.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace qft {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

struct NormalizerStep {
  enum class Kind { kNormalForm, kPrepend, kReplace };
  Kind kind = Kind::kNormalForm;
  NormalForm form = NormalForm::kNfc;  // kNormalForm
  std::string pattern;                 // kReplace: plain text, not empty
  std::string text;                    // kPrepend: before a text that is not empty; kReplace
};

class Normalizer {
 public:
  static StatusOr<Normalizer> Create(std::vector<NormalizerStep> steps);

  // text: well-formed UTF-8 of at most kMaxTextBytes, as the result is. kOutOfRange: more than
  // MostRewrittenBytes would be made of it.
  StatusOr<std::string> Normalize(std::string_view text) const;

 private:
  struct Step {
    NormalizerStep step;
    const icu::Normalizer2* form;  // ICU's own, lives for ever; nullptr for another kind
  };

  std::vector<Step> steps_;
};

}  // namespace qft
