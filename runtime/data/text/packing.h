// The order of an epoch and the division of its documents into batches.
#pragma once

#include <cstdint>
#include <vector>

namespace qft {

// 0 .. count - 1 in random order, a function of (seed, epoch) alone: Fisher-Yates with Philox.
std::vector<int64_t> ShuffledOrder(int64_t count, uint64_t seed, uint64_t epoch);

// Puts the documents, in the given order, each into the first batch that still has room for it (a
// new one if none has). Batches and what is in them keep the order in which they were filled.
// 0 < lengths[i] <= capacity. O(n log n).
std::vector<std::vector<int64_t>> PackFirstFit(const std::vector<int64_t>& order,
                                               const std::vector<int32_t>& lengths,
                                               int64_t capacity);

}  // namespace qft
