#include "kernels/cuda/engine.h"
#include "kernels/cuda/row.cuh"

namespace qft::cuda {
namespace {

__device__ float Sigmoid(float x) {
  return __fdiv_rn(1.0f, 1.0f + expf(-x));
}

// What a row's products may take of shared memory between finding their largest and rounding them.
constexpr size_t kMostShared = 96 * 1024;

template <typename T>
__device__ void Products8(const T* gate, const T* up, int64_t c, int64_t cols,
                          float (&v)[kVector]) {
  float g[kVector], u[kVector];
  Load8(gate, c, cols, g);
  Load8(up, c, cols, u);
#pragma unroll
  for (int i = 0; i < kVector; ++i) v[i] = g[i] * Sigmoid(g[i]) * u[i];
}

// gate, up [T, F] -> y. A block a token. kKept: dynamic shared memory [F rounded up to kVector]
// keeps the products, each thread its own; else they are made twice.
template <bool kKept, typename T>
__global__ void __launch_bounds__(kRowThreads)
    SwigluForwardKernel(const T* gate, const T* up, Operand y) {
  extern __shared__ float4 shared[];
  const int64_t row = blockIdx.x;
  const T* gates = gate + row * y.cols;
  const T* ups = up + row * y.cols;
  auto* products = reinterpret_cast<float*>(shared);
  const int64_t end = RoundUp(y.cols, kVector);
  if constexpr (kKept) {
    for (int64_t c = threadIdx.x * kVector; c < y.cols; c += kRowThreads * kVector) {
      float v[kVector];
      Products8(gates, ups, c, y.cols, v);
      Store8(products, c, end, v);
    }
  }
  QuantizeOperandRow(row, y, [&](int64_t c, float(&v)[kVector]) {
    if constexpr (kKept) {
      Load8(products, c, end, v);
    } else {
      Products8(gates, ups, c, y.cols, v);
    }
  });
}

// Eight elements a thread; dgate and dup may be gate and up.
template <typename T, typename TD>
__global__ void __launch_bounds__(kRowThreads)
    SwigluBackwardKernel(const T* gate, const T* up, const TD* dy, T* dgate, T* dup,
                         int64_t count) {
  const int64_t i0 = (int64_t{blockIdx.x} * kRowThreads + threadIdx.x) * kVector;
  if (i0 >= count) return;
  float g[kVector], u[kVector], d[kVector], dg[kVector], du[kVector];
  Load8(gate, i0, count, g);
  Load8(up, i0, count, u);
  Load8(dy, i0, count, d);
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const float sigmoid = Sigmoid(g[i]);
    const float silu = g[i] * sigmoid;
    dg[i] = d[i] * u[i] * (sigmoid + silu * (1.0f - sigmoid));
    du[i] = d[i] * silu;
  }
  Store8(dgate, i0, count, dg);
  Store8(dup, i0, count, du);
}

}  // namespace

void CudaEngine::SwigluForward(const Matrix& gate, const Matrix& up, const Operand& y) {
  if (!SupportsDType(y.dtype) || gate.rows == 0) return;
  WithElements(gate, [&](auto* data) {
    using T = std::remove_reference_t<decltype(*data)>;
    const auto bytes = static_cast<size_t>(RoundUp(y.cols, kVector)) * sizeof(float);
    WithFlag(bytes <= kMostShared, [&](auto kept) {
      const auto kernel = SwigluForwardKernel<kept.value, T>;
      const size_t shared = kept.value ? bytes : 0;
      if (!Check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(kMostShared)),
                 "asking for shared memory")) {
        return;
      }
      kernel<<<gate.rows, kRowThreads, shared, stream_>>>(data, static_cast<const T*>(up.data), y);
    });
  });
  CheckLaunch("swiglu");
}

void CudaEngine::SwigluBackward(const Matrix& gate, const Matrix& up, const Matrix& dy,
                                const Matrix& dgate, const Matrix& dup) {
  const int64_t count = gate.rows * gate.cols;
  if (count == 0) return;
  const int64_t blocks = CeilDivide(count, kRowThreads * kVector);
  WithElements(gate, [&](auto* data) {
    using T = std::remove_reference_t<decltype(*data)>;
    WithElements(dy, [&](auto* dy_data) {
      SwigluBackwardKernel<T><<<blocks, kRowThreads, 0, stream_>>>(
          data, static_cast<const T*>(up.data), dy_data, static_cast<T*>(dgate.data),
          static_cast<T*>(dup.data), count);
    });
  });
  CheckLaunch("swiglu backward");
}

}  // namespace qft::cuda
