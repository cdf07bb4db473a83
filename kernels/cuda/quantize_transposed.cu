#include "kernels/cuda/engine.h"
#include "kernels/cuda/quantize_gradient.cuh"

namespace qft::cuda {
namespace {

constexpr int kTileRows = 128;
constexpr int kTileCols = 64;
constexpr int kTileStride = kTileRows + 4;  // bytes; spreads a column's words over the banks
constexpr int kRowsAtOnce = 4;              // of a thread
// Of a block that looks for the largest.
constexpr int kMaxRows = 128;
constexpr int kMaxCols = 32 * kVector;
constexpr int kWarps = kRowThreads / 32;

template <typename T>
struct Source {
  const T* data;
  const float* fold;  // one factor a row; nullptr: ones
  int64_t rows;
  int64_t cols;
};

// kCount rows from r on, kStride apart, eight columns each; zeros behind the ends. All loads before
// anything waits for one.
template <bool kWhole, int kCount, int kStride, typename T>
__device__ void LoadRows8(const Source<T>& dy, int64_t r, int64_t c, float (&v)[kCount][kVector]) {
  float factor[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
    const int64_t row = r + i * kStride;
    const bool inside = row < dy.rows && c < dy.cols;
    factor[i] = inside && dy.fold != nullptr ? dy.fold[row] : 1.0f;
    if (kWhole) {  // without a branch: what is outside reads what is inside
      LoadVector8<true>(dy.data + Smaller(row, dy.rows - 1) * dy.cols,
                        Smaller(c, dy.cols - kVector), dy.cols, v[i]);
      if (!inside) factor[i] = 0.0f;
    } else {
#pragma unroll
      for (int j = 0; j < kVector; ++j) v[i][j] = 0.0f;
      if (inside) Load8(dy.data + row * dy.cols, c, dy.cols, v[i]);
    }
  }
#pragma unroll
  for (int i = 0; i < kCount; ++i) {
#pragma unroll
    for (int j = 0; j < kVector; ++j) v[i][j] = v[i][j] * factor[i];
  }
}

// largest [cols], zeroed before: bits of the largest magnitude of each column. Integer maxima, so
// that the order of blocks does not matter. A warp kMaxCols columns, the block's warps turns of
// rows.
template <bool kWhole, typename T>
__global__ void __launch_bounds__(kRowThreads) ColumnLargestKernel(Source<T> dy, int32_t* largest) {
  __shared__ float partial[kWarps][kMaxCols];
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int64_t first_col = int64_t{blockIdx.x} * kMaxCols;
  const int64_t begin = int64_t{blockIdx.y} * kMaxRows;
  float found[kVector] = {};
  for (int64_t r = begin + warp; r < begin + kMaxRows; r += kWarps * kRowsAtOnce) {
    float v[kRowsAtOnce][kVector];
    LoadRows8<kWhole, kRowsAtOnce, kWarps>(dy, r, first_col + lane * kVector, v);
#pragma unroll
    for (int i = 0; i < kRowsAtOnce * kVector; ++i) {
      found[i % kVector] = LargerMagnitude(found[i % kVector], v[i / kVector][i % kVector]);
    }
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) partial[warp][lane * kVector + i] = found[i];
  __syncthreads();
  static_assert(kMaxCols == kRowThreads);
  if (first_col + threadIdx.x >= dy.cols) return;
  float most = 0.0f;
#pragma unroll
  for (int i = 0; i < kWarps; ++i) most = LargerMagnitude(most, partial[i][threadIdx.x]);
  atomicMax(largest + first_col + threadIdx.x, __float_as_int(most));
}

// inverses [kTileCols] in shared memory of the columns from first_col on, 0 where all codes are;
// their scales are written by the blocks of the first rows.
__device__ void MakeInverses(const int32_t* largest, int64_t first_col, int64_t cols, bool first,
                             float* scales, float* inverses) {
  const int i = threadIdx.x;
  if (i >= kTileCols) return;
  inverses[i] = 0.0f;
  if (first_col + i >= cols) return;
  const RowScale scale = MakeRowScale(largest[first_col + i], 127.0f);
  inverses[i] = scale.inverse;
  if (first) scales[first_col + i] = scale.scale;
}

// dy [T, N] -> out [N, T] codes. A block a tile of kTileRows x kTileCols; a thread makes four rows
// of eight columns, so that the transposed tile takes words of four codes. The last rows come
// first: the cache has them yet from the search for the largest.
template <bool kStochastic, bool kWhole, typename T>
__global__ void __launch_bounds__(kRowThreads)
    QuantizeTransposedKernel(Source<T> dy, const int32_t* largest,
                             const __grid_constant__ GradientRandom random, float* scales,
                             int8_t* out) {
  __shared__ uint32_t tile[kTileCols * kTileStride / 4];
  __shared__ float inverses[kTileCols];
  const int64_t first_row = int64_t{gridDim.y - 1 - blockIdx.y} * kTileRows;
  const int64_t first_col = int64_t{blockIdx.x} * kTileCols;
  const int group = threadIdx.x % (kTileCols / kVector);
  const int quad = threadIdx.x / (kTileCols / kVector);
  const int64_t r = first_row + kRowsAtOnce * quad;
  const int64_t c = first_col + group * kVector;
  float v[kRowsAtOnce][kVector];
  LoadRows8<kWhole, kRowsAtOnce, 1>(dy, r, c, v);
  MakeInverses(largest, first_col, dy.cols, first_row == 0, scales, inverses);
  __syncthreads();
  const RandomRows random_rows(random.keys, dy.cols, random.step);
  uint32_t left[kRowsAtOnce];
  uint32_t right[kRowsAtOnce];
#pragma unroll
  for (int q = 0; q < kRowsAtOnce; ++q) {
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[q][i] = v[q][i] * inverses[group * kVector + i];
    PhiloxBlock bits{};
    if (kStochastic) {
      bits =
          random_rows.At(random.keys, random_rows.Row(random.keys, random.row_offset + r + q), c);
    }
    const uint2 codes = PackCodes8<kStochastic>(v[q], bits);
    left[q] = codes.x;
    right[q] = codes.y;
  }
  Transpose4(left);
  Transpose4(right);
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    tile[(group * kVector + i) * (kTileStride / 4) + quad] = i < 4 ? left[i] : right[i - 4];
  }
  __syncthreads();
  // 16 codes a thread and turn: eight threads a column of the tile.
  for (int i = threadIdx.x; i < kTileCols * kTileRows / 16; i += kRowThreads) {
    const int64_t c = first_col + i / (kTileRows / 16);
    const int64_t r = first_row + i % (kTileRows / 16) * 16;
    if (c >= dy.cols || r >= dy.rows) continue;
    const uint32_t* from =
        tile + i / (kTileRows / 16) * (kTileStride / 4) + i % (kTileRows / 16) * 4;
    int8_t* to = out + c * dy.rows + r;
    if (r + 16 <= dy.rows && reinterpret_cast<uintptr_t>(to) % 16 == 0) {
      *reinterpret_cast<uint4*>(to) = make_uint4(from[0], from[1], from[2], from[3]);
      continue;
    }
    for (int j = 0; j < 16 && r + j < dy.rows; ++j) {
      to[j] = static_cast<int8_t>(from[j / 4] >> (8 * (j % 4)));
    }
  }
}

// dy [T, N] -> out [N, T] fp32.
template <typename T>
__global__ void TransposeValuesKernel(Source<T> dy, float* out) {
  __shared__ float tile[32][33];
  const int64_t r = int64_t{blockIdx.y} * 32;
  const int64_t c = int64_t{blockIdx.x} * 32;
  for (int i = threadIdx.y; i < 32; i += blockDim.y) {
    if (r + i >= dy.rows || c + threadIdx.x >= dy.cols) continue;
    const float value = ToFloat(dy.data[(r + i) * dy.cols + c + threadIdx.x]);
    tile[i][threadIdx.x] = dy.fold == nullptr ? value : value * dy.fold[r + i];
  }
  __syncthreads();
  for (int i = threadIdx.y; i < 32; i += blockDim.y) {
    if (c + i < dy.cols && r + threadIdx.x < dy.rows) {
      out[(c + i) * dy.rows + r + threadIdx.x] = tile[threadIdx.x][i];
    }
  }
}

dim3 Tiles(int64_t cols, int64_t rows, int64_t tile_cols, int64_t tile_rows) {
  return dim3(static_cast<unsigned>(CeilDivide(cols, tile_cols)),
              static_cast<unsigned>(CeilDivide(rows, tile_rows)));
}

}  // namespace

