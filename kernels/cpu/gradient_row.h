// A row of a gradient: its critical features apart, and its squares.
#pragma once

#include "kernels/cpu/quantize_folded.h"

namespace qft::QFT_ISA {

inline double SquareSumOfCodes(const int8_t* codes, float grid, int64_t cols) {
  int64_t sum = 0;
  for (int64_t c = 0; c < cols; ++c) sum += int32_t{codes[c]} * codes[c];
  return static_cast<double>(grid) * static_cast<double>(grid) * static_cast<double>(sum);
}

inline double SquareSumOfValues(const float* values, int64_t cols) {
  double sum = 0;
  for (int64_t c = 0; c < cols; ++c) {
    const double value = static_cast<double>(values[c]);
    sum += value * value;
  }
  return sum;
}

// Moves the critical features of a row out of `values` to taken [critical.count].
inline void TakeCritical(const CriticalFeatures& critical, float* values, float* taken) {
  for (int32_t i = 0; i < critical.count; ++i) {
    float& value = values[critical.columns[i]];
    taken[i] = value;
    value = 0.0f;
  }
}

// values [cols] -> codes and grid, critical features moved to taken [critical.count]; returns the
// sum of squares of what stands there then.
inline double EncodeGradientRow(const CriticalFeatures& critical, int64_t cols, Rounding rounding,
                                const RandomKeys& keys, int64_t random_row, float* values,
                                int8_t* codes, float* grid, float* taken) {
  TakeCritical(critical, values, taken);
  QuantizeRowFolded(values, nullptr, cols, rounding, keys, random_row, codes, grid);
  return SquareSumOfCodes(codes, *grid, cols) + SquareSumOfValues(taken, critical.count);
}

inline void AddToSquareSum(const double* row_sums, int64_t rows, StepState* step) {
  double sum = 0;
  for (int64_t r = 0; r < rows; ++r) sum += row_sums[r];
  const double scale = static_cast<double>(step->gradient_scale);
  step->gradient_square_sum += scale * scale * sum;
}

}  // namespace qft::QFT_ISA
