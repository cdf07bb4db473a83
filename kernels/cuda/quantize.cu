#include "kernels/cuda/engine.h"
#include "kernels/cuda/philox.cuh"
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
  RoundKeys keys;
  int64_t row_offset;
  const StepState* step;  // nullptr: step 0
};

template <bool kWhole, typename T>
__device__ void LoadFolded(const T* row, const float* fold, int64_t c, int64_t cols,
                           float (&v)[kVector]) {
  LoadVector8<kWhole>(row, c, cols, v);
  if (fold == nullptr) return;
  float factor[kVector];
  LoadVector8<kWhole>(fold, c, cols, factor);
#pragma unroll
  for (int i = 0; i < kVector; ++i) v[i] = v[i] * factor[i];
}

// dy [T, N] -> codes with a scale a token. A block a token, whose values come from the cache when
// they are read again.
template <bool kStochastic, bool kWhole, typename T>
__global__ void __launch_bounds__(kRowThreads)
    QuantizeOutputGradientKernel(const T* dy, Folded folded, Operand out) {
  const int64_t row = blockIdx.x;
  const T* values = dy + row * out.cols;
  float largest = 0.0f;
#pragma unroll 2
  for (int64_t c = threadIdx.x * kVector; c < out.cols; c += kRowThreads * kVector) {
    float v[kVector];
    LoadFolded<kWhole>(values, folded.fold, c, out.cols, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) largest = LargerMagnitude(largest, v[i]);
  }
  const RowScale scale = MakeRowScale(LargestOfBlock(__float_as_int(largest)), 127.0f);
  if (threadIdx.x == 0) out.scales[row] = scale.scale;
  const RandomRow random(folded.keys, folded.row_offset + row, out.cols, folded.step);
#pragma unroll 2
  for (int64_t c = threadIdx.x * kVector; c < out.cols; c += kRowThreads * kVector) {
    float v[kVector];
    LoadFolded<kWhole>(values, folded.fold, c, out.cols, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] = v[i] * scale.inverse;  // 0 where the scale is
    PhiloxBlock bits{};
    if (kStochastic) bits = random.At(folded.keys, c);
    StoreCodes8(static_cast<int8_t*>(out.data) + row * out.cols, c, out.cols,
                PackCodes8<kStochastic>(v, bits));
  }
}

// Floating out: dy * fold.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    FoldOutputGradientKernel(const T* dy, const float* fold, int64_t cols, float* out) {
  const int64_t offset = blockIdx.x * cols;
  for (int64_t c = threadIdx.x * kVector; c < cols; c += kRowThreads * kVector) {
    float v[kVector];
    LoadFolded<false>(dy + offset, fold, c, cols, v);
    Store8(out + offset, c, cols, v);
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
  const Folded folded{fold, MakeRoundKeys(random.key), random.row_offset, step};
  WithElements(dy, [&](auto* data) {
    if (out.dtype == DType::kF32) {
      FoldOutputGradientKernel<<<dy.rows, kRowThreads, 0, stream_>>>(data, fold, dy.cols,
                                                                     static_cast<float*>(out.data));
      return;
    }
    WithFlag(rounding == Rounding::kStochastic, [&](auto stochastic) {
      WithFlag(WholeVectors(data, dy.cols) && WholeVectors(fold, dy.cols), [&](auto whole) {
        QuantizeOutputGradientKernel<stochastic.value, whole.value>
            <<<dy.rows, kRowThreads, 0, stream_>>>(data, folded, out);
      });
    });
  });
  CheckLaunch("quantising an output gradient");
}

}  // namespace qft::cuda
