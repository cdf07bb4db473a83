#include "runtime/data/text/bounded_regex.h"

#include <ctime>
#include <string_view>

#include "absl/strings/ascii.h"
#include "runtime/data/text/unicode.h"

namespace qft {
namespace {

// The patterns in use need about 0.05 us a character.
constexpr double kBudgetSeconds = 1.0;
constexpr double kBudgetSecondsPerCharacter = 2e-6;
constexpr uint32_t kStartsBetweenChecks = 256;

// Processor time: a process that is stopped or starved meanwhile must not fail.
double ThreadSeconds() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

Status CheckEscape(char c) {
  constexpr std::string_view kAlike = "sSdDpPrntfxuAz";
  if (!absl::ascii_isalnum(static_cast<unsigned char>(c)) || kAlike.find(c) != kAlike.npos) {
    return absl::OkStatus();
  }
  return Unsupported("regular expression with \\", std::string(1, c));
}

// `rest` follows "(?".
Status CheckGroup(std::string_view rest) {
  for (const char* known : {"i:", ":", "=", "!", ">", "<=", "<!"}) {
    if (rest.substr(0, std::string_view(known).size()) == known) return absl::OkStatus();
  }
  return Unsupported("regular expression with (?", std::string(rest.substr(0, 2)));
}

// The pattern in ICU's words. Errors: see Compile. ICU repeats a set in constant space, but a bare
// \s by one saved state a character: long runs of spaces would overflow its stack.
StatusOr<std::string> Translate(std::string_view pattern) {
  std::string result;
  int depth = 0;  // of nested [...]
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '\\' && i + 1 < pattern.size()) {
      const char escaped = pattern[++i];
      QFT_RETURN_IF_ERROR(CheckEscape(escaped));
      const bool is_set = depth == 0 && std::string_view("sSdD").find(escaped) != std::string::npos;
      result.append(is_set ? "[\\" : "\\").push_back(escaped);
      if (is_set) result.push_back(']');
      continue;
    }
    if (c == '[') ++depth;
    if (c == ']') --depth;
    if (c == '(' && depth == 0 && pattern.substr(i, 2) == "(?") {
      QFT_RETURN_IF_ERROR(CheckGroup(pattern.substr(i + 2)));
    }
    result.push_back(c);
  }
  return result;
}

Status RegexError(UErrorCode code) {
  if (code == U_MEMORY_ALLOCATION_ERROR) {
    return MakeError(ErrorCode::kOutOfMemory, "regular expression: out of memory");
  }
  if (code == U_REGEX_STOPPED_BY_CALLER) {
    return Unsupported("the pre-tokenizer's regular expression takes too long on this text");
  }
  return Unsupported("the pre-tokenizer's regular expression: ", u_errorName(code));
}

}  // namespace

StatusOr<BoundedRegex> BoundedRegex::Compile(const std::string& pattern, bool literal) {
  std::string translated = pattern;
  if (!literal) {
    QFT_ASSIGN_OR_RETURN(translated, Translate(pattern));
  }
  // Oniguruma's ^ and $ match at every line, its lines end at \n only.
  const uint32_t flags = literal ? UREGEX_LITERAL : UREGEX_MULTILINE | UREGEX_UNIX_LINES;
  UErrorCode code = U_ZERO_ERROR;
  UParseError where{};
  std::unique_ptr<icu::RegexPattern> compiled(
      icu::RegexPattern::compile(ToUtf16(translated), flags, where, code));
  if (U_FAILURE(code)) {
    return Unsupported("regular expression \"", pattern.substr(0, 200), "\": ", u_errorName(code),
                       " at character ", where.offset);
  }
  return BoundedRegex(std::move(compiled));
}

StatusOr<std::unique_ptr<RegexRun>> RegexRun::Start(const BoundedRegex& regex,
                                                    const icu::UnicodeString& text) {
  std::unique_ptr<RegexRun> run(new RegexRun);
  UErrorCode code = U_ZERO_ERROR;
  run->matcher_.reset(regex.pattern().matcher(text, code));
  run->budget_seconds_ = kBudgetSeconds + kBudgetSecondsPerCharacter * text.length();
  if (U_SUCCESS(code)) run->matcher_->setMatchCallback(&OnMatchSteps, run.get(), code);
  if (U_SUCCESS(code)) run->matcher_->setFindProgressCallback(&OnFindProgress, run.get(), code);
  if (U_FAILURE(code)) return RegexError(code);
  return run;
}

bool RegexRun::WithinBudget() {
  const double now = ThreadSeconds();
  if (deadline_ == 0) deadline_ = now + budget_seconds_;
  return now < deadline_;
}

UBool RegexRun::OnMatchSteps(const void* self, int32_t) {
  return const_cast<RegexRun*>(static_cast<const RegexRun*>(self))->WithinBudget();
}

UBool RegexRun::OnFindProgress(const void* self, int64_t) {
  RegexRun* run = const_cast<RegexRun*>(static_cast<const RegexRun*>(self));
  return ++run->starts_ % kStartsBetweenChecks != 0 || run->WithinBudget();
}

Status RegexRun::Divide(int32_t begin, int32_t end, std::vector<TextSpan>* spans) {
  UErrorCode code = U_ZERO_ERROR;
  matcher_->region(begin, end, code);
  int32_t position = begin;
  while (U_SUCCESS(code) && matcher_->find(code)) {
    const int32_t match_begin = matcher_->start(code);
    const int32_t match_end = matcher_->end(code);
    if (match_begin > position) spans->push_back({position, match_begin, false});
    spans->push_back({match_begin, match_end, true});
    position = match_end;
  }
  if (U_FAILURE(code)) return RegexError(code);
  if (position < end) spans->push_back({position, end, false});
  return absl::OkStatus();
}

}  // namespace qft
