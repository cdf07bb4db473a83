#include "kernels/cuda/engine.h"
#include "kernels/cuda/row.cuh"

namespace qft::cuda {
namespace {

// Tokens whose weight gradient is summed before the sums are; part of the numerics.
constexpr int64_t kTokenBlock = 64;
constexpr int kPartialThreads = 64;

// x [T, K] -> y, rstd [T]. A block a token.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    RmsNormForwardKernel(const T* x, const float* weight, float epsilon, Operand y, float* rstd) {
  const int64_t row = blockIdx.x;
  const T* values = x + row * y.cols;
  float sum = 0;
  for (int64_t c = threadIdx.x * kVector; c < y.cols; c += kRowThreads * kVector) {
    float v[kVector];
    Load8(values, c, y.cols, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum = __fmaf_rn(v[i], v[i], sum);
  }
  const float mean = __fdiv_rn(BlockReduce(sum, AddValues()), static_cast<float>(y.cols));
  const float r = __fdiv_rn(1.0f, __fsqrt_rn(mean + epsilon));
  if (threadIdx.x == 0) rstd[row] = r;
  QuantizeOperandRow(row, y, [&](int64_t c, float(&v)[kVector]) {
    float w[kVector];
    Load8(values, c, y.cols, v);
    Load8(weight, c, y.cols, w);
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] = v[i] * r * w[i];
  });
}

// dx [T, K] += gradient through the norm. A block a token.
template <typename TX, typename TY, typename TD>
__global__ void __launch_bounds__(kRowThreads)
    RmsNormBackwardKernel(const TX* x, const float* weight, const float* rstd, const TY* dy, TD* dx,
                          int64_t cols) {
  const int64_t offset = blockIdx.x * cols;
  float sum = 0;
  for (int64_t c = threadIdx.x * kVector; c < cols; c += kRowThreads * kVector) {
    float v[kVector], w[kVector], g[kVector];
    Load8(x + offset, c, cols, v);
    Load8(weight, c, cols, w);
    Load8(dy + offset, c, cols, g);
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum = __fmaf_rn(g[i] * w[i], v[i], sum);
  }
  const float mean = __fdiv_rn(BlockReduce(sum, AddValues()), static_cast<float>(cols));
  const float r = rstd[blockIdx.x];
  const float coefficient = r * r * r * mean;
  for (int64_t c = threadIdx.x * kVector; c < cols; c += kRowThreads * kVector) {
    float v[kVector], w[kVector], g[kVector], d[kVector];
    Load8(x + offset, c, cols, v);
    Load8(weight, c, cols, w);
    Load8(dy + offset, c, cols, g);
    Load8(dx + offset, c, cols, d);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      d[i] = d[i] + __fmaf_rn(g[i] * w[i], r, v[i] * -coefficient);
    }
    Store8(dx + offset, c, cols, d);
  }
}

// partial [blocks of tokens, K]: sums of dy * x * rstd. A thread eight columns.
template <typename TX, typename TY>
__global__ void __launch_bounds__(kPartialThreads)
    WeightPartialsKernel(const TX* x, const float* rstd, const TY* dy, int64_t rows, int64_t cols,
                         float* partial) {
  const int64_t c = (int64_t{blockIdx.x} * kPartialThreads + threadIdx.x) * kVector;
  if (c >= cols) return;
  const int64_t begin = blockIdx.y * kTokenBlock;
  const int64_t end = Smaller(rows, begin + kTokenBlock);
  float sum[kVector] = {};
#pragma unroll 4
  for (int64_t t = begin; t < end; ++t) {
    float v[kVector], g[kVector];
    Load8(x + t * cols, c, cols, v);
    Load8(dy + t * cols, c, cols, g);
    const float r = rstd[t];
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum[i] = __fmaf_rn(g[i], v[i] * r, sum[i]);
  }
  Store8(partial + blockIdx.y * cols, c, cols, sum);
}

__global__ void __launch_bounds__(kRowThreads)
    SumPartialsKernel(const float* partial, int64_t blocks, int64_t cols, float* dweight) {
  const int64_t c = int64_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (c >= cols) return;
  float sum = dweight[c];
  for (int64_t block = 0; block < blocks; ++block) sum += partial[block * cols + c];
  dweight[c] = sum;
}

}  // namespace

void CudaEngine::RmsNormForward(const Matrix& x, const float* weight, float epsilon,
                                const Operand& y, float* rstd) {
  if (!SupportsDType(y.dtype) || x.rows == 0) return;
  WithElements(x, [&](auto* data) {
    RmsNormForwardKernel<<<x.rows, kRowThreads, 0, stream_>>>(data, weight, epsilon, y, rstd);
  });
  CheckLaunch("norm");
}

void CudaEngine::RmsNormBackward(const Matrix& x, const float* weight, const float* rstd,
                                 const Matrix& dy, const Matrix& dx, float* dweight) {
  if (x.rows == 0) return;
  const int64_t blocks = CeilDivide(x.rows, kTokenBlock);
  float* partial = nullptr;
  if (dweight != nullptr) {
    partial = static_cast<float*>(Scratch(static_cast<size_t>(blocks * x.cols) * sizeof(float)));
    if (partial == nullptr) return;
  }
  const auto columns = static_cast<unsigned>(CeilDivide(x.cols, kRowThreads));
  WithElements(x, [&](auto* x_data) {
    WithElements(dy, [&](auto* dy_data) {
      if (dweight != nullptr) {
        const auto eights = static_cast<unsigned>(CeilDivide(x.cols, kPartialThreads * kVector));
        WeightPartialsKernel<<<dim3(eights, static_cast<unsigned>(blocks)), kPartialThreads, 0,
                               stream_>>>(x_data, rstd, dy_data, x.rows, x.cols, partial);
        SumPartialsKernel<<<columns, kRowThreads, 0, stream_>>>(partial, blocks, x.cols, dweight);
      }
      WithElements(dx, [&](auto* dx_data) {
        RmsNormBackwardKernel<<<x.rows, kRowThreads, 0, stream_>>>(x_data, weight, rstd, dy_data,
                                                                   dx_data, x.cols);
      });
    });
  });
  CheckLaunch("norm backward");
}

}  // namespace qft::cuda
