#include "kernels/cuda/engine.h"
#include "kernels/cuda/philox.cuh"
#include "kernels/cuda/row.cuh"

namespace qft::cuda {
namespace {

constexpr int kSumThreads = 1024;

// values [rows, cols] -> codes with a scale a row; critical features are moved out of `values`. A
// block a row, whose values come from the cache when they are read again.
template <bool kStochastic, bool kWhole>
__global__ void __launch_bounds__(kRowThreads)
    EncodeGradientKernel(float* values, RoundKeys keys, int64_t row_offset, const StepState* step,
                         Gradient out) {
  const int64_t row = blockIdx.x;
  float* x = values + row * out.cols;
  for (int i = threadIdx.x; i < out.critical.count; i += kRowThreads) {
    float& value = x[out.critical.columns[i]];
    out.critical.values[row * out.critical.count + i] = value;
    value = 0.0f;
  }
  __syncthreads();
  float largest = 0.0f;
#pragma unroll 2
  for (int64_t c = threadIdx.x * kVector; c < out.cols; c += kRowThreads * kVector) {
    float v[kVector];
    LoadVector8<kWhole>(x, c, out.cols, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) largest = LargerMagnitude(largest, v[i]);
  }
  const RowScale scale = MakeRowScale(LargestOfBlock(__float_as_int(largest)), 127.0f);
  if (threadIdx.x == 0) out.grid[row] = scale.scale;
  const RandomRow random(keys, row_offset + row, out.cols, step);
  int8_t* codes = static_cast<int8_t*>(out.data) + row * out.cols;
  for (int64_t c = threadIdx.x * kVector; c < out.cols; c += kRowThreads * kVector) {
    float v[kVector];
    LoadVector8<kWhole>(x, c, out.cols, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] = v[i] * scale.inverse;  // 0 where the scale is
    PhiloxBlock bits{};
    if (kStochastic) bits = random.At(keys, c);
    StoreCodes8(codes, c, out.cols, PackCodes8<kStochastic>(v, bits));
  }
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
      int codes[kVector];
      Load8(static_cast<const int8_t*>(gradient.data) + offset, c, gradient.cols, codes);
#pragma unroll
      for (int i = 0; i < kVector; ++i) add[i] = grid * static_cast<float>(codes[i]);
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

__device__ double SquareSumOfValues(const float* values, int64_t cols) {
  double sum = 0;
  for (int64_t c = threadIdx.x; c < cols; c += kRowThreads) {
    const auto value = static_cast<double>(values[c]);
    sum += value * value;
  }
  return BlockReduce(sum, AddValues());
}

// Of this thread's codes of a row: at most cols / 256 squares of 127.
__device__ int SquareSumOfCodes(const int8_t* codes, int64_t cols) {
  constexpr int kBytes = 16;
  int sum = 0;
#pragma unroll 2
  for (int64_t c = threadIdx.x * kBytes; c < cols; c += kRowThreads * kBytes) {
    const int8_t* p = codes + c;
    if (c + kBytes <= cols && reinterpret_cast<uintptr_t>(p) % kBytes == 0) {
      const int4 words = *reinterpret_cast<const int4*>(p);
      sum = __dp4a(words.x, words.x, __dp4a(words.y, words.y, sum));
      sum = __dp4a(words.z, words.z, __dp4a(words.w, words.w, sum));
      continue;
    }
    for (int i = 0; i < kBytes && c + i < cols; ++i) sum += p[i] * p[i];
  }
  return sum;
}

// row_sums [rows]: of squares. A block a row.
__global__ void __launch_bounds__(kRowThreads)
    RowSquareSumKernel(Gradient gradient, double* row_sums) {
  const int64_t row = blockIdx.x;
  const int64_t offset = row * gradient.cols;
  if (gradient.dtype == DType::kF32) {
    const double sum =
        SquareSumOfValues(static_cast<const float*>(gradient.data) + offset, gradient.cols);
    if (threadIdx.x == 0) row_sums[row] = sum;
    return;
  }
  const int8_t* codes = static_cast<const int8_t*>(gradient.data) + offset;
  const int sum = SquareSumOfCodes(codes, gradient.cols);
  const long long total = BlockReduce(static_cast<long long>(sum), AddValues());
  const double critical = SquareSumOfValues(
      gradient.critical.values + row * gradient.critical.count, gradient.critical.count);
  if (threadIdx.x != 0) return;
  const auto grid = static_cast<double>(gradient.grid[row]);
  row_sums[row] = grid * grid * static_cast<double>(total) + critical;
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

void CudaEngine::EncodeGradient(float* values, Rounding rounding, const RandomStream& random,
                                const StepState* step, const Gradient& out) {
  if (!SupportsDType(out.dtype) || out.rows == 0) return;
  if (out.dtype == DType::kF32) {
    const size_t bytes = static_cast<size_t>(out.rows * out.cols) * sizeof(float);
    Check(cudaMemcpyAsync(out.data, values, bytes, cudaMemcpyDeviceToDevice, stream_),
          "copying a gradient");
    return;
  }
  const RoundKeys keys = MakeRoundKeys(random.key);
  WithFlag(rounding == Rounding::kStochastic, [&](auto stochastic) {
    WithFlag(WholeVectors(values, out.cols), [&](auto whole) {
      EncodeGradientKernel<stochastic.value, whole.value>
          <<<out.rows, kRowThreads, 0, stream_>>>(values, keys, random.row_offset, step, out);
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
  auto* row_sums =
      static_cast<double*>(Scratch(static_cast<size_t>(gradient.rows) * sizeof(double)));
  if (row_sums == nullptr) return;
  RowSquareSumKernel<<<gradient.rows, kRowThreads, 0, stream_>>>(gradient, row_sums);
  AddSquareSumKernel<<<1, kSumThreads, 0, stream_>>>(row_sums, gradient.rows, step);
  CheckLaunch("summing squares");
}

void CudaEngine::SetClipFactor(float max_norm, double square_sum_override, StepState* step) {
  SetClipFactorKernel<<<1, 1, 0, stream_>>>(max_norm, square_sum_override, step);
  CheckLaunch("setting the clip factor");
}

}  // namespace qft::cuda
