// Turning codes back into values.
#pragma once

#include "kernels/cpu/simd.h"
#include "kernels/ops.h"

namespace qft::QFT_ISA {

// Residuals of 16 columns from their 8 bytes (see Weight), in [-8, 7].
QFT_INLINE Int16 LoadResiduals(const uint8_t* p) {
  constexpr uint64_t kLowHalves = 0x0f0f0f0f0f0f0f0f;
  uint64_t bytes;
  std::memcpy(&bytes, p, sizeof(bytes));
  const uint64_t halves[2] = {bytes & kLowHalves, (bytes >> 4) & kLowHalves};
  Byte16 v;
  std::memcpy(&v, halves, sizeof(v));
  return (WidenCodes(v) ^ BroadcastInt(8)) - BroadcastInt(8);
}

QFT_INLINE void StoreResiduals(uint8_t* p, Int16 residuals) {
  const Byte16 v = NarrowCodes(residuals & BroadcastInt(15));
  uint64_t halves[2];
  std::memcpy(halves, &v, sizeof(v));
  const uint64_t bytes = halves[0] | halves[1] << 4;
  std::memcpy(p, &bytes, sizeof(bytes));
}

QFT_INLINE void ClearResidual(uint8_t* row, int64_t column) {
  uint8_t& byte = row[column / 16 * 8 + column % 8];
  byte = static_cast<uint8_t>(byte & (column % 16 < 8 ? 0xf0 : 0x0f));
}

// What is to nearest a code, of a weight in residual steps; a half goes upwards.
QFT_INLINE Int16 CodeOfSteps(Int16 steps) {
  return (steps + BroadcastInt(kResidualSteps / 2)) >> kResidualBits;
}

// A row of an INT8 weight.
struct WeightRow {
  const int8_t* codes;
  const uint8_t* residual;  // nullptr: none
  float grid;
  const int32_t* critical_columns;
  const float* critical_values;
  int32_t critical_count;
};

QFT_INLINE WeightRow RowOfWeight(const Weight& w, int64_t row) {
  return {static_cast<const int8_t*>(w.data) + row * w.cols,
          w.residual == nullptr ? nullptr : w.residual + row * ResidualBytes(w.cols),
          w.grid[row],
          w.critical.columns,
          w.critical.values + row * w.critical.count,
          w.critical.count};
}

QFT_INLINE Int16 LoadCodesUpTo(const int8_t* p, int64_t count) {
  return count >= kLanes ? LoadCodes(p) : LoadCodesPartial(p, count);
}

// values[i] = the row's value at column `begin` + i, for i < count; begin is a multiple of 16.
QFT_INLINE void DecodeRow(const WeightRow& row, int64_t begin, int64_t count, float* values) {
  const float step = row.residual == nullptr ? row.grid : row.grid / kResidualSteps;
  for (int64_t i = 0; i < count; i += kLanes) {
    const int64_t c = begin + i;
    Int16 steps = LoadCodesUpTo(row.codes + c, count - i);
    if (row.residual != nullptr) {
      steps = (steps << kResidualBits) + LoadResiduals(row.residual + c / 2);
    }
    const Float16 decoded = Broadcast(step) * ToFloat(steps);
    if (count - i >= kLanes) {
      Store(values + i, decoded);
    } else {
      StorePartial(values + i, decoded, count - i);
    }
  }
  for (int32_t i = 0; i < row.critical_count; ++i) {
    const int64_t c = row.critical_columns[i] - begin;
    if (c >= 0 && c < count) values[c] = row.critical_values[i];
  }
}

// values[c] += grid * codes[c]
QFT_INLINE void AddDecodedRow(const int8_t* codes, float grid, int64_t cols, float* values) {
  const Float16 scale = Broadcast(grid);
  int64_t c = 0;
  for (; c + kLanes <= cols; c += kLanes) {
    Store(values + c, Load(values + c) + scale * ToFloat(LoadCodes(codes + c)));
  }
  for (; c < cols; ++c) values[c] += grid * static_cast<float>(codes[c]);
}

}  // namespace qft::QFT_ISA
