// Sixteen columns of a weight row at a time: codes with their residuals (see Weight).
#pragma once

#include "kernels/cuda/row.cuh"

namespace qft::cuda {

inline constexpr int kWide = 16;  // columns; whole bytes of a residual plane

__device__ inline void LoadCodes16(const int8_t* row, int64_t c, int64_t cols, int (&v)[kWide]) {
  const int8_t* p = row + c;
  if (c + kWide <= cols && reinterpret_cast<uintptr_t>(p) % kWide == 0) {
    const uint4 words = *reinterpret_cast<const uint4*>(p);
    const uint32_t w[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < kWide; ++i) v[i] = static_cast<int8_t>(w[i / 4] >> (8 * (i % 4)));
    return;
  }
#pragma unroll
  for (int i = 0; i < kWide; ++i) v[i] = c + i < cols ? p[i] : 0;
}

__device__ inline void StoreCodes16(int8_t* row, int64_t c, int64_t cols, const int (&v)[kWide]) {
  int8_t* p = row + c;
  if (c + kWide <= cols && reinterpret_cast<uintptr_t>(p) % kWide == 0) {
    uint32_t w[4] = {};
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      w[i / 4] |= (static_cast<uint32_t>(v[i]) & 0xffu) << (8 * (i % 4));
    }
    *reinterpret_cast<uint4*>(p) = make_uint4(w[0], w[1], w[2], w[3]);
    return;
  }
#pragma unroll
  for (int i = 0; i < kWide; ++i) {
    if (c + i < cols) p[i] = static_cast<int8_t>(v[i]);
  }
}

// Adds the residuals of columns c .. c + 16 to steps = 16 * codes. The plane's rows are padded to
// whole groups.
__device__ inline void AddResiduals16(const uint8_t* row, int64_t c, int (&steps)[kWide]) {
  const uint2 words = *reinterpret_cast<const uint2*>(row + c / 2);
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const uint32_t byte = (i < 4 ? words.x : words.y) >> (8 * (i % 4)) & 0xffu;
    steps[i] += static_cast<int>((byte & 15u) ^ 8u) - 8;
    steps[i + 8] += static_cast<int>((byte >> 4) ^ 8u) - 8;
  }
}

__device__ inline void StoreResiduals16(uint8_t* row, int64_t c, const int (&residuals)[kWide]) {
  uint2 words{0, 0};
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const uint32_t byte = (static_cast<uint32_t>(residuals[i]) & 15u) |
                          (static_cast<uint32_t>(residuals[i + 8]) & 15u) << 4;
    (i < 4 ? words.x : words.y) |= byte << (8 * (i % 4));
  }
  *reinterpret_cast<uint2*>(row + c / 2) = words;
}

// Whole steps: of the grid, or of a sixteenth of it where there is a residual plane.
__device__ inline void LoadSteps16(const int8_t* codes, const uint8_t* residual, int64_t c,
                                   int64_t cols, int (&steps)[kWide]) {
  LoadCodes16(codes, c, cols, steps);
  if (residual == nullptr) return;
#pragma unroll
  for (int i = 0; i < kWide; ++i) steps[i] *= kResidualSteps;
  AddResiduals16(residual, c, steps);
}

// What is to nearest a code; a half goes upwards.
__device__ inline int CodeOfSteps(int steps) {
  return (steps + kResidualSteps / 2) >> kResidualBits;
}

// Writes steps as codes, and residuals where there is a plane.
__device__ inline void StoreSteps16(int8_t* codes, uint8_t* residual, int64_t c, int64_t cols,
                                    const int (&steps)[kWide]) {
  if (residual == nullptr) return StoreCodes16(codes, c, cols, steps);
  int code[kWide];
  int rest[kWide];
#pragma unroll
  for (int i = 0; i < kWide; ++i) {
    code[i] = CodeOfSteps(steps[i]);
    rest[i] = steps[i] - code[i] * kResidualSteps;
  }
  StoreCodes16(codes, c, cols, code);
  StoreResiduals16(residual, c, rest);
}

template <typename T>
__device__ inline void Store16(T* row, int64_t c, int64_t cols, const float (&v)[kWide]) {
#pragma unroll
  for (int half = 0; half < kWide; half += kVector) {
    float part[kVector];
#pragma unroll
    for (int i = 0; i < kVector; ++i) part[i] = v[half + i];
    Store8(row, c + half, cols, part);
  }
}

// values [cols] = row `row` of w, kI8 or kF32. All threads of the block; has a barrier.
template <typename T>
__device__ void DecodeWeightRow(const Weight& w, int64_t row, T* values) {
  const int64_t offset = row * w.cols;
  if (w.dtype == DType::kF32) {
    for (int64_t c = threadIdx.x * kVector; c < w.cols; c += blockDim.x * kVector) {
      float v[kVector];
      Load8(static_cast<const float*>(w.data) + offset, c, w.cols, v);
      Store8(values, c, w.cols, v);
    }
    return;
  }
  const uint8_t* residual =
      w.residual == nullptr ? nullptr : w.residual + row * ResidualBytes(w.cols);
  const float step = residual == nullptr ? w.grid[row] : w.grid[row] / kResidualSteps;
  for (int64_t c = threadIdx.x * kWide; c < w.cols; c += blockDim.x * kWide) {
    int steps[kWide];
    float v[kWide];
    LoadSteps16(static_cast<const int8_t*>(w.data) + offset, residual, c, w.cols, steps);
#pragma unroll
    for (int i = 0; i < kWide; ++i) v[i] = step * static_cast<float>(steps[i]);
    Store16(values, c, w.cols, v);
  }
  __syncthreads();  // a critical column was written above by another thread
  for (int i = threadIdx.x; i < w.critical.count; i += blockDim.x) {
    values[w.critical.columns[i]] = FromFloat<T>(w.critical.values[row * w.critical.count + i]);
  }
}

}  // namespace qft::cuda
