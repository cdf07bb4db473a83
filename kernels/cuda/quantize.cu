#include "kernels/cuda/engine.h"
#include "kernels/cuda/row.cuh"

namespace qft::cuda {
namespace {

// x [R, C] -> out. A block a row.
template <typename T>
__global__ void __launch_bounds__(kRowThreads) QuantizeRowsKernel(const T* x, Operand out) {
  const int64_t row = blockIdx.x;
  const T* values = x + row * out.cols;
  QuantizeOperandRow(row, out,
                     [&](int64_t c, float(&v)[kVector]) { Load8(values, c, out.cols, v); });
}

struct Folded {
  const float* fold;  // one factor a column; nullptr: ones
  Rounding rounding;
  RandomStream random;
  const StepState* step;  // nullptr: step 0
};

template <typename T>
__device__ void LoadFolded(const T* row, const float* fold, int64_t c, int64_t cols,
                           float (&v)[kVector]) {
  Load8(row, c, cols, v);
  if (fold == nullptr) return;
  float factor[kVector];
  Load8(fold, c, cols, factor);
#pragma unroll
  for (int i = 0; i < kVector; ++i) v[i] = v[i] * factor[i];
}

// dy [T, N] -> codes with a scale a token. A block a token.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    QuantizeOutputGradientKernel(const T* dy, Folded folded, Operand out) {
  const int64_t row = blockIdx.x;
  const T* values = dy + row * out.cols;
  const bool stochastic = folded.rounding == Rounding::kStochastic;
  const uint64_t step = folded.step != nullptr ? folded.step->step : 0;
  int32_t largest = 0;
  for (int64_t c = threadIdx.x * kVector; c < out.cols; c += kRowThreads * kVector) {
    float v[kVector];
    LoadFolded(values, folded.fold, c, out.cols, v);
    if (out.dtype == DType::kF32) {
      Store8(static_cast<float*>(out.data) + row * out.cols, c, out.cols, v);
    }
    largest = LargestMagnitude(v, 0, largest);
  }
  if (out.dtype == DType::kF32) return;
  const RowScale scale = MakeRowScale(BlockReduce(largest, MaxOfValues()), 127.0f);
  if (threadIdx.x == 0) out.scales[row] = scale.scale;
  for (int64_t c = threadIdx.x * kVector; c < out.cols; c += kRowThreads * kVector) {
    float v[kVector];
    uint32_t random[kVector];
    int codes[kVector];
    LoadFolded(values, folded.fold, c, out.cols, v);
    if (stochastic) {
      Random16(folded.random.key, step, folded.random.row_offset + row, out.cols, c, random);
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const float scaled = scale.zero ? 0.0f : v[i] * scale.inverse;
      codes[i] = stochastic ? RoundStochastic16(scaled, random[i]) : RoundToInt(scaled);
    }
    Store8(static_cast<int8_t*>(out.data) + row * out.cols, c, out.cols, codes);
  }
}

}  // namespace

void CudaEngine::QuantizeRows(const Matrix& x, const Operand& out) {
  if (!SupportsDType(out.dtype) || x.rows == 0) return;
  WithElements(
      x, [&](auto* data) { QuantizeRowsKernel<<<x.rows, kRowThreads, 0, stream_>>>(data, out); });
  CheckLaunch("quantising rows");
}

void CudaEngine::QuantizeOutputGradient(const Matrix& dy, const float* fold, Rounding rounding,
                                        const RandomStream& random, const StepState* step,
                                        const Operand& out) {
  if (!SupportsDType(out.dtype) || dy.rows == 0) return;
  WithElements(dy, [&](auto* data) {
    QuantizeOutputGradientKernel<<<dy.rows, kRowThreads, 0, stream_>>>(
        data, Folded{fold, rounding, random, step}, out);
  });
  CheckLaunch("quantising an output gradient");
}

}  // namespace qft::cuda
