// Quantising a row of a gradient, perhaps multiplied by a folded scale, to nearest or
// stochastically.
#pragma once

#include "kernels/cpu/quantize_row.h"
#include "kernels/cpu/random.h"
#include "kernels/ops.h"

namespace qft::QFT_ISA {

// Columns that share a call of RandomWords when a number has 16 bits.
inline constexpr int64_t kRandomColumns = 64;

// How a row whose largest magnitude is known becomes codes: code = round(x * inverse), where
// inverse = top / absmax and scale = absmax / top, each one fp32 division. `zero`: all codes are 0,
// because the row is zero, or too small for `inverse` to be finite (scale 0), or not finite (scale
// NaN).
struct RowScale {
  float scale;
  float inverse;
  bool zero;
};

QFT_INLINE RowScale MakeRowScale(int32_t absmax_bits, float top) {
  float absmax;
  std::memcpy(&absmax, &absmax_bits, sizeof(absmax));
  const float inverse = top / absmax;
  if (absmax_bits >= 0x7f800000) return {__builtin_nanf(""), 0.0f, true};
  if (!(inverse <= __FLT_MAX__)) return {0.0f, 0.0f, true};
  return {absmax / top, inverse, false};
}

QFT_INLINE Float16 LoadUpTo(const float* p, int64_t count) {
  return count >= kLanes ? Load(p) : LoadPartial(p, count);
}
QFT_INLINE void StoreCodesUpTo(int8_t* p, Int16 codes, int64_t count) {
  count >= kLanes ? StoreCodes(p, codes) : StoreCodesPartial(p, codes, count);
}

QFT_INLINE Float16 LoadFolded(const float* x, const float* fold, int64_t c, int64_t count) {
  const Float16 v = LoadUpTo(x + c, count);
  return fold == nullptr ? v : v * LoadUpTo(fold + c, count);
}

QFT_INLINE int32_t FoldedAbsMaxBits(const float* x, const float* fold, int64_t cols) {
  if (fold == nullptr) return RowAbsMaxBits(x, cols);
  Int16 largest = {};
  for (int64_t c = 0; c < cols; c += kLanes) {
    largest = MaxInt(Bits(Abs(LoadFolded(x, fold, c, cols - c))), largest);
  }
  return MaxLaneInt(largest);
}

QFT_INLINE int64_t RandomBlocksPerRow(int64_t cols) {
  return (cols + 7) / 8;
}

// codes[c] = round(x[c] * fold[c] / scale), scale = absmax / 127; fold nullptr: ones. `row` is the
// row of the random index.
QFT_INLINE void QuantizeRowFolded(const float* x, const float* fold, int64_t cols,
                                  Rounding rounding, const RandomKeys& keys, int64_t row,
                                  int8_t* codes, float* scale) {
  const RowScale grid = MakeRowScale(FoldedAbsMaxBits(x, fold, cols), 127.0f);
  *scale = grid.scale;
  if (grid.zero) {
    std::memset(codes, 0, static_cast<size_t>(cols));
    return;
  }
  const Float16 inverse = Broadcast(grid.inverse);
  if (rounding == Rounding::kNearest) {
    for (int64_t c = 0; c < cols; c += kLanes) {
      const Float16 v = LoadFolded(x, fold, c, cols - c) * inverse;
      StoreCodesUpTo(codes + c, RoundToInt(v), cols - c);
    }
    return;
  }
  const uint64_t first_block = static_cast<uint64_t>(row * RandomBlocksPerRow(cols));
  for (int64_t c = 0; c < cols; c += kRandomColumns) {
    uint32_t words[kRandomWords];
    RandomWords(keys, first_block + static_cast<uint64_t>(c / 8), words);
    for (int64_t i = c; i < cols && i < c + kRandomColumns; i += kLanes) {
      const Float16 v = LoadFolded(x, fold, i, cols - i) * inverse;
      const Int16 random = LoadHalves(words, static_cast<int>(i - c));
      StoreCodesUpTo(codes + i, RoundStochastic16(v, random), cols - i);
    }
  }
}

}  // namespace qft::QFT_ISA
