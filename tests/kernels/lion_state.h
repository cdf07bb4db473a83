// One tensor's weight, momentum and gradient on the host and in an engine's memory, for the tests
// of ops that update it.
#pragma once

#include "tests/kernels/test_engine.h"

namespace qft {

// One tensor with its momentum and gradient.
struct State {
  int64_t rows;
  int64_t cols;
  std::vector<int8_t> codes;
  std::vector<float> grid;
  std::vector<int8_t> momentum;
  std::vector<float> momentum_grid;
  std::vector<int8_t> gradient;
  std::vector<float> gradient_grid;
  std::vector<float> gradient_values;  // used instead of codes when not empty
  std::vector<int8_t> residual;        // by element, empty: no residual plane
  std::vector<int32_t> columns;        // critical features
  std::vector<float> critical;
  std::vector<float> critical_momentum;
  std::vector<float> critical_gradient;
  StepState step;

  int64_t Blocks() const { return (cols + kMomentumBlock - 1) / kMomentumBlock; }
};

inline State MakeState(int64_t rows, int64_t cols, int largest_code = 120) {
  TestRandom random(static_cast<uint64_t>(rows * 31 + cols));
  State s{};
  s.rows = rows;
  s.cols = cols;
  s.codes = random.Codes(rows * cols, largest_code);
  s.grid = random.Scales(rows, 1e-3f);
  s.momentum = random.Codes(rows * cols);
  s.momentum_grid = random.Scales(rows * s.Blocks(), 1e-4f);
  s.gradient = random.Codes(rows * cols);
  s.gradient_grid = random.Scales(rows, 1e-3f);
  s.step.step = 41;
  s.step.learning_rate = 2e-4f;
  s.step.gradient_scale = 0.5f;
  s.step.clip_factor = 0.25f;
  return s;
}

inline void AddResidual(State& s) {
  TestRandom random(77);
  for (const int8_t code : random.Codes(s.rows * s.cols)) {
    s.residual.push_back(static_cast<int8_t>((code & 15) - 8));
  }
}

inline void AddCritical(State& s, std::vector<int32_t> columns) {
  TestRandom random(78);
  const auto count = s.rows * static_cast<int64_t>(columns.size());
  s.critical = random.Floats(count);
  s.critical_momentum = random.Floats(count, 0.01f);
  s.critical_gradient = random.Floats(count, 0.01f);
  for (int64_t r = 0; r < s.rows; ++r) {
    for (const int32_t c : columns) {
      const auto i = static_cast<size_t>(r * s.cols + c);
      s.codes[i] = s.momentum[i] = s.gradient[i] = 0;
      if (!s.residual.empty()) s.residual[i] = 0;
    }
  }
  s.columns = std::move(columns);
}

// The plane's layout, as ops.h has it.
inline size_t PlaneByte(const State& s, int64_t r, int64_t c) {
  return static_cast<size_t>(r * ResidualBytes(s.cols) + c / 16 * 8 + c % 8);
}

inline std::vector<uint8_t> Pack(const State& s) {
  if (s.residual.empty()) return {};
  std::vector<uint8_t> plane(static_cast<size_t>(s.rows * ResidualBytes(s.cols)));
  for (int64_t r = 0; r < s.rows; ++r) {
    for (int64_t c = 0; c < s.cols; ++c) {
      const int bits = s.residual[static_cast<size_t>(r * s.cols + c)] & 15;
      plane[PlaneByte(s, r, c)] |= static_cast<uint8_t>(c % 16 < 8 ? bits : bits << 4);
    }
  }
  return plane;
}

inline void Unpack(const std::vector<uint8_t>& plane, State& s) {
  for (int64_t r = 0; !s.residual.empty() && r < s.rows; ++r) {
    for (int64_t c = 0; c < s.cols; ++c) {
      const int byte = plane[PlaneByte(s, r, c)];
      const int bits = c % 16 < 8 ? byte & 15 : byte >> 4;
      s.residual[static_cast<size_t>(r * s.cols + c)] =
          static_cast<int8_t>(bits < 8 ? bits : bits - 16);
    }
  }
}

inline LionOptions MakeOptions(Rounding rounding = Rounding::kStochastic) {
  LionOptions options;
  options.weight_decay = 0.1f;
  options.learning_rate_factor = 0.5f;
  options.rounding = rounding;
  options.weight_key = {1, 2};
  options.momentum_key = {3, 4};
  options.regrow_key = {5, 6};
  return options;
}

// A State in engine memory.
class EngineState {
 public:
  EngineState(Engine& engine, const State& state)
      : state_(state),
        codes_(engine, state.codes),
        grid_(engine, state.grid),
        momentum_(engine, state.momentum),
        momentum_grid_(engine, state.momentum_grid),
        gradient_(engine, state.gradient),
        gradient_grid_(engine, state.gradient_grid),
        gradient_values_(engine, state.gradient_values),
        plane_(engine, Pack(state)),
        columns_(engine, state.columns),
        critical_(engine, state.critical),
        critical_momentum_(engine, state.critical_momentum),
        critical_gradient_(engine, state.critical_gradient),
        square_sums_(engine, state.rows),
        step_(engine, state.step) {}

