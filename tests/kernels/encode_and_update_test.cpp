// EncodeAndUpdate against the three ops that it stands for.
#include "base/half.h"
#include "tests/kernels/lion_state.h"

namespace qft {
namespace {

// A state and the values that are its gradient.
struct Problem {
  State state;
  std::vector<float> values;
  DType dtype = DType::kF32;
  LionOptions options = MakeOptions();
  RandomStream random{{7, 8}, 50};
};

// Values that bf16 holds too, so that they are the same numbers in either type.
std::vector<float> Values(int64_t count) {
  std::vector<float> values = TestRandom(5).Floats(count, 0.1f);
  for (float& value : values) value = Bf16ToFloat(FloatToBf16(value));
  return values;
}

Problem MakeProblem(int64_t rows, int64_t cols) {
  Problem problem;
  problem.state = MakeState(rows, cols);
  problem.state.step.gradient_square_sum = 3.0;
  problem.values = Values(rows * cols);
  problem.options.weight_decay = 0;  // or no row is steady (kernels/cuda/lion_steady.cuh)
  return problem;
}

// Values in engine memory, of either type.
class EngineValues {
 public:
  EngineValues(Engine& engine, const Problem& problem)
      : rows_(problem.state.rows),
        cols_(problem.state.cols),
        dtype_(problem.dtype),
        full_(engine, problem.values),
        narrow_(engine, Narrow(problem.values)) {}
  Matrix matrix() const {
    if (dtype_ == DType::kBF16) return {narrow_.data(), dtype_, rows_, cols_};
    return {full_.data(), dtype_, rows_, cols_};
  }

 private:
  static std::vector<uint16_t> Narrow(const std::vector<float>& values) {
    std::vector<uint16_t> bits;
    bits.reserve(values.size());
    for (const float value : values) bits.push_back(FloatToBf16(value));
    return bits;
  }

