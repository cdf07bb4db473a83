// What the INT8 matrix product kernels share: the order of their tiles and the scaling of sums.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/gemm.h"

namespace qft::cuda {

struct TileGrid {
  int rows;
  int columns;
};
struct TilePosition {
  int row;
  int column;
};

// Tiles that run at the same time have consecutive indices. Going down groups of this many rows of
// tiles makes them a patch about as high as wide, whose operands L2 serves several times over.
inline constexpr int kTileGroup = 8;

__host__ __device__ inline TilePosition TileAt(const TileGrid& grid, int index) {
  const int first = index / (kTileGroup * grid.columns) * kTileGroup;
  const int height = grid.rows - first < kTileGroup ? grid.rows - first : kTileGroup;
  const int within = index - first * grid.columns;
  return {first + within % height, within / height};
}

// row_scale[row]; 0 behind the last row.
__device__ inline float ScaleOfRow(const IntegerProblem& problem, int64_t row) {
  return row < problem.m ? problem.row_scale[row] : 0.0f;
}
// column_scale[column], or one; 0 behind the last column.
__device__ inline float ScaleOfColumn(const IntegerProblem& problem, int64_t column) {
  if (column >= problem.n) return 0.0f;
  return problem.column_scale == nullptr ? 1.0f : problem.column_scale[column];
}
// Each product rounded by itself, as in every engine.
__device__ inline float ScaledSum(float row_scale, float column_scale, float sum) {
  return __fmul_rn(__fmul_rn(row_scale, column_scale), sum);
}

// A second term's sum in units of the first's, to nearest.
__device__ inline int InFirstTermUnits(int sum) {
  return (sum + 128) >> 8;
}

__device__ inline uint32_t SharedAddress(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}

}  // namespace qft::cuda