void LaunchQuantizeTransposed(const Matrix& dy, const float* fold, const int32_t* largest,
                              Rounding rounding, const GradientRandom& random, const Operand& out,
                              cudaStream_t stream) {
  WithElements(dy, [&](auto* data) {
    using T = std::remove_reference_t<decltype(*data)>;
    WithFlag(WholeVectors(data, dy.cols), [&](auto whole) {
      WithFlag(rounding == Rounding::kStochastic, [&](auto stochastic) {
        QuantizeTransposedKernel<stochastic.value, whole.value>
            <<<Tiles(dy.cols, dy.rows, kTileCols, kTileRows), kRowThreads, 0, stream>>>(
                Source<T>{data, fold, dy.rows, dy.cols}, largest, random, out.scales,
                static_cast<int8_t*>(out.data));
      });
    });
  });
}

void CudaEngine::QuantizeOutputGradientTransposed(const Matrix& dy, const float* fold,
                                                  Rounding rounding, const RandomStream& random,
                                                  const StepState* step, const Operand& out) {
  if (!SupportsDType(out.dtype) || dy.rows == 0) return;
  if (out.dtype == DType::kF32) {
    WithElements(dy, [&](auto* data) {
      using T = std::remove_reference_t<decltype(*data)>;
      TransposeValuesKernel<<<Tiles(dy.cols, dy.rows, 32, 32), dim3(32, 8), 0, stream_>>>(
          Source<T>{data, fold, dy.rows, dy.cols}, static_cast<float*>(out.data));
    });
    return CheckLaunch("transposing an output gradient");
  }
  auto* largest = static_cast<int32_t*>(Scratch(static_cast<size_t>(dy.cols) * sizeof(int32_t)));
  if (largest == nullptr) return;
  Fill(largest, 0, static_cast<size_t>(dy.cols) * sizeof(int32_t));
  WithElements(dy, [&](auto* data) {
    using T = std::remove_reference_t<decltype(*data)>;
    WithFlag(WholeVectors(data, dy.cols), [&](auto whole) {
      ColumnLargestKernel<whole.value>
          <<<Tiles(dy.cols, dy.rows, kMaxCols, kMaxRows), kRowThreads, 0, stream_>>>(
              Source<T>{data, fold, dy.rows, dy.cols}, largest);
    });
  });
  LaunchQuantizeTransposed(dy, fold, largest, rounding,
                           {MakeRoundKeys(random.key), random.row_offset, step}, out, stream_);
  CheckLaunch("quantising a transposed output gradient");
}

}  // namespace qft::cuda
