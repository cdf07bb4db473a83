#include "kernels/cuda/sizes.h"

#include <algorithm>

namespace qft::cuda {
namespace {

constexpr int64_t kPartAlignment = 256;  // of what lies in scratch

int64_t RoundedUp(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace

PreparedLayout LayoutOfPrepared(int64_t length, int64_t cols, int32_t critical_count) {
  PreparedLayout layout;
  layout.transposed_bytes = RoundedUp(length * cols, kPartAlignment);
  layout.stride = RoundedUp(length, kFactorChunk);
  layout.features = static_cast<int>(RoundedUp(critical_count, kFactorFeatures));
  return layout;
}

// Transposed codes with the factors of critical features beside them (matmul.cu), the weight
// gradient of a norm by blocks of 32 tokens, values on their way from the host (encode_weight.cu),
// rows too wide for shared memory (lion_kernels.cuh); in floating arithmetic decoded weights.
size_t ScratchBytes(const ScratchShape& shape, int multiprocessors) {
  constexpr int64_t kFactorBytes = 64 * 2 * 2;  // features, bf16 terms
  if (!shape.integer) return static_cast<size_t>(shape.largest_weight) * sizeof(float);
  const int64_t codes = std::max(shape.largest_weight, shape.tokens * shape.widest);
  const int64_t factors = kFactorBytes * (std::max(shape.tokens, shape.widest) + kPartAlignment);
  const int64_t partials = (shape.tokens / 32 + 1) * shape.widest * 4;
  const int64_t staging = 4 * ((int64_t{1} << 22) + shape.widest);
  // New steps and codes of a row, with room for flags and sums of all rows.
  const bool in_shared = 5 * shape.widest <= static_cast<int64_t>(kMostShared);
  const int64_t wide = in_shared ? 0 : int64_t{32} * multiprocessors * shape.widest;
  return static_cast<size_t>(std::max({codes + kPartAlignment + factors, partials, staging, wide}));
}

size_t AttentionBackwardScratch(const AttentionShape& shape) {
  return static_cast<size_t>(shape.heads) * static_cast<size_t>(shape.tokens) * sizeof(float);
}

}  // namespace qft::cuda
