// Sums over the rows of a matrix, in an order that depends on its shape alone.
#pragma once

#include "kernels/cuda/device.cuh"

namespace qft::cuda {

inline constexpr int kSumColumns = 32;
inline constexpr int kSumRows = 8;  // that a block adds side by side
inline constexpr int64_t kMostSumBlocks = 64;
inline constexpr int64_t kLeastBlockRows = 64;

// Blocks of rows that are summed side by side; each writes a row of partial sums.
inline int64_t SumBlocks(int64_t rows) {
  return Smaller(kMostSumBlocks, CeilDivide(rows, kLeastBlockRows));
}

// sums [gridDim.y, cols] = (or, for kAdd, +=) the sums of value(row, column) over as many parts of
// the rows.
template <bool kAdd, typename Value>
__global__ void __launch_bounds__(kSumColumns* kSumRows)
    ColumnSumsKernel(Value value, int64_t rows, int64_t cols, float* sums) {
  __shared__ float partial[kSumRows][kSumColumns];
  const int64_t c = int64_t{blockIdx.x} * kSumColumns + threadIdx.x;
  const int64_t part = CeilDivide(rows, gridDim.y);
  const int64_t end = Smaller(rows, (blockIdx.y + 1) * part);
  float sum = 0.0f;
  if (c < cols) {
    for (int64_t row = blockIdx.y * part + threadIdx.y; row < end; row += kSumRows) {
      sum += value(row, c);
    }
  }
  partial[threadIdx.y][threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y != 0 || c >= cols) return;
  float total = kAdd ? sums[blockIdx.y * cols + c] : 0.0f;
  for (int i = 0; i < kSumRows; ++i) total += partial[i][threadIdx.x];
  sums[blockIdx.y * cols + c] = total;
}

struct PartialSum {
  const float* sums;
  int64_t cols;
  __device__ float operator()(int64_t row, int64_t c) const { return sums[row * cols + c]; }
};

// sums [cols] += the sums of the columns of partial [rows, cols].
inline void AddPartialSums(const float* partial, int64_t rows, int64_t cols, float* sums,
                           cudaStream_t stream) {
  const auto columns = static_cast<unsigned>(CeilDivide(cols, kSumColumns));
  ColumnSumsKernel<true><<<columns, dim3(kSumColumns, kSumRows), 0, stream>>>(
      PartialSum{partial, cols}, rows, cols, sums);
}

// sums [cols] += the sums of value(row, column). partial: [SumBlocks(rows), cols].
template <typename Value>
void AddColumnSums(Value value, int64_t rows, int64_t cols, float* partial, float* sums,
                   cudaStream_t stream) {
  const dim3 threads(kSumColumns, kSumRows);
  const auto columns = static_cast<unsigned>(CeilDivide(cols, kSumColumns));
  const auto blocks = static_cast<unsigned>(SumBlocks(rows));
  ColumnSumsKernel<false>
      <<<dim3(columns, blocks), threads, 0, stream>>>(value, rows, cols, partial);
  AddPartialSums(partial, blocks, cols, sums, stream);
}

}  // namespace qft::cuda
