// UTF-8 and UTF-16 as the tokenizer needs them, over ICU.
#pragma once

#include <unicode/unistr.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

namespace qft {

// Longest text that is converted at once: ICU counts in int32.
inline constexpr size_t kMaxTextBytes = size_t{1} << 30;

// What the rules of a tokenizer's file may make of `size` bytes of text. Unicode's normal forms
// make up to eleven of one; without a limit, rules that feed each other make gigabytes of a word.
inline constexpr size_t kMaxReplacementBytes = 256;
inline constexpr size_t MostRewrittenBytes(size_t size) {
  return std::min(kMaxTextBytes, 64 * size + 4 * kMaxReplacementBytes);
}

// text.size() <= kMaxTextBytes. Each ill-formed sequence (maximal subpart) becomes one U+FFFD, as
// Python's errors="replace" and Rust's from_utf8_lossy have it.
icu::UnicodeString ToUtf16(std::string_view text);
void AppendUtf8(const char16_t* text, int32_t length, std::string* out);
std::string ToUtf8(const icu::UnicodeString& text);

bool IsUtf8(std::string_view text);
// `bytes` with each ill-formed sequence replaced by U+FFFD.
std::string ReplaceInvalidUtf8(std::string_view bytes);

// Of the first character of `text`, which is well-formed and not empty.
inline size_t CharacterLength(std::string_view text) {
  const auto lead = static_cast<uint8_t>(text[0]);
  return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}
int32_t FirstCharacter(std::string_view text);

// White_Space, and the word characters of UTS #18; a negative value is neither.
bool IsSpace(int32_t code_point);
bool IsWordCharacter(int32_t code_point);

// Bytes in, whole characters out: what may still become a character is held back.
class Utf8Stream {
 public:
  std::string Push(std::string_view bytes);
  // The rest, with an incomplete character replaced.
  std::string Finish();

 private:
  std::string held_;
};

}  // namespace qft
