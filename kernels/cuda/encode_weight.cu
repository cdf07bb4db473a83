#include "kernels/cuda/engine.h"
#include "kernels/cuda/weight_row.cuh"

namespace qft::cuda {
namespace {

// The largest initial code: room for the weight to grow before its row's grid must.
constexpr float kInitialTop = 120.0f;

// A row of zeros gets a grid too, or it could never train: fine enough that its first updates are
// not all noise; it grows as the row does.
constexpr float kZeroRowGrid = 0x1p-13f;

__device__ void Load16(const float* row, int64_t c, int64_t cols, float (&v)[kWide]) {
#pragma unroll
  for (int half = 0; half < kWide; half += kVector) {
    float part[kVector];
    Load8(row, c + half, cols, part);
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[half + i] = part[i];
  }
}

__device__ uint32_t CriticalMask16(const CriticalColumns& columns, int64_t c) {
  return CriticalMask(columns, c) | CriticalMask(columns, c + kVector) << kVector;
}

// values [rows, cols] -> codes, grid, residuals, critical values. A block a row.
__global__ void __launch_bounds__(kRowThreads) EncodeWeightKernel(const float* values, Weight out) {
  __shared__ CriticalColumns columns;
  const int64_t row = blockIdx.x;
  const float* x = values + row * out.cols;
  LoadCriticalColumns(out.critical, &columns);
  int32_t largest = 0;
  for (int64_t c = threadIdx.x * kVector; c < out.cols; c += kRowThreads * kVector) {
    float v[kVector];
    Load8(x, c, out.cols, v);
    largest = LargestMagnitude(v, CriticalMask(columns, c), largest);
  }
  const RowScale scale = MakeRowScale(BlockReduce(largest, MaxOfValues()), kInitialTop);
  const float steps_per_grid = out.residual == nullptr ? 1.0f : float{kResidualSteps};
  const float steps_per_unit = scale.inverse * steps_per_grid;
  const bool tiny = scale.scale == 0.0f || !(steps_per_unit <= 3.402823466e+38f);
  const bool zero = scale.zero || tiny;
  if (threadIdx.x == 0) out.grid[row] = tiny ? kZeroRowGrid : scale.scale;
  const float top = 127.0f * steps_per_grid;
  int8_t* codes = static_cast<int8_t*>(out.data) + row * out.cols;
  uint8_t* residual =
      out.residual == nullptr ? nullptr : out.residual + row * ResidualBytes(out.cols);
  for (int64_t c = threadIdx.x * kWide; c < out.cols; c += kRowThreads * kWide) {
    float v[kWide];
    int steps[kWide];
    Load16(x, c, out.cols, v);
    const uint32_t mask = CriticalMask16(columns, c);
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      const float scaled = fmaxf(fminf(v[i] * steps_per_unit, top), -top);
      steps[i] = zero || (mask >> i & 1) != 0 ? 0 : RoundToInt(scaled);
    }
    StoreSteps16(codes, residual, c, out.cols, steps);
  }
  for (int i = threadIdx.x; i < columns.count; i += kRowThreads) {
    out.critical.values[row * columns.count + i] = x[columns.column[i]];
  }
}

__global__ void __launch_bounds__(kRowThreads)
    DecodeWeightKernel(Weight w, int64_t row_begin, float* values) {
  DecodeWeightRow(w, row_begin + blockIdx.x, values + blockIdx.x * w.cols);
}

// Values from the host go through so much device memory at a time.
constexpr int64_t kStagingFloats = int64_t{1} << 22;

Weight RowsOf(const Weight& w, int64_t begin, int64_t rows) {
  Weight part = w;
  part.data = static_cast<int8_t*>(w.data) + begin * w.cols;
  part.grid = w.grid + begin;
  part.rows = rows;
  if (w.critical.count > 0) part.critical.values = w.critical.values + begin * w.critical.count;
  if (w.residual != nullptr) part.residual = w.residual + begin * ResidualBytes(w.cols);
  return part;
}

bool OnDevice(const void* data) {
  cudaPointerAttributes attributes;
  if (cudaPointerGetAttributes(&attributes, data) != cudaSuccess) {
    cudaGetLastError();
    return false;
  }
  return attributes.type == cudaMemoryTypeDevice;
}

}  // namespace

void CudaEngine::EncodeWeight(const float* values, const Weight& out) {
  if (!SupportsDType(out.dtype) || out.rows == 0) return;
  const size_t bytes = static_cast<size_t>(out.rows * out.cols) * sizeof(float);
  if (out.dtype == DType::kF32) {
    Check(cudaMemcpyAsync(out.data, values, bytes, cudaMemcpyDefault, stream_), "copying a weight");
    return;
  }
  if (OnDevice(values)) {
    EncodeWeightKernel<<<out.rows, kRowThreads, 0, stream_>>>(values, out);
    return CheckLaunch("encoding a weight");
  }
  const int64_t most = Smaller(out.rows, 1 + kStagingFloats / out.cols);
  auto* staging =
      static_cast<float*>(Scratch(static_cast<size_t>(most * out.cols) * sizeof(float)));
  if (staging == nullptr) return;
  for (int64_t row = 0; row < out.rows; row += most) {
    const Weight part = RowsOf(out, row, Smaller(most, out.rows - row));
    CopyToEngine(staging, values + row * out.cols,
                 static_cast<size_t>(part.rows * part.cols) * sizeof(float));
    EncodeWeightKernel<<<part.rows, kRowThreads, 0, stream_>>>(staging, part);
  }
  CheckLaunch("encoding a weight");
}

void CudaEngine::DecodeWeight(const Weight& w, int64_t row_begin, int64_t row_count,
                              float* values) {
  if (!SupportsDType(w.dtype) || row_count == 0) return;
  DecodeWeightKernel<<<row_count, kRowThreads, 0, stream_>>>(w, row_begin, values);
  CheckLaunch("decoding a weight");
}

const float* CudaEngine::Values(const Weight& w) {
  if (w.dtype == DType::kF32) return static_cast<const float*>(w.data);
  auto* values = static_cast<float*>(Scratch(static_cast<size_t>(w.rows * w.cols) * sizeof(float)));
  if (values != nullptr) DecodeWeight(w, 0, w.rows, values);
  return values;
}

}  // namespace qft::cuda
