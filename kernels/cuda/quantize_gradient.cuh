// Output gradients to codes: what the ops for each operand and the one for both share.
#pragma once

#include <type_traits>

#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/row.cuh"

namespace qft::cuda {

struct GradientRandom {
  RoundKeys keys;
  int64_t row_offset;
  const StepState* step;  // nullptr: step 0
};

// dy [T, N] -> out [N, T] codes, its scales from largest [N], the bits of each column's largest
// magnitude of dy * fold.
void LaunchQuantizeTransposed(const Matrix& dy, const float* fold, const int32_t* largest,
                              Rounding rounding, const GradientRandom& random, const Operand& out,
                              cudaStream_t stream);

// v = row[c .. c + 8) * fold, of `cols`; zeros behind the end. fold nullptr: ones.
template <bool kWhole>
__device__ void Fold8(const float* fold, int64_t c, int64_t cols, float (&v)[kVector]) {
  if (fold == nullptr) return;
  float factor[kVector];
  LoadVector8<kWhole>(fold, c, cols, factor);
#pragma unroll
  for (int i = 0; i < kVector; ++i) v[i] = v[i] * factor[i];
}

// sum + the squares of eight codes.
__device__ inline int SquareSum8(uint2 codes, int sum) {
  const auto low = static_cast<int>(codes.x);
  const auto high = static_cast<int>(codes.y);
  return __dp4a(low, low, __dp4a(high, high, sum));
}

// Of what a row of a gradient decodes to, from those of its codes and of its critical features.
__device__ inline double RowSquareSum(float grid, int64_t codes, double critical) {
  const auto scale = static_cast<double>(grid);
  return scale * scale * static_cast<double>(codes) + critical;
}

// Codes of a row from column c on, which are returned too: v * inverse rounded.
template <bool kStochastic>
__device__ uint2 StoreRounded8(float (&v)[kVector], float inverse, const RandomRows& rows,
                               const RandomRow& random, const RoundKeys& keys, int64_t row,
                               int64_t c, const Operand& out) {
#pragma unroll
  for (int i = 0; i < kVector; ++i) v[i] = v[i] * inverse;  // 0 where the scale is
  PhiloxBlock bits{};
  if (kStochastic) bits = rows.At(keys, random, c);
  const uint2 codes = PackCodes8<kStochastic>(v, bits);
  StoreCodes8(static_cast<int8_t*>(out.data) + row * out.cols, c, out.cols, codes);
  return codes;
}

}  // namespace qft::cuda
