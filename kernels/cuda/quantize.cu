#include "kernels/cuda/engine.h"
#include "kernels/cuda/quantize_gradient.cuh"

namespace qft::cuda {
namespace {

// x [rows, C] -> out.
template <typename Layout, typename T>
__global__ void __launch_bounds__(Layout::kThreads, Layout::kBlocks)
    QuantizeRowsKernel(const T* x, int64_t rows, const __grid_constant__ Operand out) {
  const OperandRows<Layout> writer(out);
  ForEachRow<Layout>(x, rows, out.cols, [&](int64_t row, int turn, typename Layout::Values& v) {
    writer.Write(row, turn, v);
  });
}

// dy [rows, N] -> codes with a scale a token.
template <bool kStochastic, typename Layout, typename T>
__global__ void __launch_bounds__(Layout::kThreads, Layout::kBlocks)
    QuantizeOutputGradientKernel(const T* dy, const float* fold, int64_t rows,
                                 const __grid_constant__ GradientRandom random,
                                 const __grid_constant__ Operand out) {
  const RandomRows random_rows(random.keys, out.cols, random.step);
  ForEachRow<Layout>(dy, rows, out.cols, [&](int64_t row, int turn, typename Layout::Values& v) {
    float largest = 0.0f;
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      const int64_t c = Layout::Column(i);
      if (c < out.cols) Fold8<Layout::kWhole>(fold, c, out.cols, v[i]);
#pragma unroll
      for (int j = 0; j < kVector; ++j) largest = LargerMagnitude(largest, v[i][j]);
    }
    const RowScale scale = MakeRowScale(LargestInTurn(__float_as_int(largest), turn), 127.0f);
    if (threadIdx.x == 0) out.scales[row] = scale.scale;
    const RandomRow bits = random_rows.Row(random.keys, random.row_offset + row);
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      const int64_t c = Layout::Column(i);
      if (c >= out.cols) continue;
      StoreRounded8<kStochastic>(v[i], scale.inverse, random_rows, bits, random.keys, row, c, out);
    }
  });
}

// Floating out: dy * fold.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    FoldOutputGradientKernel(const T* dy, const float* fold, int64_t cols, float* out) {
  const int64_t offset = blockIdx.x * cols;
  for (int64_t c = threadIdx.x * kVector; c < cols; c += kRowThreads * kVector) {
    float v[kVector];
    Load8(dy + offset, c, cols, v);
    Fold8<false>(fold, c, cols, v);
    Store8(out + offset, c, cols, v);
  }
}

}  // namespace

void CudaEngine::QuantizeRows(const Matrix& x, const Operand& out) {
  if (!SupportsDType(out.dtype) || x.rows == 0) return;
  if (x.cols > kMostRowColumns) return Fail(kRowTooWide);
  WithElements(x, [&](auto* data) {
    WithRowLayout(x.cols, WholeVectors(data, x.cols) && WholeVectors(out), [&](auto layout) {
      using Layout = decltype(layout);
      QuantizeRowsKernel<Layout>
          <<<RowBlocks<Layout>(x.rows, multiprocessors_), Layout::kThreads, 0, stream_>>>(
              data, x.rows, out);
    });
  });
  CheckLaunch("quantising rows");
}

void CudaEngine::QuantizeOutputGradient(const Matrix& dy, const float* fold, Rounding rounding,
                                        const RandomStream& random, const StepState* step,
                                        const Operand& out) {
  if (!SupportsDType(out.dtype) || dy.rows == 0) return;
  if (dy.cols > kMostRowColumns) return Fail(kRowTooWide);
  const GradientRandom bits{MakeRoundKeys(random.key), random.row_offset, step};
  WithElements(dy, [&](auto* data) {
    if (out.dtype == DType::kF32) {
      FoldOutputGradientKernel<<<dy.rows, kRowThreads, 0, stream_>>>(data, fold, dy.cols,
                                                                     static_cast<float*>(out.data));
      return;
    }
    WithFlag(rounding == Rounding::kStochastic, [&](auto stochastic) {
      const bool whole = WholeVectors(data, dy.cols) && WholeVectors(fold, dy.cols);
      WithRowLayout(dy.cols, whole, [&](auto layout) {
        using Layout = decltype(layout);
        QuantizeOutputGradientKernel<stochastic.value, Layout>
            <<<RowBlocks<Layout>(dy.rows, multiprocessors_), Layout::kThreads, 0, stream_>>>(
                data, fold, dy.rows, bits, out);
      });
    });
  });
  CheckLaunch("quantising an output gradient");
}

}  // namespace qft::cuda
