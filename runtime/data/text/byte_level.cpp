#include "runtime/data/text/byte_level.h"

#include <unicode/utf8.h>

#include <array>
#include <cstdint>

namespace qft {
namespace {

constexpr int kAlphabetEnd = 324;  // 256 and the 68 bytes that have no printable character

constexpr bool IsPrintable(int byte) {
  return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) ||
         (byte >= 174 && byte <= 255);
}

// Byte of each character, -1 for none.
constexpr std::array<int16_t, kAlphabetEnd> MakeBytes() {
  std::array<int16_t, kAlphabetEnd> bytes{};
  for (auto& byte : bytes) byte = -1;
  int next = 256;
  for (int byte = 0; byte < 256; ++byte) {
    bytes[static_cast<size_t>(IsPrintable(byte) ? byte : next++)] = static_cast<int16_t>(byte);
  }
  return bytes;
}

constexpr std::array<int16_t, kAlphabetEnd> kBytes = MakeBytes();

}  // namespace

std::optional<std::string> BytesOfToken(std::string_view text) {
  std::string bytes;
  bytes.reserve(text.size());
  const auto* data = reinterpret_cast<const uint8_t*>(text.data());
  size_t i = 0;
  while (i < text.size()) {
    UChar32 c;
    U8_NEXT(data, i, text.size(), c);
    if (c < 0 || c >= kAlphabetEnd || kBytes[static_cast<size_t>(c)] < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(kBytes[static_cast<size_t>(c)]));
  }
  return bytes;
}

}  // namespace qft
