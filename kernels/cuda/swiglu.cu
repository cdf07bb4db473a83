#include "kernels/cuda/engine.h"
#include "kernels/cuda/row.cuh"

namespace qft::cuda {
namespace {

__device__ float Sigmoid(float x) {
  return __fdiv_rn(1.0f, 1.0f + expf(-x));
}

// gate, up [T, F] -> y. A block a token.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    SwigluForwardKernel(const T* gate, const T* up, Operand y) {
  const int64_t row = blockIdx.x;
  QuantizeOperandRow(row, y, [&](int64_t c, float(&v)[kVector]) {
    float g[kVector], u[kVector];
    Load8(gate + row * y.cols, c, y.cols, g);
    Load8(up + row * y.cols, c, y.cols, u);
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] = g[i] * Sigmoid(g[i]) * u[i];
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
    SwigluForwardKernel<T>
        <<<gate.rows, kRowThreads, 0, stream_>>>(data, static_cast<const T*>(up.data), y);
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