  Weight weight() const {
    return {codes_.data(),
            grid_.data(),
            DType::kI8,
            state_.rows,
            state_.cols,
            Critical(critical_),
            state_.residual.empty() ? nullptr : plane_.data()};
  }
  Momentum momentum() const {
    return {momentum_.data(), momentum_grid_.data(), DType::kI8, critical_momentum_.data()};
  }
  Gradient gradient() const {
    const bool coded = state_.gradient_values.empty();
    return {coded ? static_cast<void*>(gradient_.data()) : gradient_values_.data(),
            gradient_grid_.data(),
            coded ? DType::kI8 : DType::kF32,
            state_.rows,
            state_.cols,
            Critical(critical_gradient_),
            square_sums_.data()};
  }
  StepState* step() const { return step_.data(); }

  // Without the gradient, which stays as it was made.
  State Read() const {
    State state = state_;
    state.step = step_.Read();
    Unpack(plane_.Read(), state);
    state.critical = critical_.Read();
    state.critical_momentum = critical_momentum_.Read();
    state.codes = codes_.Read();
    state.grid = grid_.Read();
    state.momentum = momentum_.Read();
    state.momentum_grid = momentum_grid_.Read();
    return state;
  }

 private:
  CriticalFeatures Critical(const EngineArray<float>& values) const {
    return {columns_.data(), values.data(), static_cast<int32_t>(state_.columns.size())};
  }

  const State state_;
  const EngineArray<int8_t> codes_;
  const EngineArray<float> grid_;
  const EngineArray<int8_t> momentum_;
  const EngineArray<float> momentum_grid_;
  const EngineArray<int8_t> gradient_;
  const EngineArray<float> gradient_grid_;
  const EngineArray<float> gradient_values_;
  const EngineArray<uint8_t> plane_;
  const EngineArray<int32_t> columns_;
  const EngineArray<float> critical_;
  const EngineArray<float> critical_momentum_;
  const EngineArray<float> critical_gradient_;
  const EngineArray<double> square_sums_;
  const EngineStep step_;
};

// What updates counted. rounding_square_sum is summed in fp32 along a row.
inline void ExpectSameCounts(const StepState& got, const StepState& expected) {
  EXPECT_EQ(got.codes_changed, expected.codes_changed);
  EXPECT_EQ(got.codes_saturated, expected.codes_saturated);
  EXPECT_EQ(got.rows_grown, expected.rows_grown);
  EXPECT_EQ(got.updates_lost, expected.updates_lost);
  EXPECT_NEAR(static_cast<double>(got.rounding_square_sum),
              static_cast<double>(expected.rounding_square_sum),
              1e-5 * static_cast<double>(expected.rounding_square_sum) + 64);
}

inline Outputs OutputsOf(const State& s) {
  Outputs outputs;
  outputs.AddValues(s.codes);
  outputs.AddValues(s.grid);
  outputs.AddValues(s.momentum);
  outputs.AddValues(s.momentum_grid);
  outputs.AddValues(s.residual);
  outputs.AddValues(s.critical);
  outputs.AddValues(s.critical_momentum);
  outputs.AddValues(std::vector<int64_t>{s.step.codes_changed, s.step.codes_saturated,
                                         s.step.rows_grown, s.step.updates_lost});
  outputs.AddSums({static_cast<float>(s.step.rounding_square_sum)});
  return outputs;
}

}  // namespace qft
