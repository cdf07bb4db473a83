#include "kernels/cuda/engine.h"
#include "kernels/cuda/quantize_gradient.cuh"

namespace qft::cuda {
namespace {

constexpr int kSumThreads = 1024;
constexpr int kSumRows = kRowThreads / 32;  // whose squares a block sums

// By a warp.
__device__ double SquareSumOfValues(const float* values, int64_t cols) {
  double sum = 0;
  for (int64_t c = threadIdx.x % 32; c < cols; c += 32) {
    const auto value = static_cast<double>(values[c]);
    sum += value * value;
  }
  return WarpReduce(sum, AddValues());
}

// v += the codes of row `row` of a gradient, kI8. All threads of the block.
template <typename Layout>
__device__ void AddCodes(const Gradient& gradient, int64_t row, typename Layout::Values& v) {
  const auto* codes = static_cast<const int8_t*>(gradient.data) + row * gradient.cols;
  const float grid = gradient.grid[row];
#pragma unroll
  for (int i = 0; i < Layout::kVectors; ++i) {
    float add[kVector];
    Layout::Load(codes, gradient.cols, i, add);
#pragma unroll
    for (int j = 0; j < kVector; ++j) v[i][j] += grid * add[j];
  }
}

// values [rows, cols], plus what `out` holds with kAdd -> codes with a scale a row, critical
// features apart.
template <bool kStochastic, bool kAdd, typename Layout, typename T>
__global__ void __launch_bounds__(Layout::kThreads, Layout::kBlocks)
    EncodeGradientKernel(const T* values, const __grid_constant__ GradientRandom random,
                         const __grid_constant__ Gradient out) {
  const CriticalVectors<Layout> critical(out.critical);
  const Operand codes{out.data, out.grid, DType::kI8, out.rows, out.cols};
  const RandomRows random_rows(random.keys, out.cols, random.step);
  ForEachRow<Layout>(
      values, out.rows, out.cols, [&](int64_t row, int turn, typename Layout::Values& v) {
        float* apart = out.critical.values + row * out.critical.count;
        if constexpr (kAdd) AddCodes<Layout>(out, row, v);
        float largest = 0.0f;
#pragma unroll
        for (int i = 0; i < Layout::kVectors; ++i) {
          if (critical.Mask(i) != 0) {
            if constexpr (kAdd) critical.Add(i, apart, v[i]);
            critical.Store(i, v[i], apart);
#pragma unroll
            for (int j = 0; j < kVector; ++j) {
              if ((critical.Mask(i) >> j & 1) != 0) v[i][j] = 0.0f;
            }
          }
#pragma unroll
          for (int j = 0; j < kVector; ++j) largest = LargerMagnitude(largest, v[i][j]);
        }
        const RowScale scale = MakeRowScale(LargestInTurn(__float_as_int(largest), turn), 127.0f);
        if (threadIdx.x == 0) out.grid[row] = scale.scale;
        const RandomRow bits = random_rows.Row(random.keys, random.row_offset + row);
        int squares = 0;
#pragma unroll
        for (int i = 0; i < Layout::kVectors; ++i) {
          const int64_t c = Layout::Column(i);
          if (c >= out.cols) continue;
          const uint2 rounded = StoreRounded8<kStochastic>(v[i], scale.inverse, random_rows, bits,
                                                           random.keys, row, c, codes);
          squares = SquareSum8(rounded, squares);
        }
        squares = SumInTurn(squares, turn);
        if (threadIdx.x >= 32) return;
        const int64_t count = out.critical.count;
        const double of_critical = count == 0 ? 0.0 : SquareSumOfValues(apart, count);
        if (threadIdx.x == 0) {
          out.square_sums[row] = RowSquareSum(scale.scale, squares, of_critical);
        }
      });
}

// values += decoded gradient. A block a row.
__global__ void __launch_bounds__(kRowThreads)
    AccumulateGradientKernel(Gradient gradient, float* values) {
  const int64_t row = blockIdx.x;
  const int64_t offset = row * gradient.cols;
  const bool coded = gradient.dtype == DType::kI8;
  const float grid = coded ? gradient.grid[row] : 1.0f;
  for (int64_t c = threadIdx.x * kVector; c < gradient.cols; c += kRowThreads * kVector) {
    float v[kVector], add[kVector];
    Load8(values + offset, c, gradient.cols, v);
    if (coded) {
      Load8(static_cast<const int8_t*>(gradient.data) + offset, c, gradient.cols, add);
#pragma unroll
      for (int i = 0; i < kVector; ++i) add[i] = grid * add[i];
    } else {
      Load8(static_cast<const float*>(gradient.data) + offset, c, gradient.cols, add);
    }
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] += add[i];
    Store8(values + offset, c, gradient.cols, v);
  }
  if (!coded) return;
  __syncthreads();
  for (int i = threadIdx.x; i < gradient.critical.count; i += kRowThreads) {
    values[offset + gradient.critical.columns[i]] +=
        gradient.critical.values[row * gradient.critical.count + i];
  }
}

// row_sums [rows]: of squares of values [rows, cols]. A warp a row.
__global__ void __launch_bounds__(kRowThreads)
    RowSquareSumKernel(const float* values, int64_t rows, int64_t cols, double* row_sums) {
  const int64_t row = int64_t{blockIdx.x} * kSumRows + threadIdx.x / 32;
  if (row >= rows) return;
  const double sum = SquareSumOfValues(values + row * cols, cols);
  if (threadIdx.x % 32 == 0) row_sums[row] = sum;
}

__global__ void __launch_bounds__(kSumThreads)
    AddSquareSumKernel(const double* row_sums, int64_t rows, StepState* step) {
  double sum = 0;
  for (int64_t r = threadIdx.x; r < rows; r += kSumThreads) sum += row_sums[r];
  sum = BlockReduce(sum, AddValues());
  if (threadIdx.x != 0) return;
  const auto scale = static_cast<double>(step->gradient_scale);
  step->gradient_square_sum += scale * scale * sum;
}

__global__ void SetClipFactorKernel(float max_norm, double square_sum_override, StepState* step) {
  const double square_sum =
      square_sum_override >= 0 ? square_sum_override : step->gradient_square_sum;
  const bool finite = isfinite(square_sum);
  step->skip_update = finite ? 0 : 1;
  step->clip_factor = 1.0f;
  if (!finite || !(max_norm > 0)) return;
  const double norm = sqrt(square_sum);
  const auto most = static_cast<double>(max_norm);
  if (norm > most) step->clip_factor = static_cast<float>(most / norm);
}

}  // namespace

