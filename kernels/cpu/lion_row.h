// Lion on a row of a tensor: what the ops that update one share.
#pragma once

#include "kernels/cpu/decode_row.h"
#include "kernels/cpu/engine.h"
#include "kernels/cpu/quantize_folded.h"

namespace qft::QFT_ISA {

// Every product and sum below is one fp32 operation, rounded by itself, in the order written, so
// that another engine can have the same bits.

inline constexpr int64_t kBlock = kMomentumBlock;
// Steps a single update may move a weight; more would not fit the grid however it grows.
inline constexpr float kMaxMove = 1048576.0f;
inline constexpr float kGrowth = 1.0625f;

struct Lion {
  float beta1;
  float rest1;  // 1 - beta1
  float beta2;
  float rest2;
  float weight_decay;
  float rate;             // learning rate * factor of the group
  float gradient_factor;  // gradient_scale * clip_factor
  bool stochastic;
  RandomKeys weight_keys;
  RandomKeys momentum_keys;
  RandomKeys regrow_keys;
  int64_t row_offset;  // of the first row, in the random streams
};

inline Lion MakeLion(const LionOptions& options, const StepState& step) {
  return {options.beta1,
          1.0f - options.beta1,
          options.beta2,
          1.0f - options.beta2,
          options.weight_decay,
          step.learning_rate * options.learning_rate_factor,
          step.gradient_scale * step.clip_factor,
          options.rounding == Rounding::kStochastic,
          MakeRandomKeys(options.weight_key, step.step),
          MakeRandomKeys(options.momentum_key, step.step),
          MakeRandomKeys(options.regrow_key, step.step),
          options.row_offset};
}

// A row of a gradient, of codes or of values; `factor` holds the grid and gradient_factor.
struct GradientRow {
  const int8_t* codes;  // nullptr: values
  const float* values;
  float factor;
};

inline GradientRow RowOf(const Gradient& gradient, float gradient_factor, int64_t row) {
  const int64_t offset = row * gradient.cols;
  if (gradient.dtype == DType::kI8) {
    return {static_cast<const int8_t*>(gradient.data) + offset, nullptr,
            gradient_factor * gradient.grid[row]};
  }
  return {nullptr, static_cast<const float*>(gradient.data) + offset, gradient_factor};
}

QFT_INLINE Float16 LoadGradient(const GradientRow& row, int64_t c, int64_t count) {
  const Float16 v = row.codes != nullptr ? ToFloat(LoadCodesUpTo(row.codes + c, count))
                                         : LoadUpTo(row.values + c, count);
  return Broadcast(row.factor) * v;
}

// rate * (sign(beta1 m + (1 - beta1) g) + weight_decay * w); the sign of 0 and of NaN is 0.
QFT_INLINE Float16 Delta(const Lion& lion, Float16 w, Float16 m, Float16 g) {
  const Float16 u = Broadcast(lion.beta1) * m + Broadcast(lion.rest1) * g;
  const Int16 one = (Bits(u) & BroadcastInt(INT32_MIN)) | Bits(Broadcast(1.0f));
  const Float16 sign = FromBits(one & Less(Broadcast(0.0f), Abs(u)));
  return Broadcast(lion.rate) * (sign + Broadcast(lion.weight_decay) * w);
}

QFT_INLINE Int16 ClampSteps(Int16 v, int32_t top) {
  return -MaxInt(-MaxInt(v, BroadcastInt(-top)), BroadcastInt(-top));
}

QFT_INLINE Float16 NextMomentum(const Lion& lion, Float16 m, Float16 g) {
  return Broadcast(lion.beta2) * m + Broadcast(lion.rest2) * g;
}

// The row's weights are whole steps: of the grid, or of a sixteenth of it with a residual plane.
struct Row {
  int8_t* weight;
  uint8_t* residual;  // nullptr: none
  float grid;
  float step;
  float inverse_step;
  int32_t top;  // steps that fit
  int8_t* momentum;
  float* momentum_grid;
  GradientRow gradient;
  int64_t index;  // in the random streams
  int64_t cols;
  int32_t* wide;  // new steps before they are known to fit, cols rounded up to kBlock
};

QFT_INLINE Int16 LoadSteps(const Row& row, int64_t c) {
  const Int16 codes = LoadCodesUpTo(row.weight + c, row.cols - c);
  if (row.residual == nullptr) return codes;
  return (codes << kResidualBits) + LoadResiduals(row.residual + c / 2);
}

// What an update did to a row besides moving its weights.
struct Rounded {
  Int16 largest = {};          // magnitude of the new steps
  Int16 lost = {};             // counts, negated
  Float16 square_errors = {};  // in steps
};

QFT_INLINE void BlockWords32(const RandomKeys& keys, const Row& row, int64_t c, uint32_t* words) {
  const uint64_t first = static_cast<uint64_t>(row.index * ((row.cols + 3) / 4) + c / 4);
  for (int i = 0; i < kBlock / kRandomWords; ++i) {
    RandomWords(keys, first + static_cast<uint64_t>(i) * 8, words + i * kRandomWords);
  }
}

QFT_INLINE void BlockWords16(const RandomKeys& keys, const Row& row, int64_t c, uint32_t* words) {
  const uint64_t first = static_cast<uint64_t>(row.index * RandomBlocksPerRow(row.cols) + c / 8);
  for (int i = 0; i < kBlock / kRandomColumns; ++i) {
    RandomWords(keys, first + static_cast<uint64_t>(i) * 8, words + i * kRandomWords);
  }
}

// Momentum of a block from its fp32 values: a new grid and codes.
QFT_INLINE void StoreMomentum(const Lion& lion, const Row& row, int64_t c, const float* next,
                              int32_t absmax_bits) {
  const RowScale scale = MakeRowScale(absmax_bits, 127.0f);
  row.momentum_grid[c / kBlock] = scale.scale;
  const int64_t count = row.cols - c < kBlock ? row.cols - c : kBlock;
  int8_t* codes = row.momentum + c;
  if (scale.zero) {
    std::memset(codes, 0, static_cast<size_t>(count));
    return;
  }
  alignas(64) uint32_t words[kBlock / 2];
  if (lion.stochastic) BlockWords16(lion.momentum_keys, row, c, words);
  const Float16 inverse = Broadcast(scale.inverse);
  for (int64_t i = 0; i < count; i += kLanes) {
    const Float16 x = Load(next + i) * inverse;
    const Int16 rounded = lion.stochastic
                              ? RoundStochastic16(x, LoadHalves(words, static_cast<int>(i)))
                              : RoundToInt(x);
    StoreCodesUpTo(codes + i, rounded, count - i);
  }
}

QFT_INLINE Int16 MoveSteps(const Lion& lion, const Row& row, Int16 steps, Float16 delta,
                           const uint32_t* words, Rounded* rounded) {
  const Float16 wanted = delta * Broadcast(-row.inverse_step);
  const Float16 x = Max(Min(wanted, Broadcast(kMaxMove)), Broadcast(-kMaxMove));
  const Int16 moved = lion.stochastic ? RoundStochastic32(x, LoadWords(words)) : RoundToInt(x);
  const Float16 error = ToFloat(moved) - x;
  rounded->square_errors = Fma(error, error, rounded->square_errors);
  if (!lion.stochastic) {
    rounded->lost += EqualInt(moved, BroadcastInt(0)) & Less(Broadcast(0.0f), Abs(x));
  }
  return steps + moved;
}

// Moves up to kBlock weights from column c into row.wide and renews their momentum. Lanes past the
// row's end are zero and stay zero.
QFT_INLINE void UpdateBlock(const Lion& lion, const Row& row, int64_t c, Rounded* rounded) {
  alignas(64) uint32_t words[kBlock];
  alignas(64) float next[kBlock];
  if (lion.stochastic) BlockWords32(lion.weight_keys, row, c, words);
  const Float16 step = Broadcast(row.step);
  const Float16 momentum_grid = Broadcast(row.momentum_grid[c / kBlock]);
  Int16 absmax = {};
  for (int64_t i = 0; i < kBlock && c + i < row.cols; i += kLanes) {
    const int64_t count = row.cols - c - i;
    const Int16 steps = LoadSteps(row, c + i);
    const Float16 m = momentum_grid * ToFloat(LoadCodesUpTo(row.momentum + c + i, count));
    const Float16 g = LoadGradient(row.gradient, c + i, count);
    const Float16 delta = Delta(lion, step * ToFloat(steps), m, g);
    const Int16 moved = MoveSteps(lion, row, steps, delta, words + i, rounded);
    rounded->largest = MaxInt(AbsInt(moved), rounded->largest);
    StoreInt(row.wide + c + i, moved);
    const Float16 renewed = NextMomentum(lion, m, g);
    Store(next + i, renewed);
    absmax = MaxInt(Bits(Abs(renewed)), absmax);
  }
  StoreMomentum(lion, row, c, next, MaxLaneInt(absmax));
}

// The first of grid, grid * 17/16, ... that holds `largest`; re-rounds row.wide to it.
inline float GrowRow(const Lion& lion, const Row& row, int32_t largest) {
  float grown = row.grid * kGrowth;
  float ratio = row.grid / grown;
  while (static_cast<float>(largest) * ratio > static_cast<float>(row.top)) {
    grown = grown * kGrowth;
    ratio = row.grid / grown;
  }
  for (int64_t c = 0; c < row.cols; c += kBlock) {
    alignas(64) uint32_t words[kBlock];
    if (lion.stochastic) BlockWords32(lion.regrow_keys, row, c, words);
    for (int64_t i = 0; i < kBlock && c + i < row.cols; i += kLanes) {
      const Float16 x = ToFloat(LoadInt(row.wide + c + i)) * Broadcast(ratio);
      const Int16 steps =
          lion.stochastic ? RoundStochastic32(x, LoadWords(words + i)) : RoundToInt(x);
      StoreInt(row.wide + c + i, ClampSteps(steps, row.top));
    }
  }
  return grown;
}

struct Counts {
  int64_t changed = 0;
  int64_t saturated = 0;
  int64_t grown = 0;
  int64_t lost = 0;
  int64_t square_sum = 0;  // see StepState
};

QFT_INLINE int64_t SumLanes(Int16 v) {
  int64_t sum = 0;
  for (int i = 0; i < kLanes; ++i) sum += v[i];
  return sum;
}

inline void StoreWeights(const Row& row, Counts* counts) {
  Int16 changed = {};
  Int16 saturated = {};
  for (int64_t c = 0; c < row.cols; c += kLanes) {
    const int64_t count = row.cols - c;
    const Int16 steps = LoadInt(row.wide + c);
    const Int16 codes = row.residual == nullptr ? steps : CodeOfSteps(steps);
    changed += BroadcastInt(1) + EqualInt(codes, LoadCodesUpTo(row.weight + c, count));
    saturated -= EqualInt(AbsInt(codes), BroadcastInt(127));
    StoreCodesUpTo(row.weight + c, codes, count);
    if (row.residual != nullptr) {
      StoreResiduals(row.residual + c / 2, steps - (codes << kResidualBits));
    }
  }
  counts->changed += SumLanes(changed);
  counts->saturated += SumLanes(saturated);
}

// Returns the row's grid.
inline float UpdateRow(const Lion& lion, const Row& row, Counts* counts) {
  Rounded rounded;
  for (int64_t c = 0; c < row.cols; c += kBlock) UpdateBlock(lion, row, c, &rounded);
  float grid = row.grid;
  const int32_t largest = MaxLaneInt(rounded.largest);
  if (largest > row.top) {
    grid = GrowRow(lion, row, largest);
    ++counts->grown;
  }
  counts->lost -= SumLanes(rounded.lost);
  const float unit =
      row.residual == nullptr ? 0x1p24f : 0x1p24f / (kResidualSteps * kResidualSteps);
  counts->square_sum += static_cast<int64_t>(Sum(rounded.square_errors) * unit);
  StoreWeights(row, counts);
  return grid;
}

inline void UpdateValues(const Lion& lion, const GradientRow& gradient, int64_t cols, float* weight,
                         float* momentum) {
  for (int64_t c = 0; c < cols; c += kLanes) {
    const int64_t count = cols - c;
    const Float16 w = LoadUpTo(weight + c, count);
    const Float16 m = LoadUpTo(momentum + c, count);
    const Float16 g = LoadGradient(gradient, c, count);
    const Float16 new_weight = w - Delta(lion, w, m, g);
    const Float16 new_momentum = NextMomentum(lion, m, g);
    if (count >= kLanes) {
      Store(weight + c, new_weight);
      Store(momentum + c, new_momentum);
    } else {
      StorePartial(weight + c, new_weight, count);
      StorePartial(momentum + c, new_momentum, count);
    }
  }
}

struct Grid {
  float value;
  float inverse;
};

// Codes on a grid that is no positive number with a finite inverse stay as they are: zeros move
// them nowhere.
inline Grid UsableGrid(float grid, float steps_per_grid) {
  const float inverse = 1.0f / grid;
  const bool usable = grid > 0 && grid <= __FLT_MAX__ && inverse * steps_per_grid <= __FLT_MAX__;
  return usable ? Grid{grid, inverse} : Grid{0.0f, 0.0f};
}

// Scratch that UpdateTensorRow takes, in fours of bytes.
inline int64_t WideSteps(int64_t cols) {
  return (cols + kBlock - 1) / kBlock * kBlock;
}

// Row r of a tensor with its momentum. critical_gradient [w.critical.count], wide
// [WideSteps(w.cols)].
inline void UpdateTensorRow(const Lion& lion, const Weight& w, const Momentum& m, int64_t r,
                            const GradientRow& gradient, const float* critical_gradient,
                            int32_t* wide, Counts* counts) {
  const int64_t offset = r * w.cols;
  if (w.dtype == DType::kF32) {
    UpdateValues(lion, gradient, w.cols, static_cast<float*>(w.data) + offset,
                 static_cast<float*>(m.data) + offset);
    return;
  }
  const bool fine = w.residual != nullptr;
  const Grid grid = UsableGrid(w.grid[r], fine ? float{kResidualSteps} : 1.0f);
  const Row row{static_cast<int8_t*>(w.data) + offset,
                fine ? w.residual + r * ResidualBytes(w.cols) : nullptr,
                grid.value,
                fine ? grid.value / kResidualSteps : grid.value,
                fine ? grid.inverse * kResidualSteps : grid.inverse,
                fine ? 127 * kResidualSteps : 127,
                static_cast<int8_t*>(m.data) + offset,
                m.grid + r * (WideSteps(w.cols) / kBlock),
                gradient,
                lion.row_offset + r,
                w.cols,
                wide};
  const float new_grid = UpdateRow(lion, row, counts);
  if (new_grid != grid.value) w.grid[r] = new_grid;
  const int64_t critical = r * w.critical.count;
  UpdateValues(lion, {nullptr, critical_gradient, lion.gradient_factor}, w.critical.count,
               w.critical.values + critical, m.critical + critical);
}

inline void AddCount(int64_t value, int64_t* total) {
  if (value != 0) __atomic_fetch_add(total, value, __ATOMIC_RELAXED);
}

inline void AddCounts(const Counts& counts, StepState* step) {
  AddCount(counts.changed, &step->codes_changed);
  AddCount(counts.saturated, &step->codes_saturated);
  AddCount(counts.grown, &step->rows_grown);
  AddCount(counts.lost, &step->updates_lost);
  AddCount(counts.square_sum, &step->rounding_square_sum);
}

}  // namespace qft::QFT_ISA
