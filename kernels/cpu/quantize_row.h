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

QFT_INLINE void QuantizeTwoTerms(const float* x, int64_t cols, Float16 factor, int8_t* codes,
                                 int8_t* second) {
  const Float16 top = Broadcast(127.0f);
  for (int64_t c = 0; c < cols; c += kLanes) {
    const int64_t left = cols - c;
    const Float16 scaled = (left >= kLanes ? Load(x + c) : LoadPartial(x + c, left)) * factor;
    const Int16 code = RoundToInt(Max(Min(scaled, top), -top));
    const Float16 rest = (scaled - ToFloat(code)) * Broadcast(256.0f);
    const Int16 more = RoundToInt(Max(Min(rest, top), -top));
    if (left >= kLanes) {
      StoreCodes(codes + c, code);
      StoreCodes(second + c, more);
    } else {
      StoreCodesPartial(codes + c, code, left);
      StoreCodesPartial(second + c, more, left);
    }
  }
}

// scale = absmax / 127 and codes = round(x * (127 / absmax)), ties to even. A row that is zero or
// too small for 127 / absmax to be finite gets scale 0 and codes 0; one that holds a NaN or an
// infinity gets a NaN scale and codes 0.
// `bits`: the pattern of absmax; codes of values above it are undefined. second: nullptr, or where
// what is left goes (see Operand).
QFT_INLINE void QuantizeRowWithin(const float* x, int64_t cols, int32_t bits, int8_t* codes,
                                  int8_t* second, float* scale) {
  float absmax;
  std::memcpy(&absmax, &bits, sizeof(absmax));
  const bool finite = bits < 0x7f800000;
  const float inverse = 127.0f / absmax;
  if (!finite || !(inverse < __builtin_inff())) {
    *scale = finite ? 0.0f : __builtin_nanf("");
    std::memset(codes, 0, static_cast<size_t>(cols));
    if (second != nullptr) std::memset(second, 0, static_cast<size_t>(cols));
    return;
  }
  *scale = absmax / 127.0f;
  const Float16 factor = Broadcast(inverse);
  if (second != nullptr) return QuantizeTwoTerms(x, cols, factor, codes, second);
  int64_t c = 0;
  for (; c + kLanes <= cols; c += kLanes) {
    StoreCodes(codes + c, RoundToInt(Load(x + c) * factor));
  }
  if (c < cols) {
    StoreCodesPartial(codes + c, RoundToInt(LoadPartial(x + c, cols - c) * factor), cols - c);
  }
}

// The scale of a block whose largest magnitude has these bits, and what values are multiplied with:
// powers of two, so that both products are exact.
struct KeptScale {
  float scale;
  float inverse;  // 0: all codes are 0
};

QFT_INLINE KeptScale MakeKeptScale(int32_t largest) {
  if (largest >= 0x7f800000) return {__builtin_nanf(""), 0.0f};
  // 2^exponent is above the largest, or it and what rounds to a code of 128 are in the next octave.
  const int32_t exponent = (largest + 0x10000) >> 23;
  if (exponent < 7) return {0.0f, 0.0f};
  const int32_t bits[2] = {(exponent - 6) << 23, (260 - exponent) << 23};
  KeptScale result;
  std::memcpy(&result.scale, &bits[0], sizeof(float));
  std::memcpy(&result.inverse, &bits[1], sizeof(float));
  return result;
}

QFT_INLINE void QuantizeKeptBlock(const float* x, int64_t cols, int8_t* codes, float* scale) {
  const KeptScale kept = MakeKeptScale(RowAbsMaxBits(x, cols));
  *scale = kept.scale;
  if (kept.inverse == 0) {
    std::memset(codes, 0, static_cast<size_t>(cols));
    return;
  }
  const Float16 factor = Broadcast(kept.inverse);
  int64_t c = 0;
  for (; c + kLanes <= cols; c += kLanes) {
    StoreCodes(codes + c, RoundToInt(Load(x + c) * factor));
  }
  if (c < cols) {
    StoreCodesPartial(codes + c, RoundToInt(LoadPartial(x + c, cols - c) * factor), cols - c);
  }
}

// Writes row `r` of `out`, kI8 or kF32; nothing without data.
QFT_INLINE void StoreKeptRow(const float* x, int64_t r, const KeptMatrix& out) {
  if (out.data == nullptr) return;
  if (out.dtype == DType::kF32) {
    std::memcpy(static_cast<float*>(out.data) + r * out.cols, x,
                static_cast<size_t>(out.cols) * sizeof(float));
    return;
  }
  int8_t* codes = static_cast<int8_t*>(out.data) + r * out.cols;
  float* scale = out.scales + r * KeptBlocks(out.cols);
  for (int64_t c = 0; c < out.cols; c += kKeptBlock) {
    const int64_t width = out.cols - c < kKeptBlock ? out.cols - c : kKeptBlock;
    QuantizeKeptBlock(x + c, width, codes + c, scale++);
  }
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

// Codes of row `r`, with its critical values apart.
QFT_INLINE void QuantizeOperandRow(const float* x, int64_t r, const Operand& out) {
  const CriticalFeatures& critical = out.critical;
  int8_t* codes = static_cast<int8_t*>(out.data) + r * out.cols;
  int8_t* second = out.second == nullptr ? nullptr : out.second + r * out.cols;
  QuantizeRowWithin(x, out.cols, OrdinaryAbsMaxBits(x, out.cols, critical), codes, second,
                    out.scales + r);
  float* values = critical.values + r * critical.count;
  for (int32_t i = 0; i < critical.count; ++i) {
    const int64_t c = critical.columns[i];
    values[i] = x[c];
    codes[c] = 0;
    if (second != nullptr) second[c] = 0;
  }
}

// Writes row `r` of `out`, kI8 or kF32. `x` may be that row itself when out is kF32.
QFT_INLINE void StoreOperandRow(const float* x, int64_t r, const Operand& out) {
  const int64_t offset = r * out.cols;
  if (out.dtype == DType::kI8) {
    QuantizeOperandRow(x, r, out);
  } else {
    float* row = static_cast<float*>(out.data) + offset;
    if (row != x) std::memcpy(row, x, static_cast<size_t>(out.cols) * sizeof(float));
  }
}

}  // namespace qft::QFT_ISA