void CudaEngine::EncodeGradient(const Matrix& values, Rounding rounding, const RandomStream& random,
                                const StepState* step, bool add, const Gradient& out) {
  if (!SupportsDType(out.dtype) || out.rows == 0) return;
  if (out.dtype == DType::kF32) {
    if (values.dtype != DType::kF32) return Fail("a gradient in fp32 needs values in fp32");
    if (add) {
      return AccumulateGradient(
          {values.data, nullptr, DType::kF32, out.rows, out.cols, {}, nullptr},
          static_cast<float*>(out.data));
    }
    const size_t bytes = static_cast<size_t>(out.rows * out.cols) * sizeof(float);
    Check(cudaMemcpyAsync(out.data, values.data, bytes, cudaMemcpyDeviceToDevice, stream_),
          "copying a gradient");
    return;
  }
  if (out.cols > kMostRowColumns) return Fail(kRowTooWide);
  const GradientRandom bits{MakeRoundKeys(random.key), random.row_offset, step};
  const bool whole_codes = WholeVectors(static_cast<const int8_t*>(out.data), out.cols);
  WithElements(values, [&](const auto* data) {
    WithFlag(rounding == Rounding::kStochastic, [&](auto stochastic) {
      WithFlag(add, [&](auto adds) {
        WithRowLayout(out.cols, whole_codes && WholeVectors(data, out.cols), [&](auto layout) {
          using Layout = decltype(layout);
          EncodeGradientKernel<decltype(stochastic)::value, decltype(adds)::value, Layout>
              <<<RowBlocks<Layout>(out.rows, multiprocessors_), Layout::kThreads, 0, stream_>>>(
                  data, bits, out);
        });
      });
    });
  });
  CheckLaunch("encoding a gradient");
}

void CudaEngine::AccumulateGradient(const Gradient& gradient, float* values) {
  if (!SupportsDType(gradient.dtype) || gradient.rows == 0) return;
  AccumulateGradientKernel<<<gradient.rows, kRowThreads, 0, stream_>>>(gradient, values);
  CheckLaunch("accumulating a gradient");
}

void CudaEngine::AddSquareSum(const Gradient& gradient, StepState* step) {
  if (!SupportsDType(gradient.dtype) || gradient.rows <= 0) return;
  if (gradient.dtype == DType::kI8) return AddRowSums(gradient.square_sums, gradient.rows, step);
  auto* row_sums =
      static_cast<double*>(Scratch(static_cast<size_t>(gradient.rows) * sizeof(double)));
  if (row_sums == nullptr) return;
  const auto blocks = static_cast<unsigned>(CeilDivide(gradient.rows, kSumRows));
  RowSquareSumKernel<<<blocks, kRowThreads, 0, stream_>>>(static_cast<const float*>(gradient.data),
                                                          gradient.rows, gradient.cols, row_sums);
  AddRowSums(row_sums, gradient.rows, step);
}

void CudaEngine::AddRowSums(const double* row_sums, int64_t rows, StepState* step) {
  AddSquareSumKernel<<<1, kSumThreads, 0, stream_>>>(row_sums, rows, step);
  CheckLaunch("summing squares");
}

void CudaEngine::SetClipFactor(float max_norm, double square_sum_override, StepState* step) {
  SetClipFactorKernel<<<1, 1, 0, stream_>>>(max_norm, square_sum_override, step);
  CheckLaunch("setting the clip factor");
}

}  // namespace qft::cuda
