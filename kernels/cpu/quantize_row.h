// Quantising one row held in cache, to nearest; the rule of Engine::QuantizeRows.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/simd.h"
#include "kernels/ops.h"

namespace qft::QFT_ISA {

// Bit pattern of the largest magnitude of the row; above 0x7f7fffff when a value is not finite.
// Integers, so that a NaN is never lost and the order does not matter.
QFT_INLINE int32_t RowAbsMaxBits(const float* x, int64_t cols) {
  const Int16 magnitude = BroadcastInt(0x7fffffff);
  Int16 m0 = {}, m1 = {}, m2 = {}, m3 = {};
  int64_t c = 0;
  for (; c + 4 * kLanes <= cols; c += 4 * kLanes) {
    m0 = MaxInt(Bits(Load(x + c)) & magnitude, m0);
    m1 = MaxInt(Bits(Load(x + c + kLanes)) & magnitude, m1);
    m2 = MaxInt(Bits(Load(x + c + 2 * kLanes)) & magnitude, m2);
    m3 = MaxInt(Bits(Load(x + c + 3 * kLanes)) & magnitude, m3);
  }
  for (; c + kLanes <= cols; c += kLanes) m0 = MaxInt(Bits(Load(x + c)) & magnitude, m0);
  if (c < cols) m1 = MaxInt(Bits(LoadPartial(x + c, cols - c)) & magnitude, m1);
  return MaxLaneInt(MaxInt(MaxInt(m0, m1), MaxInt(m2, m3)));
}

// scale = absmax / 127 and codes = round(x * (127 / absmax)), ties to even. A row that is zero or
// too small for 127 / absmax to be finite gets scale 0 and codes 0; one that holds a NaN or an
// infinity gets a NaN scale and codes 0.
// `bits`: the pattern of absmax; codes of values above it are undefined.
QFT_INLINE void QuantizeRowWithin(const float* x, int64_t cols, int32_t bits, int8_t* codes,
                                  float* scale) {
  float absmax;
  std::memcpy(&absmax, &bits, sizeof(absmax));
  const bool finite = bits < 0x7f800000;
  const float inverse = 127.0f / absmax;
  if (!finite || !(inverse < __builtin_inff())) {
    *scale = finite ? 0.0f : __builtin_nanf("");
    std::memset(codes, 0, static_cast<size_t>(cols));
    return;
  }
  *scale = absmax / 127.0f;
  const Float16 factor = Broadcast(inverse);
  int64_t c = 0;
  for (; c + kLanes <= cols; c += kLanes) {
    StoreCodes(codes + c, RoundToInt(Load(x + c) * factor));
  }
  if (c < cols) {
    StoreCodesPartial(codes + c, RoundToInt(LoadPartial(x + c, cols - c) * factor), cols - c);
  }
}

QFT_INLINE void QuantizeRowNearest(const float* x, int64_t cols, int8_t* codes, float* scale) {
  QuantizeRowWithin(x, cols, RowAbsMaxBits(x, cols), codes, scale);
}

// Bit pattern of the largest magnitude of the row without its critical columns.
QFT_INLINE int32_t OrdinaryAbsMaxBits(const float* x, int64_t cols,
                                      const CriticalFeatures& critical) {
  int32_t largest = 0;
  int64_t begin = 0;
  for (int32_t i = 0; i <= critical.count; ++i) {
    const int64_t end = i < critical.count ? critical.columns[i] : cols;
    const int32_t bits = RowAbsMaxBits(x + begin, end - begin);
    largest = bits > largest ? bits : largest;
    begin = end + 1;
  }
  return largest;
}

// As QuantizeRowNearest, with the critical values of row `r` apart.
QFT_INLINE void QuantizeRowCritical(const float* x, int64_t cols, int64_t r,
                                    const CriticalFeatures& critical, int8_t* codes, float* scale) {
  QuantizeRowWithin(x, cols, OrdinaryAbsMaxBits(x, cols, critical), codes, scale);
  float* values = critical.values + r * critical.count;
  for (int32_t i = 0; i < critical.count; ++i) {
    values[i] = x[critical.columns[i]];
    codes[critical.columns[i]] = 0;
  }
}

// Writes row `r` of `out`, kI8 or kF32. `x` may be that row itself when out is kF32.
QFT_INLINE void StoreOperandRow(const float* x, int64_t r, const Operand& out) {
  const int64_t offset = r * out.cols;
  if (out.dtype == DType::kI8) {
    int8_t* codes = static_cast<int8_t*>(out.data) + offset;
    if (out.critical.count == 0) {
      QuantizeRowNearest(x, out.cols, codes, out.scales + r);
    } else {
      QuantizeRowCritical(x, out.cols, r, out.critical, codes, out.scales + r);
    }
  } else {
    float* row = static_cast<float*>(out.data) + offset;
    if (row != x) std::memcpy(row, x, static_cast<size_t>(out.cols) * sizeof(float));
  }
}

}  // namespace qft::QFT_ISA
