#include "runtime/data/text/pre_tokenizer.h"

#include <unicode/uchar.h>

#include <algorithm>
#include <utility>

namespace qft {
namespace {

using Kind = PreTokenizerStep::Kind;

constexpr char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

void DivideDigits(const icu::UnicodeString& text, const TextSpan& region,
                  std::vector<TextSpan>* spans) {
  for (int32_t i = region.begin; i < region.end;) {
    const UChar32 c = text.char32At(i);
    const int32_t next = i + U16_LENGTH(c);
    const bool digit = (U_GET_GC_MASK(c) & U_GC_N_MASK) != 0;
    if (!digit && !spans->empty() && !spans->back().is_match) {
      spans->back().end = next;
    } else {
      spans->push_back({i, next, digit});
    }
    i = next;
  }
}

// Joins neighbours: a span goes into the one before it when `joins(previous is_match, is_match)`.
template <typename Joins>
void JoinForward(std::vector<TextSpan>* spans, const Joins& joins) {
  std::vector<TextSpan> joined;
  bool previous = false;
  for (const TextSpan& span : *spans) {
    if (!joined.empty() && joins(previous, span.is_match)) {
      joined.back().end = span.end;
    } else {
      joined.push_back(span);
    }
    previous = span.is_match;
  }
  *spans = std::move(joined);
}

void JoinWithNext(std::vector<TextSpan>* spans) {
  std::vector<TextSpan> joined;
  bool previous = false;
  for (auto span = spans->rbegin(); span != spans->rend(); ++span) {
    if (!joined.empty() && span->is_match && !previous) {
      joined.back().begin = span->begin;
    } else {
      joined.push_back(*span);
    }
    previous = span->is_match;
  }
  std::reverse(joined.begin(), joined.end());
  *spans = std::move(joined);
}

void ApplyBehavior(SplitBehavior behavior, std::vector<TextSpan>* spans) {
  switch (behavior) {
    case SplitBehavior::kIsolated:
      break;
    case SplitBehavior::kRemoved:
      spans->erase(std::remove_if(spans->begin(), spans->end(),
                                  [](const TextSpan& span) { return span.is_match; }),
                   spans->end());
      break;
    case SplitBehavior::kContiguous:
      JoinForward(spans, [](bool previous, bool match) { return previous == match; });
      break;
    case SplitBehavior::kMergedWithPrevious:
      JoinForward(spans, [](bool previous, bool match) { return match && !previous; });
      break;
    case SplitBehavior::kMergedWithNext:
      JoinWithNext(spans);
      break;
  }
}

// Puts a space before each piece that does not begin with one.
void AddPrefixSpaces(icu::UnicodeString* text, std::vector<TextSpan>* pieces) {
  icu::UnicodeString spaced;
  for (TextSpan& piece : *pieces) {
    const int32_t begin = spaced.length();
    if (text->charAt(piece.begin) != u' ') spaced.append(u' ');
    spaced.append(*text, piece.begin, piece.end - piece.begin);
    piece = {begin, spaced.length(), false};
  }
  *text = std::move(spaced);
}

SplitBehavior BehaviorOf(const PreTokenizerStep& step) {
  if (step.kind == Kind::kSplit) return step.behavior;
  const bool contiguous = step.kind == Kind::kDigits && !step.individual_digits;
  return contiguous ? SplitBehavior::kContiguous : SplitBehavior::kIsolated;
}

}  // namespace

StatusOr<PreTokenizer> PreTokenizer::Create(const std::vector<PreTokenizerStep>& steps) {
  PreTokenizer result;
  for (const PreTokenizerStep& step : steps) {
    CompiledStep compiled{step, {}};
    const bool gpt2 = step.kind == Kind::kByteLevel && step.use_regex;
    if (step.kind == Kind::kSplit || gpt2) {
      QFT_ASSIGN_OR_RETURN(BoundedRegex regex,
                           BoundedRegex::Compile(gpt2 ? kGpt2Pattern : step.pattern, step.literal));
      compiled.regex.push_back(std::move(regex));
    }
    result.steps_.push_back(std::move(compiled));
  }
  return result;
}

Status PreTokenizer::Split(icu::UnicodeString* text, std::vector<TextSpan>* pieces) const {
  pieces->assign(1, TextSpan{0, text->length(), false});
  std::vector<TextSpan> divided;
  std::vector<TextSpan> spans;
  for (const auto& [step, regex] : steps_) {
    if (step.add_prefix_space) AddPrefixSpaces(text, pieces);
    if (regex.empty() && step.kind != Kind::kDigits) continue;
    std::unique_ptr<RegexRun> run;
    if (!regex.empty()) {
      QFT_ASSIGN_OR_RETURN(run, RegexRun::Start(regex.front(), *text));
    }
    divided.clear();
    for (const TextSpan& region : *pieces) {
      spans.clear();
      if (run) {
        QFT_RETURN_IF_ERROR(run->Divide(region.begin, region.end, &spans));
      } else {
        DivideDigits(*text, region, &spans);
      }
      if (step.invert) {
        for (TextSpan& span : spans) span.is_match = !span.is_match;
      }
      ApplyBehavior(BehaviorOf(step), &spans);
      for (const TextSpan& span : spans) {
        if (span.begin < span.end) divided.push_back(span);
      }
    }
    pieces->swap(divided);
  }
  return absl::OkStatus();
}

}  // namespace qft
