#include "kernels/cuda/engine.h"
#include "kernels/cuda/row.cuh"

namespace qft::cuda {
namespace {

constexpr int kTileRows = 128;
constexpr int kTileCols = 64;
constexpr int kTileStride = kTileRows + 4;  // bytes; spreads a column's words over the banks
constexpr int kMaxRowsPerBlock = 32;

template <typename T>
struct Source {
  const T* data;
  const float* fold;  // one factor a row; nullptr: ones
  int64_t rows;
  int64_t cols;

  __device__ void Load(int64_t r, int64_t c, float (&v)[kVector]) const {
    Load8(data + r * cols, c, cols, v);
    if (fold == nullptr) return;
    const float factor = fold[r];
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] = v[i] * factor;
  }
};

// largest [cols], zeroed before: bits of the largest magnitude of each column. Integer maxima, so
// that the order of blocks does not matter.
template <typename T>
__global__ void __launch_bounds__(kRowThreads) ColumnLargestKernel(Source<T> dy, int32_t* largest) {
  const int64_t c = (int64_t{blockIdx.x} * kRowThreads + threadIdx.x) * kVector;
  if (c >= dy.cols) return;
  const int64_t begin = int64_t{blockIdx.y} * kMaxRowsPerBlock;
  const int64_t end = Smaller(dy.rows, begin + kMaxRowsPerBlock);
  int32_t found[kVector] = {};
  for (int64_t r = begin; r < end; ++r) {
    float v[kVector];
    dy.Load(r, c, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      const int32_t bits = MagnitudeBits(v[i]);
      found[i] = bits > found[i] ? bits : found[i];
    }
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    if (c + i < dy.cols) atomicMax(largest + c + i, found[i]);
  }
}

struct Random {
  Rounding rounding;
  RandomStream stream;
  const StepState* step;  // nullptr: step 0
};

// Eight codes of row r from column c on; scales [cols] are written by the first row.
template <typename T>
__device__ void QuantizeColumns8(const Source<T>& dy, const int32_t* largest, const Random& random,
                                 uint64_t step, int64_t r, int64_t c, float* scales,
                                 int (&codes)[kVector]) {
  float v[kVector];
  uint32_t bits[kVector];
  dy.Load(r, c, v);
  const bool stochastic = random.rounding == Rounding::kStochastic;
  if (stochastic) {
    Random16(random.stream.key, step, random.stream.row_offset + r, dy.cols, c, bits);
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    codes[i] = 0;
    if (c + i >= dy.cols) continue;
    const RowScale scale = MakeRowScale(largest[c + i], 127.0f);
    if (r == 0) scales[c + i] = scale.scale;
    if (scale.zero) continue;
    const float scaled = v[i] * scale.inverse;
    codes[i] = stochastic ? RoundStochastic16(scaled, bits[i]) : RoundToInt(scaled);
  }
}

// dy [T, N] -> out [N, T] codes. A block a tile of kTileRows x kTileCols; a thread makes four rows
// of eight columns, so that the transposed tile takes words of four codes.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    QuantizeTransposedKernel(Source<T> dy, const int32_t* largest, Random random, float* scales,
                             int8_t* out) {
  __shared__ uint32_t tile[kTileCols * kTileStride / 4];
  const int64_t first_row = int64_t{blockIdx.y} * kTileRows;
  const int64_t first_col = int64_t{blockIdx.x} * kTileCols;
  const uint64_t step = random.step != nullptr ? random.step->step : 0;
  const int group = threadIdx.x % (kTileCols / kVector);
  const int quad = threadIdx.x / (kTileCols / kVector);
  uint32_t words[kVector] = {};
  for (int q = 0; q < 4; ++q) {
    const int64_t r = first_row + 4 * quad + q;
    const int64_t c = first_col + group * kVector;
    if (r >= dy.rows || c >= dy.cols) continue;
    int codes[kVector];
    QuantizeColumns8(dy, largest, random, step, r, c, scales, codes);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      words[i] |= (static_cast<uint32_t>(codes[i]) & 0xffu) << (8 * q);
    }
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    tile[(group * kVector + i) * (kTileStride / 4) + quad] = words[i];
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
    const Source<T> source{data, fold, dy.rows, dy.cols};
    ColumnLargestKernel<<<Tiles(dy.cols, dy.rows, kRowThreads * kVector, kMaxRowsPerBlock),
                          kRowThreads, 0, stream_>>>(source, largest);
    QuantizeTransposedKernel<<<Tiles(dy.cols, dy.rows, kTileCols, kTileRows), kRowThreads, 0,
                               stream_>>>(source, largest, Random{rounding, random, step},
                                          out.scales, static_cast<int8_t*>(out.data));
  });
  CheckLaunch("quantising a transposed output gradient");
}

}  // namespace qft::cuda