  int64_t rows_;
  int64_t cols_;
  DType dtype_;
  EngineArray<float> full_;
  EngineArray<uint16_t> narrow_;
};

State InOne(Engine& engine, const Problem& problem) {
  const EngineState state(engine, problem.state);
  const EngineValues values(engine, problem);
  engine.EncodeAndUpdate(values.matrix(), problem.random, problem.options, state.weight(),
                         state.momentum(), state.step());
  return state.Read();
}

State InThree(Engine& engine, const Problem& problem) {
  const EngineState state(engine, problem.state);
  const EngineValues values(engine, problem);
  engine.EncodeGradient(values.matrix(), Rounding::kStochastic, problem.random, state.step(), false,
                        state.gradient());
  engine.AddSquareSum(state.gradient(), state.step());
  engine.LionUpdate(problem.options, state.weight(), state.momentum(), state.gradient(),
                    state.step());
  return state.Read();
}

void ExpectSame(const State& got, const State& expected) {
  EXPECT_EQ(got.codes, expected.codes);
  EXPECT_EQ(got.residual, expected.residual);
  EXPECT_EQ(got.momentum, expected.momentum);
  ExpectSameCounts(got.step, expected.step);
  // Bits, of floats that may be NaN.
  Outputs floats[2];
  const State* const states[] = {&got, &expected};
  for (int i = 0; i < 2; ++i) {
    floats[i].AddValues(states[i]->grid);
    floats[i].AddValues(states[i]->momentum_grid);
    floats[i].AddValues(states[i]->critical);
    floats[i].AddValues(states[i]->critical_momentum);
    const double sum = states[i]->step.gradient_square_sum;
    floats[i].AddValues(std::vector<double>{std::isnan(sum) ? double{kNaN} : sum});
  }
  EXPECT_TRUE(floats[0] == floats[1]);
}

void ExpectTheThree(const Problem& problem) {
  ExpectSameEverywhere([&](Engine& engine) {
    const State after = InOne(engine, problem);
    ExpectSame(after, InThree(engine, problem));
    if (IsCuda(engine)) {
      Problem narrow = problem;
      narrow.dtype = DType::kBF16;
      ExpectSame(InOne(engine, narrow), after);
    }
    return OutputsOf(after);
  });
}

// Widths in whole vectors and not, more than a block's columns at once, and more than what shared
// memory holds of a row.
TEST(EncodeAndUpdate, IsTheThreeOps) {
  const int64_t shapes[][2] = {{1, 1},    {3, 18},   {300, 128}, {7, 129},
                               {3, 2064}, {2, 4400}, {2, 21000}};
  for (const auto& [rows, cols] : shapes) {
    for (const bool fine : {false, true}) {
      for (const bool critical : {false, true}) {
        SCOPED_TRACE(testing::Message() << rows << " x " << cols << (fine ? ", fine" : "")
                                        << (critical ? ", critical" : ""));
        Problem problem = MakeProblem(rows, cols);
        if (fine) AddResidual(problem.state);
        if (critical && cols > 17) {
          AddCritical(problem.state, {0, 3, 15, 16, static_cast<int32_t>(cols) - 1});
          problem.values[0] = problem.values[3] = 512.0f;
        }
        ExpectTheThree(problem);
      }
    }
  }
}

TEST(EncodeAndUpdate, RowsAtTheEdgeOfTheirGrid) {
  for (const bool fine : {false, true}) {
    for (const float steps : {0.2f, 0.999f, 3.0f, -0.5f}) {
      Problem problem = MakeProblem(5, 2176);
      problem.state = MakeState(5, 2176, 127);
      if (fine) AddResidual(problem.state);
      TestRandom random(4);
      for (size_t i = 0; i < problem.state.codes.size(); ++i) {
        if (random.Next() % 4 == 0) problem.state.codes[i] = random.Next() % 2 == 0 ? 127 : -127;
        if (fine && std::abs(problem.state.codes[i]) == 127) problem.state.residual[i] = 0;
      }
      problem.state.step.learning_rate = steps * (fine ? 2e-3f / kResidualSteps : 2e-3f);
      ExpectTheThree(problem);
    }
  }
}

TEST(EncodeAndUpdate, WithWeightDecayOrToNearest) {
  Problem problem = MakeProblem(5, 160);
  AddCritical(problem.state, {2, 159});
  problem.options.weight_decay = 0.1f;
  ExpectTheThree(problem);
  problem.options.rounding = Rounding::kNearest;
  ExpectTheThree(problem);
}

// Rows of zeros, of numbers so small that their scale has no inverse or a huge one, at the end of
// fp32, and no numbers at all.
TEST(EncodeAndUpdate, RowsOfAnyMagnitude) {
  const float magnitudes[] = {0.0f, 1e-39f, 1e-36f, 1e-30f, 1e-20f, 3e37f, kInfinity, kNaN, 1.0f};
  constexpr int64_t kCols = 144;
  for (const bool critical : {false, true}) {
    for (const float bad : {0.0f, kInfinity, kNaN}) {
      Problem problem = MakeProblem(9, kCols);
      if (critical) AddCritical(problem.state, {0, 77});
      for (size_t i = 0; i < problem.values.size(); ++i) {
        const float magnitude = magnitudes[i / kCols];
        const bool number = std::isfinite(magnitude);
        if (number || i % kCols == 5) problem.values[i] *= number ? 10.0f * magnitude : magnitude;
        problem.values[i] = Bf16ToFloat(FloatToBf16(problem.values[i]));
      }
      if (bad != 0.0f) problem.values[8 * kCols + 77] = bad;
      ExpectTheThree(problem);
    }
  }
}

TEST(EncodeAndUpdate, ASkippedStepAddsItsNormAlone) {
  for (const int64_t cols : {144, 145}) {
    Problem problem = MakeProblem(5, cols);
    AddCritical(problem.state, {0, 77});
    problem.state.step.skip_update = 1;
    ExpectTheThree(problem);
    const EnginePointer engine(CreateCpuEngine(1));
    const State after = InOne(*engine, problem);
    EXPECT_EQ(after.codes, problem.state.codes);
    EXPECT_EQ(after.critical, problem.state.critical);
    EXPECT_GT(after.step.gradient_square_sum, 3.0);
  }
}

// A block of rows, whose random numbers are those of its rows in the whole, is updated like it.
TEST(EncodeAndUpdate, BlocksOfRowsAreRowsOfTheWhole) {
  constexpr int64_t kRows = 11;
  constexpr int64_t kSplit = 4;
  for (const int64_t cols : {144, 77}) {
    for (const float weight_decay : {0.0f, 0.1f}) {
      Problem problem = MakeProblem(kRows, cols);
      problem.options.weight_decay = weight_decay;
      ExpectSameEverywhere([&](Engine& engine) {
        const EngineState state(engine, problem.state);
        const EngineValues values(engine, problem);
        for (const auto& [begin, end] : {std::pair(int64_t{0}, kSplit), std::pair(kSplit, kRows)}) {
          Weight w = state.weight();
          Momentum m = state.momentum();
          RandomStream random = problem.random;
          LionOptions options = problem.options;
          random.row_offset += begin;
          options.row_offset = begin;
          w.data = static_cast<int8_t*>(w.data) + begin * cols;
          w.grid += begin;
          w.rows = end - begin;
          m.data = static_cast<int8_t*>(m.data) + begin * cols;
          m.grid += begin * problem.state.Blocks();
          engine.EncodeAndUpdate({static_cast<float*>(values.matrix().data) + begin * cols,
                                  DType::kF32, end - begin, cols},
                                 random, options, w, m, state.step());
        }
        const State after = state.Read();
        const State whole = InOne(engine, problem);
        EXPECT_EQ(after.codes, whole.codes);
        EXPECT_EQ(after.momentum, whole.momentum);
        EXPECT_EQ(after.momentum_grid, whole.momentum_grid);
        EXPECT_DOUBLE_EQ(after.step.gradient_square_sum, whole.step.gradient_square_sum);
        return OutputsOf(after);
      });
    }
  }
}

TEST(EncodeAndUpdate, Fp32StatesTakeTheValuesAsTheyAre) {
  constexpr int64_t kRows = 3;
  constexpr int64_t kCols = 53;
  const std::vector<float> w = TestRandom(1).Floats(kRows * kCols);
  const std::vector<float> m = TestRandom(2).Floats(kRows * kCols, 0.1f);
  const std::vector<float> g = TestRandom(3).Floats(kRows * kCols);
  const StepState before = MakeState(1, 1).step;
  ExpectSameEverywhere([&](Engine& engine) {
    Outputs outputs[2];
    double sums[2];
    for (const bool in_one : {false, true}) {
      const EngineStep step(engine, before);
      const EngineArray<float> weight(engine, w);
      const EngineArray<float> momentum(engine, m);
      const EngineArray<float> values(engine, g);
      const Weight state{weight.data(), nullptr, DType::kF32, kRows, kCols};
      const Momentum moving{momentum.data(), nullptr, DType::kF32};
      const Gradient gradient{values.data(), nullptr, DType::kF32, kRows, kCols};
      if (in_one) {
        engine.EncodeAndUpdate({values.data(), DType::kF32, kRows, kCols}, {}, MakeOptions(), state,
                               moving, step.data());
      } else {
        engine.AddSquareSum(gradient, step.data());
        engine.LionUpdate(MakeOptions(), state, moving, gradient, step.data());
      }
      outputs[in_one].Add(weight);
      outputs[in_one].Add(momentum);
      sums[in_one] = step.Read().gradient_square_sum;
    }
    EXPECT_TRUE(outputs[0] == outputs[1]);
    EXPECT_EQ(sums[0], sums[1]);
    return outputs[1];
  });
}

TEST(EncodeAndUpdate, SaysWhatItCannotUpdate) {
  for (const char* const variant : {"plain", "cuda"}) {
    const EnginePointer engine = CreateVariant(variant, 1);
    if (engine == nullptr) continue;
    const EngineArray<float> data(*engine, 16);
    const EngineStep step(*engine, {});
    engine->EncodeAndUpdate({data.data(), DType::kF32, 2, 2}, {}, {},
                            {data.data(), data.data(), DType::kI8, 2, 2},
                            {data.data(), nullptr, DType::kF32}, step.data());
    EXPECT_STREQ(engine->Synchronize(), "lion update: weight and momentum differ in dtype");
  }
}

}  // namespace
}  // namespace qft
