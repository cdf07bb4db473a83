// Text between added tokens to ids.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "runtime/data/text/tokenizer_spec.h"

namespace qft {

class SegmentEncoder {
 public:
  virtual ~SegmentEncoder() = default;

  // Appends the ids of `text`: well-formed UTF-8, not empty. is_first: it begins the whole text.
  // special: also special tokens that are looked for after normalisation.
  virtual Status Encode(std::string_view text, bool is_first, bool special,
                        std::vector<int32_t>* ids) const = 0;
};

StatusOr<std::unique_ptr<const SegmentEncoder>> MakeSegmentEncoder(const TokenizerSpec& spec);

}  // namespace qft
