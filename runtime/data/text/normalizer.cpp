#include "runtime/data/text/normalizer.h"

#include <unicode/bytestream.h>

#include <utility>

#include "runtime/data/text/metaspace.h"
#include "runtime/data/text/unicode.h"

namespace qft {
namespace {

using Kind = NormalizerStep::Kind;

StatusOr<const icu::Normalizer2*> FindForm(NormalForm form) {
  UErrorCode code = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = nullptr;
  switch (form) {
    case NormalForm::kNfc:
      normalizer = icu::Normalizer2::getNFCInstance(code);
      break;
    case NormalForm::kNfd:
      normalizer = icu::Normalizer2::getNFDInstance(code);
      break;
    case NormalForm::kNfkc:
      normalizer = icu::Normalizer2::getNFKCInstance(code);
      break;
    case NormalForm::kNfkd:
      normalizer = icu::Normalizer2::getNFKDInstance(code);
      break;
  }
  if (U_FAILURE(code)) return Internal("ICU has no normaliser: ", u_errorName(code));
  return normalizer;
}

StatusOr<std::string> ToForm(const icu::Normalizer2& form, const std::string& text) {
  std::string result;
  icu::StringByteSink<std::string> sink(&result, static_cast<int32_t>(text.size()));
  UErrorCode code = U_ZERO_ERROR;
  form.normalizeUTF8(0, icu::StringPiece(text.data(), static_cast<int32_t>(text.size())), sink,
                     nullptr, code);
  if (code == U_MEMORY_ALLOCATION_ERROR) {
    return MakeError(ErrorCode::kOutOfMemory, "normalising a text");
  }
  if (U_FAILURE(code)) return Internal("normalising a text: ", u_errorName(code));
  return result;
}

Status TooLong() {
  return MakeError(ErrorCode::kOutOfRange, "normalising makes the text too long");
}

}  // namespace

StatusOr<Normalizer> Normalizer::Create(std::vector<NormalizerStep> steps) {
  Normalizer result;
  for (NormalizerStep& step : steps) {
    const icu::Normalizer2* form = nullptr;
    if (step.kind == Kind::kNormalForm) {
      QFT_ASSIGN_OR_RETURN(form, FindForm(step.form));
    }
    result.steps_.push_back({std::move(step), form});
  }
  return result;
}

StatusOr<std::string> Normalizer::Normalize(std::string_view text) const {
  const size_t most = MostRewrittenBytes(text.size());
  std::string result(text);
  for (const auto& [step, form] : steps_) {
    if (step.kind == Kind::kNormalForm) {
      QFT_ASSIGN_OR_RETURN(result, ToForm(*form, result));
    } else if (step.kind == Kind::kReplace) {
      if (ReplacedBytes(result, step.pattern, step.text) > most) return TooLong();
      result = ReplaceAll(result, step.pattern, step.text);
    } else if (!result.empty()) {
      result.insert(0, step.text);
    }
    if (result.size() > most) return TooLong();
  }
  return result;
}

}  // namespace qft
