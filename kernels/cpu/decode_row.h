// Turning codes back into values.
#pragma once

#include "kernels/cpu/simd.h"

namespace qft::QFT_ISA {

// values[c] = grid * codes[c]
QFT_INLINE void DecodeRow(const int8_t* codes, float grid, int64_t cols, float* values) {
  const Float16 scale = Broadcast(grid);
  int64_t c = 0;
  for (; c + kLanes <= cols; c += kLanes) Store(values + c, scale * ToFloat(LoadCodes(codes + c)));
  for (; c < cols; ++c) values[c] = grid * static_cast<float>(codes[c]);
}

// values[c] += grid * codes[c]
QFT_INLINE void AddDecodedRow(const int8_t* codes, float grid, int64_t cols, float* values) {
  const Float16 scale = Broadcast(grid);
  int64_t c = 0;
  for (; c + kLanes <= cols; c += kLanes) {
    Store(values + c, Load(values + c) + scale * ToFloat(LoadCodes(codes + c)));
  }
  for (; c < cols; ++c) values[c] += grid * static_cast<float>(codes[c]);
}

}  // namespace qft::QFT_ISA
