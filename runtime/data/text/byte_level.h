// The alphabet of byte-level BPE: each of the 256 bytes is written as one printable character.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace qft {

// The bytes that a token's text stands for; nullopt when a character is not of the alphabet.
std::optional<std::string> BytesOfToken(std::string_view text);

}  // namespace qft
