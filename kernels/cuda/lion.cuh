// A step of Lion on codes: the numbers of a step and of a row that both ways of updating a row
// share. Every product and sum is one fp32 operation, rounded by itself, in the order of
// kernels/cpu/lion_row.h, so that both engines have the same bits.
#pragma once

#include "kernels/cuda/weight_row.cuh"

namespace qft::cuda {

// Threads of a block, which works on one row at a time.
inline constexpr int kLionThreads = 128;
// Steps a single update may move a weight; more would not fit the grid however it grows.
inline constexpr float kMaxMove = 1048576.0f;
inline constexpr float kGrowth = 1.0625f;

struct Lion {
  LionOptions options;
  float rest1;  // 1 - beta1
  float rest2;
  float rate;             // learning rate * factor of the group
  float gradient_factor;  // gradient_scale * clip_factor
  bool stochastic;
  uint64_t step;
};

__device__ inline Lion MakeLion(const LionOptions& options, const StepState& step) {
  return {options,
          1.0f - options.beta1,
          1.0f - options.beta2,
          step.learning_rate * options.learning_rate_factor,
          step.gradient_scale * step.clip_factor,
          options.rounding == Rounding::kStochastic,
          step.step};
}

// rate * (sign(beta1 m + (1 - beta1) g) + weight_decay * w); the sign of 0 and of NaN is 0.
__device__ inline float Delta(const Lion& lion, float w, float m, float g) {
  const float u = lion.options.beta1 * m + lion.rest1 * g;
  const float sign = fabsf(u) > 0.0f ? copysignf(1.0f, u) : 0.0f;
  return lion.rate * (sign + lion.options.weight_decay * w);
}

__device__ inline float NextMomentum(const Lion& lion, float m, float g) {
  return lion.options.beta2 * m + lion.rest2 * g;
}

// A weight and a momentum that are values.
__device__ inline void UpdateValue(const Lion& lion, float g, float* weight, float* momentum) {
  const float m = *momentum;
  *weight = *weight - Delta(lion, *weight, m, g);
  *momentum = NextMomentum(lion, m, g);
}

// Steps that a delta moves a weight by, before rounding.
__device__ inline float WantedMove(float delta, float inverse_step) {
  return fmaxf(fminf(delta * -inverse_step, kMaxMove), -kMaxMove);
}

// The row's weights are whole steps: of the grid, or of a sixteenth of it with a residual plane.
struct Row {
  int8_t* codes;
  uint8_t* residual;  // nullptr: none
  float grid;
  float step;
  float inverse_step;
  int32_t top;  // steps that fit
  int8_t* momentum;
  float* momentum_grid;
  int64_t index;  // in the random streams
  int64_t cols;
};

// A row of a gradient.
struct GradientRow {
  const int8_t* codes;  // nullptr: values
  const float* values;
  float factor;  // with the grid of the codes
};

// Codes on a grid that is no positive number with a finite inverse stay as they are: zeros move
// them nowhere.
__device__ inline Row MakeRow(const Lion& lion, const Weight& w, const Momentum& m, int64_t r) {
  const int64_t offset = r * w.cols;
  const bool fine = w.residual != nullptr;
  const float steps_per_grid = fine ? float{kResidualSteps} : 1.0f;
  const float grid = w.grid[r];
  const float inverse = __fdiv_rn(1.0f, grid);
  const bool usable =
      grid > 0 && grid <= 3.402823466e+38f && inverse * steps_per_grid <= 3.402823466e+38f;
  Row row;
  row.codes = static_cast<int8_t*>(w.data) + offset;
  row.residual = fine ? w.residual + r * ResidualBytes(w.cols) : nullptr;
  row.grid = usable ? grid : 0.0f;
  row.step = usable ? grid * (fine ? 1.0f / kResidualSteps : 1.0f) : 0.0f;
  row.inverse_step = usable ? inverse * steps_per_grid : 0.0f;
  row.top = fine ? 127 * kResidualSteps : 127;
  row.momentum = static_cast<int8_t*>(m.data) + offset;
  row.momentum_grid = m.grid + r * CeilDivide(w.cols, kMomentumBlock);
  row.index = lion.options.row_offset + r;
  row.cols = w.cols;
  return row;
}

// A grid that holds a row, and how its old steps become steps of it.
struct GrownGrid {
  float grid;
  float ratio;
};

// The first of grid, grid * 17/16, ... that holds `largest` steps of a row.
__device__ inline GrownGrid GrowGrid(const Row& row, int32_t largest) {
  float grown = row.grid * kGrowth;
  float ratio = __fdiv_rn(row.grid, grown);
  while (static_cast<float>(largest) * ratio > static_cast<float>(row.top)) {
    grown = grown * kGrowth;
    ratio = __fdiv_rn(row.grid, grown);
  }
  return {grown, ratio};
}

// Four numbers of 32 bits for columns c .. c + 4 (c a multiple of 4) of a row.
__device__ inline PhiloxBlock RowRandom32(PhiloxKey key, const Lion& lion, const Row& row,
                                          int64_t c) {
  return Philox(key, static_cast<uint64_t>(row.index * CeilDivide(row.cols, 4) + c / 4), lion.step);
}

// Steps of four columns from `c` on, re-rounded to a grown grid.
__device__ inline void Regrow4(const Lion& lion, const Row& row, int64_t c, float ratio,
                               int (&steps)[4]) {
  PhiloxBlock random{};
  if (lion.stochastic) random = RowRandom32(lion.options.regrow_key, lion, row, c);
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float x = static_cast<float>(steps[i]) * ratio;
    const int rounded = lion.stochastic ? RoundStochastic32(x, random.word[i]) : RoundToInt(x);
    steps[i] = max(-row.top, min(row.top, rounded));
  }
}

// What the updates of a thread's columns did, over its rows. Without initialisers, which shared
// memory must not have.
struct LionCounts {
  int32_t changed;
  int32_t saturated;
  int32_t lost;
  int32_t grown;        // of thread 0 alone
  float square_errors;  // in steps
};

}  // namespace qft::cuda
