// The character that SentencePiece and what stems from it write for a space.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace qft {

inline constexpr std::string_view kSpaceMarker = "\xE2\x96\x81";  // U+2581

// How spaces are marked before byte-pair encoding.
struct Metaspace {
  enum class Prepend { kNever, kFirst, kAlways };
  Prepend prepend = Prepend::kAlways;  // a marker before a text, unless it begins with one
  bool divides = true;                 // each marker begins a pre-token
};

// `text`, not empty, with spaces marked and a marker before it as `options` ask. is_first: it
// begins the whole text.
std::string MarkSpaces(const Metaspace& options, std::string_view text, bool is_first);

// Whether `text` has a marker after another character.
bool HasInnerMarker(std::string_view text);

// The end of the part of `text` that begins at `begin`: the next marker after another character.
// Where no token has an inner marker, no merge crosses these ends.
size_t EndOfMarkedPart(std::string_view text, size_t begin);

// The size of ReplaceAll's result.
size_t ReplacedBytes(std::string_view text, std::string_view from, std::string_view to);
// `text` with every `from` (not empty) replaced.
std::string ReplaceAll(std::string_view text, std::string_view from, std::string_view to);

}  // namespace qft
