// What the matmuls of linear layers come down to.
#pragma once

#include <cstdint>

#include "kernels/cpu/onednn.h"
#include "kernels/cpu/simd.h"
#include "kernels/ops.h"

namespace qft::QFT_ISA {

// out [m, n] = a [m, k] * b, b [k, n], or [n, k] when b_transposed; added to out when accumulate.
// out[i, j] = fl(fl(row_scale[i] * column_scale[j]) * float(sum)), where there is `second`, a
// second term of a, as Engine::MatmulForward says.
struct IntegerProblem {
  int64_t m;
  int64_t n;
  int64_t k;
  const int8_t* a;
  const int8_t* b;
  bool b_transposed;
  const float* row_scale;
  const float* column_scale;  // nullptr: ones
  float* out;
  bool accumulate;
  // Of a, and b's values at them [n, count]; added where b_transposed, see Engine::MatmulForward.
  CriticalFeatures critical;
  const float* critical_weights = nullptr;
  const int8_t* second = nullptr;
};

// The same in fp32 without scales. b holds values, or is an INT8 weight.
struct FloatProblem {
  int64_t m;
  int64_t n;
  int64_t k;
  const float* a;
  const float* b_values;  // nullptr: b_weight
  const Weight* b_weight;
  bool b_transposed;
  float* out;
  bool accumulate;
};

// A second term's sum in units of the first's, to nearest.
QFT_INLINE int32_t InFirstTermUnits(int32_t sum) {
  return (sum + 128) >> 8;
}
// Of a sum that is continued in fp32.
inline constexpr float kFirstTermUnit = 0x1p-8f;

// Splits [0, total) into pieces of equal size, the last perhaps smaller, none above `limit`; the
// size is a multiple of 16 unless it is `total`.
QFT_INLINE int64_t EvenTile(int64_t total, int64_t limit) {
  const int64_t pieces = (total + limit - 1) / limit;
  const int64_t size = (total + pieces - 1) / pieces;
  return size == total ? total : (size + 15) / 16 * 16;
}
QFT_INLINE int64_t Pieces(int64_t total, int64_t tile) {
  return (total + tile - 1) / tile;
}
QFT_INLINE int64_t RoundUp(int64_t value, int64_t step) {
  return Pieces(value, step) * step;
}
QFT_INLINE int64_t Smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

// Part of a result that one task makes.
struct Tile {
  int64_t row;
  int64_t rows;
  int64_t column;
  int64_t columns;
};

struct TileGrid {
  int64_t m;
  int64_t n;
  int64_t rows;
  int64_t columns;
};

QFT_INLINE int64_t TileCount(const TileGrid& grid) {
  return Pieces(grid.m, grid.rows) * Pieces(grid.n, grid.columns);
}
QFT_INLINE Tile TileAt(const TileGrid& grid, int64_t task) {
  const int64_t across = Pieces(grid.n, grid.columns);
  const int64_t row = task / across * grid.rows;
  const int64_t column = task % across * grid.columns;
  return {row, Smaller(grid.rows, grid.m - row), column, Smaller(grid.columns, grid.n - column)};
}

}  // namespace qft::QFT_ISA
