// Pieces of the fp32 attention kernels, for any even head_dim up to 256 and fp32 or bf16 memory. A
// block of 256 threads, 16 x 16, works on square tiles of kTile rows; thread (y, x) owns rows y +
// 16 i, and of a score tile columns x + 16 j, of a tile of features columns 4 (x + 16 c) .. + 4.
#pragma once

#include "kernels/cuda/attention_common.cuh"

namespace qft::cuda {

inline constexpr int kSimtThreads = 256;
inline constexpr int kSimtSide = 16;
inline constexpr int kSimtVector = 4;

// Floats between rows in shared memory: the vectors that rows are loaded in, and so much more that
// rows at vectors touch different banks.
__host__ __device__ constexpr int SimtStride(int cols) {
  return ((cols + kVector - 1) & -kVector) + kSimtVector;
}

__device__ inline int SimtRow(int i) {
  return static_cast<int>(threadIdx.x) / kSimtSide + kSimtSide * i;
}
__device__ inline int SimtColumn(int j) {
  return static_cast<int>(threadIdx.x) % kSimtSide + kSimtSide * j;
}

// Row r of the tile, [kTile][SimtStride(dim)]: dim elements of x from offset + r * stride on, then
// zeros up to whole vectors; zeros from row `rows` on.
template <int kTile>
__device__ inline void LoadSimtTile(const Elements& x, int64_t offset, int64_t stride, int rows,
                                    int dim, float* tile) {
  for (int r = SimtRow(0); r < kTile; r += kSimtSide) {
    for (int c = kVector * SimtColumn(0); c < dim; c += kVector * kSimtSide) {
      float v[kVector] = {};
      if (r < rows) LoadElements(x, offset + r * stride + c, dim - c, v);
      float4* to = reinterpret_cast<float4*>(tile + r * SimtStride(dim) + c);
      to[0] = make_float4(v[0], v[1], v[2], v[3]);
      to[1] = make_float4(v[4], v[5], v[6], v[7]);
    }
  }
}

// products[i][j] = row SimtRow(i) of `rows` times row SimtColumn(j) of `columns`, both
// [kTile][SimtStride(dim)].
template <int kTile>
__device__ inline void SimtProducts(const float* rows, const float* columns, int dim,
                                    float (&products)[kTile / kSimtSide][kTile / kSimtSide]) {
  constexpr int kOwn = kTile / kSimtSide;
  const int stride = SimtStride(dim);
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
#pragma unroll
    for (int j = 0; j < kOwn; ++j) products[i][j] = 0.0f;
  }
#pragma unroll 2
  for (int d = 0; d < dim; d += kSimtVector) {
    float4 x[kOwn], y[kOwn];
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      x[i] = *reinterpret_cast<const float4*>(rows + SimtRow(i) * stride + d);
      y[i] = *reinterpret_cast<const float4*>(columns + SimtColumn(i) * stride + d);
    }
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
#pragma unroll
      for (int j = 0; j < kOwn; ++j) {
        float sum = products[i][j];
        sum = fmaf(x[i].x, y[j].x, sum);
        sum = fmaf(x[i].y, y[j].y, sum);
        sum = fmaf(x[i].z, y[j].z, sum);
        products[i][j] = fmaf(x[i].w, y[j].w, sum);
      }
    }
  }
}

// Puts the thread's part of a score tile into [kTile][SimtStride(kTile)].
template <int kTile>
__device__ inline void StoreSimtScores(const float (&scores)[kTile / kSimtSide][kTile / kSimtSide],
                                       float* tile) {
#pragma unroll
  for (int i = 0; i < kTile / kSimtSide; ++i) {
#pragma unroll
    for (int j = 0; j < kTile / kSimtSide; ++j) {
      tile[SimtRow(i) * SimtStride(kTile) + SimtColumn(j)] = scores[i][j];
    }
  }
}

__device__ inline void AddScaled(float factor, const float4& x, float (&sum)[kSimtVector]) {
  sum[0] = fmaf(factor, x.x, sum[0]);
  sum[1] = fmaf(factor, x.y, sum[1]);
  sum[2] = fmaf(factor, x.z, sum[2]);
  sum[3] = fmaf(factor, x.w, sum[3]);
}

// sums [kTile, dim] += weights [kTile][SimtStride(kTile)] * rows [kTile][SimtStride(dim)].
template <int kTile, int kVectors>
__device__ inline void AddWeightedRows(const float* weights, const float* rows, int dim,
                                       float (&sums)[kTile / kSimtSide][kVectors][kSimtVector]) {
  constexpr int kOwn = kTile / kSimtSide;
  for (int k = 0; k < kTile; k += kSimtVector) {
    float4 w[kOwn];
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      w[i] = *reinterpret_cast<const float4*>(weights + SimtRow(i) * SimtStride(kTile) + k);
    }
#pragma unroll
    for (int c = 0; c < kVectors; ++c) {
      const int column = kSimtVector * SimtColumn(c);
      if (column >= dim) continue;
      const float* from = rows + k * SimtStride(dim) + column;
#pragma unroll
      for (int u = 0; u < kSimtVector; ++u) {
        const float4 x = *reinterpret_cast<const float4*>(from + u * SimtStride(dim));
#pragma unroll
        for (int i = 0; i < kOwn; ++i) {
          const float factor = u == 0 ? w[i].x : u == 1 ? w[i].y : u == 2 ? w[i].z : w[i].w;
          AddScaled(factor, x, sums[i][c]);
        }
      }
    }
  }
}

// The thread's part of one row, times `factor`, to x from `offset` on.
template <int kVectors>
__device__ inline void StoreSimtRow(const float (&row)[kVectors][kSimtVector], float factor,
                                    int dim, const Elements& x, int64_t offset) {
#pragma unroll
  for (int c = 0; c < kVectors; ++c) {
    const int column = kSimtVector * SimtColumn(c);
    if (column >= dim) continue;
    StorePair(x, offset + column, row[c][0] * factor, row[c][1] * factor);
    if (column + 2 >= dim) continue;
    StorePair(x, offset + column + 2, row[c][2] * factor, row[c][3] * factor);
  }
}

}  // namespace qft::cuda
