#include "runtime/data/text/charsmap.h"

#include <cstring>

#include "runtime/data/text/unicode.h"

namespace qft {
namespace {

// A unit of a Darts-clone double array.
uint32_t OffsetOf(uint32_t unit) {
  return (unit >> 10) << ((unit & (1u << 9)) >> 6);
}
uint32_t LabelOf(uint32_t unit) {
  return unit & ((1u << 31) | 0xFFu);
}
bool HasLeaf(uint32_t unit) {
  return (unit & (1u << 8)) != 0;
}
uint32_t ValueOf(uint32_t unit) {
  return unit & ((1u << 31) - 1);
}

bool IsTrail(char byte) {
  return (static_cast<uint8_t>(byte) & 0xC0) == 0x80;
}

constexpr int kMaxMatches = 32;  // SentencePiece looks at no more, the shortest first

}  // namespace

StatusOr<Charsmap> Charsmap::Parse(std::string_view bytes) {
  Charsmap result;
  if (bytes.empty()) return result;
  uint32_t size = 0;
  if (bytes.size() < sizeof(size)) return BadData("precompiled_charsmap is cut off");
  std::memcpy(&size, bytes.data(), sizeof(size));
  bytes.remove_prefix(sizeof(size));
  if (size == 0 || size % sizeof(uint32_t) != 0 || size >= bytes.size()) {
    return BadData("precompiled_charsmap has ", bytes.size(), " bytes, its trie ", size);
  }
  result.units_.resize(size / sizeof(uint32_t));
  std::memcpy(result.units_.data(), bytes.data(), size);
  result.texts_ = bytes.substr(size);
  if (result.texts_.back() != '\0' || !IsUtf8(result.texts_)) {
    return BadData("precompiled_charsmap gives texts that are not UTF-8");
  }
  for (size_t begin = 0; begin < result.texts_.size();) {
    const size_t end = result.texts_.find('\0', begin);
    if (end - begin > kMaxReplacementBytes) {
      return BadData("precompiled_charsmap gives a text of ", end - begin, " bytes");
    }
    begin = end + 1;
  }
  return result;
}

size_t Charsmap::Match(std::string_view text, std::string_view* to) const {
  if (units_.empty()) return 0;
  size_t length = 0;
  int matches = 0;
  uint32_t place = OffsetOf(units_[0]);
  for (size_t i = 0; i < text.size() && matches < kMaxMatches; ++i) {
    const auto byte = static_cast<uint8_t>(text[i]);
    place ^= byte;
    if (place >= units_.size() || LabelOf(units_[place]) != byte) break;
    const uint32_t unit = units_[place];
    place ^= OffsetOf(unit);
    if (!HasLeaf(unit)) continue;
    if (place >= units_.size() || ValueOf(units_[place]) >= texts_.size()) break;
    // Only a damaged map has rules from or to broken characters.
    const char* target = texts_.data() + ValueOf(units_[place]);
    if (IsTrail(*target) || (i + 1 < text.size() && IsTrail(text[i + 1]))) continue;
    *to = target;
    length = i + 1;
    ++matches;
  }
  return length;
}

}  // namespace qft
