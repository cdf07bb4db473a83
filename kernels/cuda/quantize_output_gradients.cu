#include "kernels/cuda/engine.h"
#include "kernels/cuda/quantize_gradient.cuh"
#include "kernels/cuda/sizes.h"

namespace qft::cuda {
namespace {

// What a block sees of both operands: `fold` of the columns for the rows' codes, `row_fold` of the
// rows for the columns' largest.
struct Folds {
  const float* fold;
  const float* row_fold;
};

// largest [cols], in shared memory at c: no smaller than each |v * factor|. A thread's own.
template <bool kWhole>
__device__ void RaiseLargest(const float (&v)[kVector], float factor, float* largest, int64_t c) {
  float most[kVector];
  LoadVector8<kWhole>(largest, c, c + kVector, most);
#pragma unroll
  for (int i = 0; i < kVector; ++i) most[i] = LargerMagnitude(most[i], v[i] * factor);
  Store8(largest, c, c + kVector, most);
}

// dy [rows, N] -> codes with a scale a token, and in `largest` [N], zeroed before, the bits of each
// column's largest magnitude of dy * row_fold. Integer maxima, so that the order of blocks does not
// matter. Dynamic shared memory: a float a column, N rounded up to kVector.
template <bool kStochastic, typename Layout, typename T>
__global__ void __launch_bounds__(Layout::kThreads, Layout::kBlocks)
    QuantizeBothKernel(const T* dy, Folds folds, int64_t rows,
                       const __grid_constant__ GradientRandom random,
                       const __grid_constant__ Operand out, int32_t* largest) {
  extern __shared__ float4 shared[];
  auto* column_largest = reinterpret_cast<float*>(shared);
  const int64_t cols = out.cols;
#pragma unroll
  for (int i = 0; i < Layout::kVectors; ++i) {
    const float zeros[kVector] = {};
    if (Layout::Column(i) < cols) Store8(column_largest, Layout::Column(i), cols + kVector, zeros);
  }
  const RandomRows random_rows(random.keys, cols, random.step);
  ForEachRow<Layout>(dy, rows, cols, [&](int64_t row, int turn, typename Layout::Values& v) {
    const float row_factor = folds.row_fold == nullptr ? 1.0f : folds.row_fold[row];
    float row_largest = 0.0f;
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      const int64_t c = Layout::Column(i);
      if (c >= cols) continue;
      RaiseLargest<Layout::kWhole>(v[i], row_factor, column_largest, c);
      Fold8<Layout::kWhole>(folds.fold, c, cols, v[i]);
#pragma unroll
      for (int j = 0; j < kVector; ++j) row_largest = LargerMagnitude(row_largest, v[i][j]);
    }
    const RowScale scale = MakeRowScale(LargestInTurn(__float_as_int(row_largest), turn), 127.0f);
    if (threadIdx.x == 0) out.scales[row] = scale.scale;
    const RandomRow bits = random_rows.Row(random.keys, random.row_offset + row);
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      const int64_t c = Layout::Column(i);
      if (c >= cols) continue;
      StoreRounded8<kStochastic>(v[i], scale.inverse, random_rows, bits, random.keys, row, c, out);
    }
  });
  __syncthreads();
  // Neighbouring threads neighbouring columns, and each block from another one on: atomics on one
  // address wait for each other.
  const int64_t first = cols * blockIdx.x / gridDim.x;
  for (int64_t i = threadIdx.x; i < cols; i += Layout::kThreads) {
    const int64_t c = i + first < cols ? i + first : i + first - cols;
    atomicMax(largest + c, __float_as_int(column_largest[c]));
  }
}

// Two readings of dy instead of three: the largest of the columns come with the rows' codes.
class BothOperands {
 public:
  BothOperands(const Matrix& dy, const StepState* step, const OutputGradientOperand& rows,
               const OutputGradientOperand& columns)
      : dy_(dy),
        rows_(rows),
        columns_(columns),
        row_bits_{MakeRoundKeys(rows.random.key), rows.random.row_offset, step},
        column_bits_{MakeRoundKeys(columns.random.key), columns.random.row_offset, step} {}

  cudaError_t Launch(Rounding rounding, int multiprocessors, int32_t* largest,
                     cudaStream_t stream) const {
    cudaError_t error = cudaSuccess;
    WithElements(dy_, [&](auto* data) {
      const bool whole = WholeVectors(data, dy_.cols) && WholeVectors(rows_.fold, dy_.cols);
      WithFlag(rounding == Rounding::kStochastic, [&](auto stochastic) {
        WithRowLayout(dy_.cols, whole, [&](auto layout) {
          using Layout = decltype(layout);
          using T = std::remove_reference_t<decltype(*data)>;
          const auto kernel = QuantizeBothKernel<stochastic.value, Layout, T>;
          error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       static_cast<int>(kMostShared));
          if (error != cudaSuccess) return;
          kernel<<<RowBlocks<Layout>(dy_.rows, multiprocessors), Layout::kThreads, SharedBytes(),
                   stream>>>(data, {rows_.fold, columns_.fold}, dy_.rows, row_bits_, rows_.out,
                             largest);
        });
      });
    });
    if (error != cudaSuccess) return error;
    LaunchQuantizeTransposed(dy_, columns_.fold, largest, rounding, column_bits_, columns_.out,
                             stream);
    return cudaSuccess;
  }
  size_t SharedBytes() const {
    return static_cast<size_t>(RoundUp(dy_.cols, kVector)) * sizeof(float);
  }

 private:
  const Matrix& dy_;
  const OutputGradientOperand& rows_;
  const OutputGradientOperand& columns_;
  GradientRandom row_bits_;
  GradientRandom column_bits_;
};

}  // namespace

void CudaEngine::QuantizeOutputGradients(const Matrix& dy, Rounding rounding, const StepState* step,
                                         const OutputGradientOperand& rows,
                                         const OutputGradientOperand& columns) {
  if (dy.rows == 0) return;
  const BothOperands both(dy, step, rows, columns);
  const bool codes = rows.out.dtype == DType::kI8 && columns.out.dtype == DType::kI8;
  if (!codes || dy.cols > kMostRowColumns || both.SharedBytes() > kMostShared) {
    QuantizeOutputGradient(dy, rows.fold, rounding, rows.random, step, rows.out);
    return QuantizeOutputGradientTransposed(dy, columns.fold, rounding, columns.random, step,
                                            columns.out);
  }
  const size_t bytes = static_cast<size_t>(dy.cols) * sizeof(int32_t);
  auto* largest = static_cast<int32_t*>(Scratch(bytes));
  if (largest == nullptr) return;
  Fill(largest, 0, bytes);
  const char* what = "quantising output gradients";
  if (Check(both.Launch(rounding, multiprocessors_, largest, stream_), what)) CheckLaunch(what);
}

}  // namespace qft::cuda
