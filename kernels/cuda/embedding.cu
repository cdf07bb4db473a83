#include "kernels/cuda/engine.h"
#include "kernels/cuda/weight_row.cuh"

namespace qft::cuda {
namespace {

constexpr int kColumnsPerThread = 4;
constexpr int kColumnsPerBlock = kRowThreads * kColumnsPerThread;

// y [T, K] = rows tokens[t] of table. A block a token. *outside is set when a token is not in it.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    EmbeddingForwardKernel(const int32_t* tokens, Weight table, T* y, int* outside) {
  const int64_t token = tokens[blockIdx.x];
  if (token < 0 || token >= table.rows) {
    if (threadIdx.x == 0) *outside = 1;
    return;
  }
  DecodeWeightRow(table, token, y + blockIdx.x * table.cols);
}

// Whether `token` is among tokens [begin, end); all threads of the block.
__device__ bool Contains(const int32_t* tokens, int64_t begin, int64_t end, int32_t token) {
  bool found = false;
  for (int64_t t = begin + threadIdx.x; t < end && !found; t += kRowThreads) {
    found = tokens[t] == token;
  }
  return __syncthreads_or(found) != 0;
}

// A block a token and a range of columns. The block of a token's first occurrence adds the rows of
// dy of all its occurrences, in their order.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    EmbeddingBackwardKernel(const int32_t* tokens, const T* dy, int64_t count, int64_t cols,
                            int64_t row_begin, int64_t rows, float* dtable) {
  __shared__ bool same[kRowThreads];
  const int32_t token = tokens[blockIdx.x];
  const int64_t row = token - row_begin;
  if (row < 0 || row >= rows) return;
  if (Contains(tokens, 0, blockIdx.x, token)) return;
  const int64_t first = int64_t{blockIdx.y} * kColumnsPerBlock + threadIdx.x;
  float* to = dtable + row * cols;
  float sum[kColumnsPerThread];
  for (int i = 0; i < kColumnsPerThread; ++i) {
    const int64_t c = first + i * kRowThreads;
    sum[i] = c < cols ? to[c] : 0.0f;
  }
  for (int64_t begin = blockIdx.x; begin < count; begin += kRowThreads) {
    const int64_t t = begin + threadIdx.x;
    same[threadIdx.x] = t < count && tokens[t] == token;
    if (__syncthreads_or(same[threadIdx.x])) {
      for (int64_t j = 0; j < kRowThreads; ++j) {
        if (!same[j]) continue;
        for (int i = 0; i < kColumnsPerThread; ++i) {
          const int64_t c = first + i * kRowThreads;
          if (c < cols) sum[i] += ToFloat(dy[(begin + j) * cols + c]);
        }
      }
    }
    __syncthreads();
  }
  for (int i = 0; i < kColumnsPerThread; ++i) {
    const int64_t c = first + i * kRowThreads;
    if (c < cols) to[c] = sum[i];
  }
}

}  // namespace

void CudaEngine::EmbeddingForward(const int32_t* tokens, const Weight& table, const Matrix& y) {
  if (!SupportsDType(table.dtype) || y.rows == 0) return;
  WithElements(y, [&](auto* data) {
    EmbeddingForwardKernel<<<y.rows, kRowThreads, 0, stream_>>>(tokens, table, data,
                                                                token_outside_);
  });
  CheckLaunch("embedding");
}

void CudaEngine::EmbeddingBackward(const int32_t* tokens, const Matrix& dy, int64_t row_begin,
                                   const Matrix& dtable) {
  if (dy.rows == 0) return;
  const dim3 blocks(static_cast<unsigned>(dy.rows),
                    static_cast<unsigned>(CeilDivide(dy.cols, kColumnsPerBlock)));
  WithElements(dy, [&](auto* data) {
    EmbeddingBackwardKernel<<<blocks, kRowThreads, 0, stream_>>>(
        tokens, data, dy.rows, dy.cols, row_begin, dtable.rows, static_cast<float*>(dtable.data));
  });
  CheckLaunch("embedding backward");
}

}  // namespace qft::cuda
