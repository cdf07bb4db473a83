// The precompiled character map of a SentencePiece normaliser: rules from one string to another.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace qft {

class Charsmap {
 public:
  Charsmap() = default;  // no rules
  // bytes: u32 size of a double array, the array, the texts that rules give, each ended by a zero
  // byte; little-endian. kBadData.
  static StatusOr<Charsmap> Parse(std::string_view bytes);

  // The longest rule that `text` begins with: how many bytes it takes and, in *to, what they
  // become. 0: none.
  size_t Match(std::string_view text, std::string_view* to) const;

 private:
  std::vector<uint32_t> units_;
  std::string texts_;
};

}  // namespace qft
