// Rows that become operands: which columns are critical, and quantising what a row's largest
// magnitude is known of. A block of kRowThreads works on one row.
#pragma once

#include "kernels/cuda/device.cuh"

namespace qft::cuda {

inline constexpr int kMostCritical = 64;

// The critical columns of a row in shared memory.
struct CriticalColumns {
  int32_t column[kMostCritical];
  int32_t count;
};

// All threads of the block; ends with a barrier.
__device__ inline void LoadCriticalColumns(const CriticalFeatures& critical,
                                           CriticalColumns* columns) {
  if (threadIdx.x < critical.count) columns->column[threadIdx.x] = critical.columns[threadIdx.x];
  if (threadIdx.x == 0) columns->count = critical.count;
  __syncthreads();
}

// Bit i: column c + i is critical.
__device__ inline uint32_t CriticalMask(const CriticalColumns& columns, int64_t c) {
  int low = 0;
  int high = columns.count;
  while (low < high) {  // first that is not below c
    const int middle = (low + high) / 2;
    if (columns.column[middle] < c) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  uint32_t mask = 0;
  for (; low < columns.count && columns.column[low] < c + kVector; ++low) {
    mask |= 1u << (columns.column[low] - c);
  }
  return mask;
}

// Writes eight codes from column c on, and second terms where the operand has them. Critical
// columns get code 0 and their value apart.
__device__ inline void StoreOperand8(const float (&v)[kVector], int64_t row, int64_t c,
                                     const RowScale& scale, uint32_t critical_mask,
                                     const CriticalColumns& columns, const Operand& out) {
  int codes[kVector];
  int second[kVector];
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const bool critical = (critical_mask >> i & 1) != 0;
    const float scaled = scale.zero || critical ? 0.0f : v[i] * scale.inverse;
    codes[i] = RoundToInt(fmaxf(fminf(scaled, 127.0f), -127.0f));
    const float rest = (scaled - static_cast<float>(codes[i])) * 256.0f;
    second[i] = RoundToInt(fmaxf(fminf(rest, 127.0f), -127.0f));
  }
  Store8(static_cast<int8_t*>(out.data) + row * out.cols, c, out.cols, codes);
  if (out.second != nullptr) Store8(out.second + row * out.cols, c, out.cols, second);
  if (critical_mask == 0) return;
  for (int j = 0; j < columns.count; ++j) {
    const int64_t offset = columns.column[j] - c;
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      if (offset == i) out.critical.values[row * columns.count + j] = v[i];
    }
  }
}

// Largest magnitude bits among those not masked, and not below `largest`.
__device__ inline int32_t LargestMagnitude(const float (&v)[kVector], uint32_t mask,
                                           int32_t largest) {
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const int32_t bits = (mask >> i & 1) != 0 ? 0 : MagnitudeBits(v[i]);
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

// Quantises row `row` of `out`, kI8 or kF32, from load(c, v): eight values from column c on, the
// same each time it is asked, zeros behind the end.
template <typename LoadFn>
__device__ inline void QuantizeOperandRow(int64_t row, const Operand& out, LoadFn load) {
  __shared__ CriticalColumns columns;
  if (out.dtype == DType::kF32) {
    for (int64_t c = threadIdx.x * kVector; c < out.cols; c += kRowThreads * kVector) {
      float v[kVector];
      load(c, v);
      Store8(static_cast<float*>(out.data) + row * out.cols, c, out.cols, v);
    }
    return;
  }
  LoadCriticalColumns(out.critical, &columns);
  int32_t largest = 0;
  for (int64_t c = threadIdx.x * kVector; c < out.cols; c += kRowThreads * kVector) {
    float v[kVector];
    load(c, v);
    largest = LargestMagnitude(v, CriticalMask(columns, c), largest);
  }
  const RowScale scale = MakeRowScale(BlockReduce(largest, MaxOfValues()), 127.0f);
  if (threadIdx.x == 0) out.scales[row] = scale.scale;
  for (int64_t c = threadIdx.x * kVector; c < out.cols; c += kRowThreads * kVector) {
    float v[kVector];
    load(c, v);
    StoreOperand8(v, row, c, scale, CriticalMask(columns, c), columns, out);
  }
}

}  // namespace qft::cuda
