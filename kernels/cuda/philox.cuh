// Philox (base/philox.h) with all that the blocks of a row share computed once: the keys of the
// rounds on the host, the first two rounds but for a product each once for all rows.
#pragma once

#include <cstdint>

#include "base/philox.h"
#include "kernels/cuda/device.cuh"

namespace qft::cuda {

// A kernel's parameter, so that rounds take keys from constant memory.
struct RoundKeys {
  uint32_t k0[kPhiloxRounds];
  uint32_t k1[kPhiloxRounds];
};

inline RoundKeys MakeRoundKeys(PhiloxKey key) {
  RoundKeys keys;
  for (int round = 0; round < kPhiloxRounds; ++round) {
    keys.k0[round] = key.k0 + static_cast<uint32_t>(round) * kPhiloxWeyl0;
    keys.k1[round] = key.k1 + static_cast<uint32_t>(round) * kPhiloxWeyl1;
  }
  return keys;
}

// What blocks with the same high word have in common.
struct PhiloxRow {
  uint32_t first;   // of c2 behind round 1, without its product
  uint32_t second;  // of c0 behind round 2, without its product
  uint32_t third;   // of c2 behind round 2, without c3
  uint32_t fourth;  // c3 behind round 2
};

__device__ inline PhiloxRow MakePhiloxRow(const RoundKeys& keys, uint32_t block_high,
                                          uint64_t step) {
  const uint64_t p1 = static_cast<uint64_t>(kPhiloxMul1) * static_cast<uint32_t>(step);
  const uint32_t c0 = static_cast<uint32_t>(p1 >> 32) ^ block_high ^ keys.k0[0];
  const uint64_t p0 = static_cast<uint64_t>(kPhiloxMul0) * c0;
  return {static_cast<uint32_t>(step >> 32) ^ keys.k1[0], static_cast<uint32_t>(p1) ^ keys.k0[1],
          static_cast<uint32_t>(p0 >> 32) ^ keys.k1[1], static_cast<uint32_t>(p0)};
}

// Philox(key, block, step) of base/philox.h, where `block` is the low word.
__device__ inline PhiloxBlock PhiloxOf(const RoundKeys& keys, const PhiloxRow& row,
                                       uint32_t block) {
  const uint64_t first = static_cast<uint64_t>(kPhiloxMul0) * block;
  const uint64_t second =
      static_cast<uint64_t>(kPhiloxMul1) * (static_cast<uint32_t>(first >> 32) ^ row.first);
  uint32_t c0 = static_cast<uint32_t>(second >> 32) ^ row.second;
  uint32_t c1 = static_cast<uint32_t>(second);
  uint32_t c2 = static_cast<uint32_t>(first) ^ row.third;
  uint32_t c3 = row.fourth;
#pragma unroll
  for (int round = 2; round < kPhiloxRounds; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(kPhiloxMul0) * c0;
    const uint64_t p1 = static_cast<uint64_t>(kPhiloxMul1) * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ keys.k0[round];
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ keys.k1[round];
    c3 = static_cast<uint32_t>(p0);
  }
  return {{c0, c1, c2, c3}};
}

// The blocks of 16-bit numbers of one row.
struct RandomRow {
  uint64_t first;  // block
  PhiloxRow shared;
};

// Those of the rows of a tensor. What most rows share is made once.
class RandomRows {
 public:
  __device__ RandomRows(const RoundKeys& keys, int64_t cols, const StepState* step)
      : blocks_(CeilDivide(cols, 8)),
        step_(step != nullptr ? step->step : 0),
        shared_(MakePhiloxRow(keys, 0, step_)) {}

  __device__ RandomRow Row(const RoundKeys& keys, int64_t row) const {
    const auto first = static_cast<uint64_t>(row * blocks_);
    const auto high = static_cast<uint32_t>(first >> 32);
    return {first, high == 0 ? shared_ : MakePhiloxRow(keys, high, step_)};
  }
  // Of columns c .. c + 8 of the row, c a multiple of 8.
  __device__ PhiloxBlock At(const RoundKeys& keys, const RandomRow& row, int64_t c) const {
    const uint64_t block = row.first + static_cast<uint64_t>(c / 8);
    const auto high = static_cast<uint32_t>(block >> 32);
    if (high == static_cast<uint32_t>(row.first >> 32)) {
      return PhiloxOf(keys, row.shared, static_cast<uint32_t>(block));
    }
    return PhiloxOf(keys, MakePhiloxRow(keys, high, step_), static_cast<uint32_t>(block));
  }

 private:
  int64_t blocks_;  // of a row
  uint64_t step_;
  PhiloxRow shared_;
};

}  // namespace qft::cuda
