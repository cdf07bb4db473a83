// The choice of the next token.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace qft {

struct SamplerOptions {
  double temperature = 0;  // >= 0; 0: the most likely token
  int64_t top_k = 0;       // >= 0; only the k most likely; 0: all
  double top_p = 0;        // 0 .. 1; only the most likely that together have this share; 0: all
  uint64_t seed = 0;
};

// kOutOfRange
Status CheckSamplerOptions(const SamplerOptions& options);

// The token of position `index`, a function of its arguments alone. Of equal logits the smaller id
// comes first. logits [count], count > 0; those of -inf are never chosen. kNonFinite: a NaN or
// +inf, or nothing but -inf.
StatusOr<int32_t> SampleToken(const float* logits, int64_t count, const SamplerOptions& options,
                              uint64_t index);

}  // namespace qft
