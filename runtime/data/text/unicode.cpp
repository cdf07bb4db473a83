#include "runtime/data/text/unicode.h"

#include <unicode/uchar.h>
#include <unicode/utf16.h>
#include <unicode/utf8.h>

namespace qft {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// Offset of a character at the end of `text` that lacks only further bytes; text.size() if none.
size_t IncompleteTail(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  const size_t size = text.size();
  for (size_t start = size > 3 ? size - 3 : 0; start < size; ++start) {
    if (!U8_IS_LEAD(bytes[start])) continue;
    size_t next = start;
    UChar32 c;
    U8_NEXT(bytes, next, size, c);
    const size_t wanted = 1 + static_cast<size_t>(U8_COUNT_TRAIL_BYTES(bytes[start]));
    if (c < 0 && next == size && wanted > size - start) return start;
  }
  return size;
}

}  // namespace

icu::UnicodeString ToUtf16(std::string_view text) {
  return icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<int32_t>(text.size())));
}

void AppendUtf8(const char16_t* text, int32_t length, std::string* out) {
  int32_t i = 0;
  while (i < length) {
    UChar32 c;
    U16_NEXT_OR_FFFD(text, i, length, c);
    uint8_t bytes[U8_MAX_LENGTH];
    int32_t count = 0;
    U8_APPEND_UNSAFE(bytes, count, c);
    out->append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(count));
  }
}

std::string ToUtf8(const icu::UnicodeString& text) {
  std::string out;
  AppendUtf8(text.getBuffer(), text.length(), &out);
  return out;
}

bool IsUtf8(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  size_t i = 0;
  while (i < text.size()) {
    UChar32 c;
    U8_NEXT(bytes, i, text.size(), c);
    if (c < 0) return false;
  }
  return true;
}

std::string ReplaceInvalidUtf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  size_t i = 0;
  while (i < text.size()) {
    const size_t start = i;
    UChar32 c;
    U8_NEXT(bytes, i, text.size(), c);
    out.append(c < 0 ? kReplacement : text.substr(start, i - start));
  }
  return out;
}

int32_t FirstCharacter(std::string_view text) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  size_t i = 0;
  UChar32 c;
  U8_NEXT_UNSAFE(bytes, i, c);
  return c;
}

bool IsSpace(int32_t code_point) {
  return u_isUWhiteSpace(code_point);
}

bool IsWordCharacter(int32_t code_point) {
  constexpr uint32_t kCategories = U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK;
  return (U_GET_GC_MASK(code_point) & kCategories) != 0 || u_isUAlphabetic(code_point) ||
         u_hasBinaryProperty(code_point, UCHAR_JOIN_CONTROL);
}

std::string Utf8Stream::Push(std::string_view bytes) {
  held_.append(bytes);
  const size_t whole = IncompleteTail(held_);
  std::string out = ReplaceInvalidUtf8(std::string_view(held_).substr(0, whole));
  held_.erase(0, whole);
  return out;
}

std::string Utf8Stream::Finish() {
  std::string out = ReplaceInvalidUtf8(held_);
  held_.clear();
  return out;
}

}  // namespace qft
