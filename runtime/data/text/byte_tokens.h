// Tokens "<0x00>" to "<0xFF>", in which a vocabulary of characters spells what it lacks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace qft {

// The byte of a token that is written exactly so; nullopt for any other text.
std::optional<uint8_t> ByteOfToken(std::string_view text);

}  // namespace qft
