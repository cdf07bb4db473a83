// Matrices kept for backward: a warp's columns, eight a thread, are a block with one scale.
#pragma once

#include "kernels/cuda/device.cuh"

namespace qft::cuda {

static_assert(kKeptBlock == 32 * kVector);

// The scale of a block whose largest magnitude has these bits, and what values are multiplied with:
// powers of two, so that no product rounds and nothing is divided.
struct KeptScale {
  float scale;
  float inverse;
  bool zero;  // all codes are 0
};

__device__ inline KeptScale MakeKeptScale(int32_t largest) {
  // 2^exponent is above the largest, or it and what rounds to a code of 128 are in the next octave.
  const int32_t exponent = (largest + 0x10000) >> 23;
  if (largest >= 0x7f800000) return {__int_as_float(0x7fc00000), 0.0f, true};
  if (exponent < 7) return {0.0f, 0.0f, true};
  return {__int_as_float((exponent - 6) << 23), __int_as_float((260 - exponent) << 23), false};
}

// Columns c .. c + 8 of a row, zeros behind the end. All threads of a warp, which hold a block.
// kWhole promises WholeVectors.
template <bool kWhole>
__device__ inline void StoreKept8(const KeptMatrix& out, int64_t row, int64_t c,
                                  const float (&v)[kVector]) {
  if (out.data == nullptr) return;
  const int64_t begin = row * out.cols;
  if (out.dtype == DType::kF32) {
    if (c < out.cols) Store8(static_cast<float*>(out.data) + begin, c, out.cols, v);
    return;
  }
  float most = 0.0f;
#pragma unroll
  for (int j = 0; j < kVector; ++j) most = LargerMagnitude(most, v[j]);
  const int32_t largest = __reduce_max_sync(kFullWarp, __float_as_int(most));
  if (c >= out.cols) return;
  const KeptScale scale = MakeKeptScale(largest);
  if (c % kKeptBlock == 0) out.scales[row * KeptBlocks(out.cols) + c / kKeptBlock] = scale.scale;
  uint32_t bits[kVector];
#pragma unroll
  for (int j = 0; j < kVector; ++j) {
    bits[j] = __float_as_uint(__fmaf_rn(v[j], scale.inverse, kIntegerFloat));
  }
  const uint2 codes = scale.zero ? make_uint2(0, 0) : LowBytes(bits);
  StoreCodes8<kWhole>(static_cast<int8_t*>(out.data) + begin, c, out.cols, codes);
}

// Columns c .. c + 8 of a row of codes (K = int8_t) or values (float), c below cols. kWhole
// promises WholeVectors.
template <typename K, bool kWhole>
__device__ inline void LoadKept8(const KeptMatrix& kept, int64_t row, int64_t c,
                                 float (&v)[kVector]) {
  const K* data = static_cast<const K*>(kept.data) + row * kept.cols;
  if constexpr (std::is_same_v<K, float>) {
    LoadVector8<kWhole>(data, c, kept.cols, v);
  } else {
    const float scale = kept.scales[row * KeptBlocks(kept.cols) + c / kKeptBlock];
    LoadVector8<kWhole>(data, c, kept.cols, v);
#pragma unroll
    for (int j = 0; j < kVector; ++j) v[j] *= scale;
  }
}

// Whether each eight elements of each row, if there are any, can be moved as vectors.
inline bool WholeVectors(const KeptMatrix& kept) {
  return kept.dtype == DType::kF32 ? WholeVectors(static_cast<const float*>(kept.data), kept.cols)
                                   : WholeVectors(static_cast<const int8_t*>(kept.data), kept.cols);
}

}  // namespace qft::cuda
