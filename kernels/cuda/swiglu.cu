#include "kernels/cuda/engine.h"
#include "kernels/cuda/row.cuh"

namespace qft::cuda {
namespace {

// Of an element of T; of a bf16 one as precisely as its own rounding allows, and faster.
template <typename T>
__device__ float Sigmoid(float x) {
  if constexpr (std::is_same_v<T, BFloat16>) return __fdividef(1.0f, 1.0f + __expf(-x));
  return __fdiv_rn(1.0f, 1.0f + expf(-x));
}

// gate, up [rows, F] -> y.
template <typename Layout, typename T>
__global__ void __launch_bounds__(Layout::kThreads, Layout::kBlocks)
    SwigluForwardKernel(const T* gate, const T* up, int64_t rows,
                        const __grid_constant__ Operand y) {
  const OperandRows<Layout> writer(y);
  int turn = 0;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x, ++turn) {
    typename Layout::Values g, u;
    Layout::Load(gate + row * y.cols, y.cols, g);
    Layout::Load(up + row * y.cols, y.cols, u);
#pragma unroll
    for (int n = 0; n < Layout::kVectors * kVector; ++n) {
      const int i = n / kVector, j = n % kVector;
      g[i][j] = g[i][j] * Sigmoid<T>(g[i][j]) * u[i][j];
    }
    writer.Write(row, turn, g);
  }
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
    const float sigmoid = Sigmoid<T>(g[i]);
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
  if (y.cols > kMostRowColumns) return Fail(kRowTooWide);
  WithElements(gate, [&](auto* data) {
    const auto* up_data = static_cast<decltype(data)>(up.data);
    const bool whole = WholeVectors(data, y.cols) && WholeVectors(up_data, y.cols);
    WithRowLayout(y.cols, whole, [&](auto layout) {
      using Layout = decltype(layout);
      SwigluForwardKernel<Layout>
          <<<RowBlocks<Layout>(gate.rows, multiprocessors_), Layout::kThreads, 0, stream_>>>(
              data, up_data, gate.rows, y);
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
