#include <bit>
#include <cmath>

#include "base/philox.h"
#include "tests/kernels/lion_state.h"

namespace qft {
namespace {

State Update(Engine& engine, const LionOptions& options, const State& before) {
  const EngineState state(engine, before);
  engine.LionUpdate(options, state.weight(), state.momentum(), state.gradient(), state.step());
  return state.Read();
}

uint32_t Random32(PhiloxKey key, uint64_t step, int64_t row, int64_t cols, int64_t c) {
  const int64_t block = row * ((cols + 3) / 4) + c / 4;
  return Philox(key, static_cast<uint64_t>(block), step).word[c % 4];
}

uint32_t Random16(PhiloxKey key, uint64_t step, int64_t row, int64_t cols, int64_t c) {
  const int64_t block = row * ((cols + 7) / 8) + c / 8;
  const PhiloxBlock words = Philox(key, static_cast<uint64_t>(block), step);
  return words.word[c % 8 / 2] >> (c % 2 * 16) & 0xffffu;
}

int Round32(float x, Rounding rounding, uint32_t random) {
  if (rounding == Rounding::kNearest) return static_cast<int>(std::nearbyintf(x));
  const float magnitude = std::fabs(x);
  const float whole = std::floor(magnitude);
  const auto threshold = static_cast<uint64_t>((magnitude - whole) * 0x1p32f);
  const int rounded = static_cast<int>(whole) + (random < threshold ? 1 : 0);
  return x < 0 ? -rounded : rounded;
}

int Round16(float x, Rounding rounding, uint32_t random) {
  if (rounding == Rounding::kNearest) return static_cast<int>(std::nearbyintf(x));
  return static_cast<int>((static_cast<int64_t>(std::nearbyintf(x * 65536.0f)) + random) >> 16);
}

float SignOfLion(const LionOptions& options, float m, float g) {
  const float blend = options.beta1 * m + (1.0f - options.beta1) * g;
  return blend > 0 ? 1.0f : blend < 0 ? -1.0f : 0.0f;
}

void ReferenceCritical(const LionOptions& options, State& s) {
  const float rate = s.step.learning_rate * options.learning_rate_factor;
  for (size_t i = 0; i < s.critical.size(); ++i) {
    const float g = s.step.gradient_scale * s.step.clip_factor * s.critical_gradient[i];
    const float m = s.critical_momentum[i];
    const float w = s.critical[i];
    s.critical[i] = w - rate * (SignOfLion(options, m, g) + options.weight_decay * w);
    s.critical_momentum[i] = options.beta2 * m + (1.0f - options.beta2) * g;
  }
}

// The contract, an element at a time. Weights are whole steps: sixteenths of the grid where there
// is a residual plane.
State Reference(const LionOptions& options, const State& before) {
  State s = before;
  const float rate = s.step.learning_rate * options.learning_rate_factor;
  const float gradient_factor = s.step.gradient_scale * s.step.clip_factor;
  for (int64_t r = 0; r < s.rows; ++r) {
    const float grid = s.grid[static_cast<size_t>(r)];
    const int steps_per_grid = s.residual.empty() ? 1 : 16;
    const float inverse = 1.0f / grid * static_cast<float>(steps_per_grid);
    const int top = 127 * steps_per_grid;
    double square_errors = 0;
    std::vector<int> moved(static_cast<size_t>(s.cols));
    std::vector<float> momentum(static_cast<size_t>(s.cols));
    int largest = 0;
    for (int64_t c = 0; c < s.cols; ++c) {
      const auto i = static_cast<size_t>(r * s.cols + c);
      const float g =
          s.gradient_values.empty()
              ? gradient_factor * s.gradient_grid[static_cast<size_t>(r)] * s.gradient[i]
              : gradient_factor * s.gradient_values[i];
      const float m =
          s.momentum_grid[static_cast<size_t>(r * s.Blocks() + c / kMomentumBlock)] * s.momentum[i];
      const int steps = s.residual.empty() ? s.codes[i] : 16 * s.codes[i] + s.residual[i];
      const float w = grid / static_cast<float>(steps_per_grid) * static_cast<float>(steps);
      const float delta = rate * (SignOfLion(options, m, g) + options.weight_decay * w);
      const uint32_t random = Random32(options.weight_key, s.step.step, r, s.cols, c);
      const float wanted = delta * -inverse;
      const int move = Round32(wanted, options.rounding, random);
      const double error = static_cast<double>(static_cast<float>(move) - wanted);
      square_errors += error * error;
      if (options.rounding == Rounding::kNearest && move == 0 && wanted != 0) ++s.step.updates_lost;
      moved[static_cast<size_t>(c)] = steps + move;
      largest = std::max(largest, std::abs(moved[static_cast<size_t>(c)]));
      momentum[static_cast<size_t>(c)] = options.beta2 * m + (1.0f - options.beta2) * g;
    }
    s.step.rounding_square_sum +=
        static_cast<int64_t>(square_errors * 0x1p24 / (steps_per_grid * steps_per_grid));
    if (largest > top) {
      float grown = grid;
      float ratio;
      do {
        grown *= 1.0625f;
        ratio = grid / grown;
      } while (static_cast<float>(largest) * ratio > static_cast<float>(top));
      for (int64_t c = 0; c < s.cols; ++c) {
        const uint32_t random = Random32(options.regrow_key, s.step.step, r, s.cols, c);
        int& code = moved[static_cast<size_t>(c)];
        code = Round32(static_cast<float>(code) * ratio, options.rounding, random);
        code = std::min(top, std::max(-top, code));
      }
      s.grid[static_cast<size_t>(r)] = grown;
      ++s.step.rows_grown;
    }
    for (int64_t c = 0; c < s.cols; ++c) {
      const auto i = static_cast<size_t>(r * s.cols + c);
      const int steps = moved[static_cast<size_t>(c)];
      const int code = s.residual.empty()
                           ? steps
                           : static_cast<int>(std::floor((static_cast<float>(steps) + 8) / 16));
      if (code != s.codes[i]) ++s.step.codes_changed;
      if (std::abs(code) == 127) ++s.step.codes_saturated;
      s.codes[i] = static_cast<int8_t>(code);
      if (!s.residual.empty()) s.residual[i] = static_cast<int8_t>(steps - 16 * code);
    }
    for (int64_t begin = 0; begin < s.cols; begin += kMomentumBlock) {
      const int64_t end = std::min(s.cols, begin + kMomentumBlock);
      float absmax = 0;
      for (int64_t c = begin; c < end; ++c) {
        absmax = std::max(absmax, std::fabs(momentum[static_cast<size_t>(c)]));
      }
      const float factor = 127.0f / absmax;
      const bool zero = !std::isfinite(factor);
      s.momentum_grid[static_cast<size_t>(r * s.Blocks() + begin / kMomentumBlock)] =
          zero ? 0.0f : absmax / 127.0f;
      for (int64_t c = begin; c < end; ++c) {
        const uint32_t random = Random16(options.momentum_key, s.step.step, r, s.cols, c);
        s.momentum[static_cast<size_t>(r * s.cols + c)] = static_cast<int8_t>(
            zero ? 0
                 : Round16(momentum[static_cast<size_t>(c)] * factor, options.rounding, random));
      }
    }
  }
  return s;
}

void ExpectSameState(const State& got, const State& expected) {
  EXPECT_EQ(got.residual, expected.residual);
  EXPECT_EQ(got.critical, expected.critical);
  EXPECT_EQ(got.critical_momentum, expected.critical_momentum);
  EXPECT_EQ(got.codes, expected.codes);
  EXPECT_EQ(got.grid, expected.grid);
  EXPECT_EQ(got.momentum, expected.momentum);
  EXPECT_EQ(got.momentum_grid, expected.momentum_grid);
  ExpectSameCounts(got.step, expected.step);
}

class LionRounding : public testing::TestWithParam<Rounding> {};

TEST_P(LionRounding, IsTheContract) {
  const LionOptions options = MakeOptions(GetParam());
  const int64_t shapes[][2] = {{1, 1}, {3, 17}, {2, 128}, {7, 129}, {300, 300}, {2, 1000}};
  for (const auto& [rows, cols] : shapes) {
    for (const bool coded_gradient : {true, false}) {
      State before = MakeState(rows, cols);
      if (!coded_gradient) before.gradient_values = TestRandom(9).Floats(rows * cols, 0.1f);
      if (rows > 2) {  // a row nothing pulls at, and a block of momentum that becomes zero
        std::fill_n(before.gradient.begin() + cols, cols, int8_t{0});
        std::fill_n(before.momentum.begin() + cols, cols, int8_t{0});
      }
      const State expected = Reference(options, before);
      ExpectSameEverywhere([&](Engine& engine) {
        const State after = Update(engine, options, before);
        ExpectSameState(after, expected);
        return OutputsOf(after);
      });
    }
  }
}

TEST_P(LionRounding, IsTheContractWithResidualPlaneAndCriticalFeatures) {
  const LionOptions options = MakeOptions(GetParam());
  const int64_t shapes[][2] = {{1, 1}, {3, 17}, {2, 128}, {7, 129}, {200, 300}};
  for (const auto& [rows, cols] : shapes) {
    for (const bool fine : {true, false}) {
      for (const bool critical : {true, false}) {
        State before = MakeState(rows, cols);
        if (fine) AddResidual(before);
        if (critical && cols >= 17) AddCritical(before, {0, 3, static_cast<int32_t>(cols) - 1});
        State expected = Reference(options, before);
        ReferenceCritical(options, expected);
        ExpectSameEverywhere([&](Engine& engine) {
          const State after = Update(engine, options, before);
          ExpectSameState(after, expected);
          return OutputsOf(after);
        });
      }
    }
  }
}

// Learning rates from a fraction of a grid step to many: rows grow, some by several sixteenths.
TEST_P(LionRounding, GridsGrowWhenCodesWouldLeave) {
  const LionOptions options = MakeOptions(GetParam());
  for (const float rate : {2e-3f, 5e-3f, 0.1f, 30.0f, 1e6f, -2e-3f, -0.1f}) {
    State before = MakeState(20, 200, 127);
    if (rate < 0) AddResidual(before);
    before.step.learning_rate = std::fabs(rate);
    const bool in_reference = rate < 1e3f;  // beyond, moves are limited to 2^20 steps
    const State expected = in_reference ? Reference(options, before) : before;
    EXPECT_TRUE(!in_reference || expected.step.rows_grown > 0);
    ExpectSameEverywhere([&](Engine& engine) {
      const State after = Update(engine, options, before);
      if (in_reference) ExpectSameState(after, expected);
      for (const int8_t code : after.codes) EXPECT_NE(code, -128);
      for (size_t r = 0; r < 20; ++r) EXPECT_GE(after.grid[r], before.grid[r]);
      EXPECT_GT(after.step.rows_grown, 0);
      return OutputsOf(after);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Roundings, LionRounding,
                         testing::Values(Rounding::kNearest, Rounding::kStochastic));

// Without weight decay every update of a row has the same size, of which an engine may make use:
// rows of zeros, rows at the edge of their grid, tiny momentum, and updates of more than a step.
TEST(LionUpdate, IsTheSameEverywhereWithoutWeightDecay) {
  for (const int64_t cols : {16, 100, 144, 2176}) {
    for (const bool fine : {false, true}) {
      for (const float steps : {0.2f, 0.999f, 3.0f, -0.5f}) {
        State s = MakeState(5, cols, 127);
        if (fine) AddResidual(s);
        TestRandom random(static_cast<uint64_t>(cols));
        for (size_t i = 0; i < s.codes.size(); ++i) {
          if (random.Next() % 4 == 0) s.codes[i] = random.Next() % 2 == 0 ? 127 : -127;
          if (fine && std::abs(s.codes[i]) == 127) s.residual[i] = 0;
          if (random.Next() % 4 == 0) s.gradient[i] = s.momentum[i] = 0;
        }
        s.gradient_grid[1] = 1e-38f;
        for (int64_t b = 0; b < s.Blocks(); ++b) {
          s.momentum_grid[static_cast<size_t>(s.Blocks() + b)] = 1e-36f;
        }
        s.step.learning_rate = steps * (fine ? 2e-3f / kResidualSteps : 2e-3f);
        LionOptions options = MakeOptions();
        options.weight_decay = 0;
        ExpectSameEverywhere([&](Engine& engine) { return OutputsOf(Update(engine, options, s)); });
      }
    }
  }
}

TEST(LionUpdate, NothingHappensWhenTheStepIsSkipped) {
  State before = MakeState(5, 50);
  before.step.skip_update = 1;
  ExpectSameEverywhere([&](Engine& engine) {
    const State after = Update(engine, MakeOptions(), before);
    ExpectSameState(after, before);
    return OutputsOf(after);
  });
}

TEST(LionUpdate, UntouchedRowsKeepTheirBits) {
  LionOptions options = MakeOptions();
  options.weight_decay = 0;
  State before = MakeState(5, 300);
  std::fill(before.gradient.begin(), before.gradient.end(), int8_t{0});
  std::fill(before.momentum.begin(), before.momentum.end(), int8_t{0});
  std::fill(before.momentum_grid.begin(), before.momentum_grid.end(), 0.0f);
  ExpectSameEverywhere([&](Engine& engine) {
    const State after = Update(engine, options, before);
    ExpectSameState(after, before);
    return OutputsOf(after);
  });
}

// A row without a usable grid stays, and neither crashes nor disturbs its neighbours.
TEST(LionUpdate, RowsWithoutAGridStay) {
  State before = MakeState(6, 150);
  const float grids[] = {1e-3f, 0.0f, kNaN, kInfinity, -1.0f, 1e-3f};
  before.grid.assign(grids, grids + 6);
  ExpectSameEverywhere([&](Engine& engine) {
    const State after = Update(engine, MakeOptions(), before);
    for (size_t r = 0; r < 6; ++r) {
      const bool same = std::memcmp(&after.codes[r * 150], &before.codes[r * 150], 150) == 0;
      EXPECT_EQ(same, r >= 1 && r <= 4) << r;
      EXPECT_EQ(std::bit_cast<uint32_t>(after.grid[r]), std::bit_cast<uint32_t>(before.grid[r]))
          << r;
    }
    return OutputsOf(after);
  });
}

TEST(LionUpdate, NanGradientPoisonsMomentumAndLeavesCodesInRange) {
  LionOptions options = MakeOptions();
  options.weight_decay = 0;
  State before = MakeState(2, 130);
  before.gradient_grid[1] = kNaN;
  ExpectSameEverywhere([&](Engine& engine) {
    const State after = Update(engine, options, before);
    EXPECT_EQ(std::memcmp(&after.codes[130], &before.codes[130], 130), 0);
    EXPECT_FALSE(std::isnan(after.momentum_grid[1]));
    EXPECT_TRUE(std::isnan(after.momentum_grid[2]));
    EXPECT_TRUE(std::isnan(after.momentum_grid[3]));
    return OutputsOf(after);
  });
}

// Far below a grid step the mean movement over many steps is still the learning rate.
TEST(LionUpdate, MeanMovementIsTheLearningRate) {
  constexpr int64_t kCols = 1024;
  constexpr int kSteps = 1000;
  LionOptions options = MakeOptions();
  options.weight_decay = 0;
  State s = MakeState(1, kCols, 20);
  s.grid[0] = 1.0f;
  s.step.learning_rate = 0.02f;  // times the factor: 0.01 of a grid step
  std::fill(s.gradient.begin(), s.gradient.end(), int8_t{1});
  std::fill(s.momentum.begin(), s.momentum.end(), int8_t{1});
  const std::vector<int8_t> start = s.codes;
  const EnginePointer engine(CreateCpuEngine(2));
  for (int i = 0; i < kSteps; ++i) {
    s = Update(*engine, options, s);
    ++s.step.step;
  }
  double moved = 0;
  for (size_t c = 0; c < kCols; ++c) moved += s.codes[c] - start[c];
  const double deviation = std::sqrt(0.01 * 0.99 * kSteps / kCols);
  EXPECT_NEAR(moved / kCols, -0.01 * kSteps, 5 * deviation);
  EXPECT_NEAR(s.step.codes_changed, 0.01 * kSteps * kCols, 5 * std::sqrt(0.01 * kSteps * kCols));
}

TEST(LionUpdate, Fp32StatesArePlainLion) {
  constexpr int64_t kRows = 3;
  constexpr int64_t kCols = 53;
  const LionOptions options = MakeOptions();
  const std::vector<float> w = TestRandom(1).Floats(kRows * kCols);
  const std::vector<float> m = TestRandom(2).Floats(kRows * kCols, 0.1f);
  const std::vector<float> g = TestRandom(3).Floats(kRows * kCols);
  ExpectSameEverywhere([&](Engine& engine) {
    const StepState step = MakeState(1, 1).step;
    const EngineStep state(engine, step);
    const EngineArray<float> weight(engine, w);
    const EngineArray<float> momentum(engine, m);
    const EngineArray<float> gradient(engine, g);
    engine.LionUpdate(options, {weight.data(), nullptr, DType::kF32, kRows, kCols},
                      {momentum.data(), nullptr, DType::kF32},
                      {gradient.data(), nullptr, DType::kF32, kRows, kCols}, state.data());
    for (size_t i = 0; i < w.size(); ++i) {
      const float scaled = step.gradient_scale * step.clip_factor * g[i];
      const float blend = options.beta1 * m[i] + (1.0f - options.beta1) * scaled;
      const float sign = blend > 0 ? 1.0f : -1.0f;
      const float rate = step.learning_rate * options.learning_rate_factor;
      EXPECT_EQ(weight.Read()[i], w[i] - rate * (sign + options.weight_decay * w[i]));
      EXPECT_EQ(momentum.Read()[i], options.beta2 * m[i] + (1.0f - options.beta2) * scaled);
    }
    EXPECT_EQ(state.Read().codes_changed, 0);
    Outputs outputs;
    outputs.Add(weight);
    outputs.Add(momentum);
    return outputs;
  });
}

TEST(LionUpdate, SaysWhatItCannotUpdate) {
  const EnginePointer engine(CreateCpuEngine(1));
  const EngineArray<float> data(*engine, 16);
  StepState step;
  engine->LionUpdate({}, {data.data(), data.data(), DType::kI8, 2, 2},
                     {data.data(), nullptr, DType::kF32}, {data.data(), nullptr, DType::kF32, 2, 2},
                     &step);
  EXPECT_STREQ(engine->Synchronize(), "lion update: weight and momentum differ in dtype");
}

}  // namespace
}  // namespace qft
