// Matrices kept for backward: a warp's columns, eight a thread, are a block with one scale.
#pragma once

#include "kernels/cuda/device.cuh"

namespace qft::cuda {

static_assert(kKeptBlock == 32 * kVector);

// Columns c .. c + 8 of a row, zeros behind the end. All threads of a warp, which hold a block.
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
  const RowScale scale = MakeRowScale(largest, 127.0f);
  if (c % kKeptBlock == 0) out.scales[row * KeptBlocks(out.cols) + c / kKeptBlock] = scale.scale;
  // In a number beside 1.5 * 2^23 the low bits are the nearest integer: conversions are slow.
  uint32_t bits[kVector];
#pragma unroll
  for (int j = 0; j < kVector; ++j) bits[j] = __float_as_uint(v[j] * scale.inverse + 12582912.0f);
  const uint2 codes = scale.zero ? make_uint2(0, 0) : LowBytes(bits);
  StoreCodes8(static_cast<int8_t*>(out.data) + begin, c, out.cols, codes);
}

// Four codes as numbers: a code and 128 beside 2^23.
__device__ inline void CodesToFloats4(uint32_t codes, float* v) {
  const uint32_t raised = codes ^ 0x80808080u;
#pragma unroll
  for (uint32_t j = 0; j < 4; ++j) {
    v[j] = __uint_as_float(__byte_perm(raised, 0x4b000000u, 0x7440u + j)) - 8388736.0f;
  }
}

// Columns c .. c + 8 of a row, c below cols. kWhole promises WholeVectors.
template <bool kWhole>
__device__ inline void LoadKept8(const KeptMatrix& kept, int64_t row, int64_t c,
                                 float (&v)[kVector]) {
  const int64_t begin = row * kept.cols;
  if (kept.dtype == DType::kF32) {
    LoadVector8<kWhole>(static_cast<const float*>(kept.data) + begin, c, kept.cols, v);
    return;
  }
  const int8_t* codes = static_cast<const int8_t*>(kept.data) + begin;
  const float scale = kept.scales[row * KeptBlocks(kept.cols) + c / kKeptBlock];
  if constexpr (kWhole) {
    const uint2 words = *reinterpret_cast<const uint2*>(codes + c);
    CodesToFloats4(words.x, v);
    CodesToFloats4(words.y, v + 4);
  } else {
    int integers[kVector];
    Load8(codes, c, kept.cols, integers);
#pragma unroll
    for (int j = 0; j < kVector; ++j) v[j] = static_cast<float>(integers[j]);
  }
#pragma unroll
  for (int j = 0; j < kVector; ++j) v[j] *= scale;
}

// Whether each eight elements of each row can be moved as vectors.
inline bool WholeVectors(const KeptMatrix& kept) {
  return kept.dtype == DType::kF32 ? WholeVectors(static_cast<const float*>(kept.data), kept.cols)
                                   : WholeVectors(static_cast<const int8_t*>(kept.data), kept.cols);
}

}  // namespace qft::cuda
