#include "kernels/cuda/engine.h"
#include "kernels/cuda/kept.cuh"
#include "kernels/cuda/row.cuh"

namespace qft::cuda {
namespace {

// Of an element of T; of a bf16 one as precisely as its own rounding allows, and faster: four
// instructions, 0 where 1 + e^-x is above 2^126.
template <typename T>
__device__ float Sigmoid(float x) {
  if constexpr (!std::is_same_v<T, BFloat16>) return __fdiv_rn(1.0f, 1.0f + expf(-x));
  float power, sigmoid;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * -1.44269504f));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(sigmoid) : "f"(1.0f + power));
  return sigmoid;
}

// gate, up [rows, F] -> y and what is kept of them.
template <typename Layout, typename T>
__global__ void __launch_bounds__(Layout::kThreads, Layout::kBlocks)
    SwigluForwardKernel(const T* gate, const T* up, int64_t rows,
                        const __grid_constant__ SwigluInputs kept,
                        const __grid_constant__ Operand y) {
  const OperandRows<Layout> writer(y);
  int turn = 0;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x, ++turn) {
    RowAhead<Layout, T, 4> gates, ups;
    gates.Load(gate + row * y.cols, y.cols);
    ups.Load(up + row * y.cols, y.cols);
    typename Layout::Values v;
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      float g[kVector], u[kVector];
      gates.Take(i, g);
      ups.Take(i, u);
      StoreKept8<Layout::kWhole>(kept.gate, row, Layout::Column(i), g);
      StoreKept8<Layout::kWhole>(kept.up, row, Layout::Column(i), u);
#pragma unroll
      for (int j = 0; j < kVector; ++j) v[i][j] = g[j] * Sigmoid<T>(g[j]) * u[j];
    }
    writer.Write(row, turn, v);
  }
}

// Columns c .. c + 8 of y's data, kF32, or kI8 on the row's scale, critical columns by `mask`.
template <bool kWhole>
__device__ void StoreAgain8(const Operand& y, int64_t row, int64_t c, uint32_t mask, float scale,
                            const float (&v)[kVector]) {
  const int64_t begin = row * y.cols;
  if (y.dtype == DType::kF32) return Store8(static_cast<float*>(y.data) + begin, c, y.cols, v);
  const float inverse = __frcp_rn(scale);
  uint32_t bits[kVector];
#pragma unroll
  for (int j = 0; j < kVector; ++j) {
    bits[j] = __float_as_uint(fmaxf(fminf(v[j] * inverse, 127.0f), -127.0f) + kIntegerFloat);
  }
  if (mask != 0) {
#pragma unroll
    for (int j = 0; j < kVector; ++j) bits[j] = (mask >> j & 1) != 0 ? 0 : bits[j];
  }
  const bool usable = inverse <= 3.402823466e+38f;
  StoreCodes8<kWhole>(static_cast<int8_t*>(y.data) + begin, c, y.cols,
                      usable ? LowBytes(bits) : make_uint2(0, 0));
}

// Eight columns a thread; blocks go down the rows. dgate may be dy. K: int8_t or float, what is
// kept; a branch on it would keep each load waiting for the one before.
template <typename T, typename K, bool kWhole>
__global__ void __launch_bounds__(kRowThreads)
    SwigluBackwardKernel(const __grid_constant__ SwigluInputs kept, const T* dy, T* dgate, T* dup,
                         int64_t rows, const __grid_constant__ Operand y) {
  __shared__ CriticalColumns columns;
  LoadCriticalColumns(y.critical, &columns);
  const int64_t c = (int64_t{blockIdx.x} * kRowThreads + threadIdx.x) * kVector;
  if (c >= y.cols) return;
  const uint32_t mask = CriticalMask(columns, c);
  for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
    float g[kVector], u[kVector], d[kVector], du[kVector];
    const float scale = y.dtype == DType::kI8 ? y.scales[row] : 1.0f;
    LoadKept8<K, kWhole>(kept.gate, row, c, g);
    LoadKept8<K, kWhole>(kept.up, row, c, u);
    LoadVector8<kWhole>(dy + row * y.cols, c, y.cols, d);
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      const float sigmoid = Sigmoid<T>(g[j]);
      const float silu = g[j] * sigmoid;
      g[j] = d[j] * u[j] * (sigmoid + silu * (1.0f - sigmoid));
      u[j] = silu * u[j];
      du[j] = d[j] * silu;
    }
    StoreVector8<kWhole>(dgate + row * y.cols, c, y.cols, g);
    StoreVector8<kWhole>(dup + row * y.cols, c, y.cols, du);
    StoreAgain8<kWhole>(y, row, c, mask, scale, u);
  }
}

}  // namespace

void CudaEngine::SwigluForward(const Matrix& gate, const Matrix& up, const SwigluInputs& kept,
                               const Operand& y) {
  if (!SupportsDType(y.dtype) || gate.rows == 0) return;
  if (y.cols > kMostRowColumns) return Fail(kRowTooWide);
  WithElements(gate, [&](auto* data) {
    const auto* up_data = static_cast<decltype(data)>(up.data);
    const bool whole = WholeVectors(data, y.cols) && WholeVectors(up_data, y.cols) &&
                       WholeVectors(kept.gate) && WholeVectors(kept.up) && WholeVectors(y);
    WithRowLayout(y.cols, whole, [&](auto layout) {
      using Layout = decltype(layout);
      SwigluForwardKernel<Layout>
          <<<RowBlocks<Layout>(gate.rows, multiprocessors_), Layout::kThreads, 0, stream_>>>(
              data, up_data, gate.rows, kept, y);
    });
  });
  CheckLaunch("swiglu");
}

void CudaEngine::SwigluBackward(const SwigluInputs& kept, const Matrix& dy, const Matrix& dgate,
                                const Matrix& dup, const Operand& y) {
  constexpr int64_t kBlocks = 32;  // a multiprocessor: so many that none waits long for the last
  if (!SupportsDType(y.dtype) || dy.rows == 0) return;
  const int64_t across = CeilDivide(dy.cols, kRowThreads * kVector);
  const int64_t down = Smaller(dy.rows, CeilDivide(kBlocks * multiprocessors_, across));
  const dim3 grid(static_cast<unsigned>(across), static_cast<unsigned>(down));
  WithElements(dy, [&](auto* data) {
    using T = std::remove_reference_t<decltype(*data)>;
    auto* dgate_data = static_cast<T*>(dgate.data);
    auto* dup_data = static_cast<T*>(dup.data);
    const bool whole = WholeVectors(data, dy.cols) && WholeVectors(dgate_data, dy.cols) &&
                       WholeVectors(dup_data, dy.cols) && WholeVectors(kept.gate) &&
                       WholeVectors(kept.up) && WholeVectors(y);
    WithFlag(whole, [&](auto is_whole) {
      WithFlag(kept.gate.dtype == DType::kI8, [&](auto has_codes) {
        using K = std::conditional_t<decltype(has_codes)::value, int8_t, float>;
        SwigluBackwardKernel<T, K, decltype(is_whole)::value>
            <<<grid, kRowThreads, 0, stream_>>>(kept, data, dgate_data, dup_data, dy.rows, y);
      });
    });
  });
  CheckLaunch("swiglu backward");
}

}  // namespace qft::cuda
