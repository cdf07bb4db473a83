#include <cmath>
#include <utility>

#include "base/half.h"
#include "base/philox.h"
#include "tests/kernels/test_engine.h"

namespace qft {
namespace {

TEST(EncodeGradient, RowsAreRoundedLikeOutputGradientsAndAddBack) {
  constexpr int64_t kRows = 9;
  constexpr int64_t kCols = 77;
  std::vector<float> x = TestRandom(1).Floats(kRows * kCols);
  std::fill_n(x.begin() + 2 * kCols, kCols, 0.0f);
  x[4 * kCols + 3] = kInfinity;
  const RandomStream random{{3, 4}, 50};
  StepState step;
  step.step = 12;
  for (const Rounding rounding : {Rounding::kNearest, Rounding::kStochastic}) {
    ExpectSameEverywhere([&](Engine& engine) {
      const EngineArray<float> values(engine, x);
      const EngineArray<int8_t> codes(engine, values.size());
      const EngineArray<float> grid(engine, kRows);
      const EngineArray<int8_t> expected_codes(engine, values.size());
      const EngineArray<float> expected_grid(engine, kRows);
      const EngineArray<double> square_sums(engine, kRows);
      const Gradient gradient{codes.data(), grid.data(), DType::kI8,        kRows,
                              kCols,        {},          square_sums.data()};
      const EngineStep state(engine, step);
      engine.EncodeGradient({values.data(), DType::kF32, kRows, kCols}, rounding, random,
                            state.data(), false, gradient);
      engine.QuantizeOutputGradient(
          {values.data(), DType::kF32, kRows, kCols}, nullptr, rounding, random, state.data(),
          {expected_codes.data(), expected_grid.data(), DType::kI8, kRows, kCols});
      EXPECT_EQ(codes.Read(), expected_codes.Read());

      engine.AccumulateGradient(gradient, values.data());
      const std::vector<float> sums = values.Read();
      for (size_t i = 0; i < x.size(); ++i) {
        const float scale = grid.Read()[i / kCols];
        const float expected = x[i] + scale * static_cast<float>(codes.Read()[i]);
        EXPECT_TRUE(sums[i] == expected || (std::isnan(sums[i]) && std::isnan(expected))) << i;
      }
      Outputs outputs;
      outputs.Add(codes);
      outputs.Add(grid);
      outputs.Add(values);
      return outputs;
    });
  }
}

TEST(EncodeGradient, Fp32IsACopy) {
  const std::vector<float> x = TestRandom(2).Floats(21);
  for (const std::string& variant : EngineVariants()) {
    const EnginePointer engine = CreateVariant(variant, 2);
    const EngineArray<float> values(*engine, x);
    const EngineArray<float> copy(*engine, 21);
    const Gradient gradient{copy.data(), nullptr, DType::kF32, 3, 7};
    engine->EncodeGradient({values.data(), DType::kF32, 3, 7}, Rounding::kStochastic, {}, nullptr,
                           false, gradient);
    EXPECT_EQ(copy.Read(), x);
    engine->AccumulateGradient(gradient, values.data());
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(values.Read()[i], 2 * x[i]);
    engine->EncodeGradient({values.data(), DType::kF32, 3, 7}, Rounding::kStochastic, {}, nullptr,
                           true, gradient);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(copy.Read()[i], 3 * x[i]);
  }
}

// A gradient as it stands on the stack, in engine memory, with critical features.
class Stacked {
 public:
  Stacked(Engine& engine, int64_t rows, int64_t cols, const std::vector<int32_t>& columns)
      : engine_(engine),
        columns_(engine, columns),
        codes_(engine, rows * cols),
        grid_(engine, rows),
        critical_(engine, rows * static_cast<int64_t>(columns.size())),
        square_sums_(engine, rows),
        gradient_{codes_.data(),
                  grid_.data(),
                  DType::kI8,
                  rows,
                  cols,
                  {columns_.data(), critical_.data(), static_cast<int32_t>(columns.size())},
                  square_sums_.data()} {}

  void Encode(void* values, DType dtype, int64_t random_row, bool add) const {
    engine_.EncodeGradient({values, dtype, gradient_.rows, gradient_.cols}, Rounding::kStochastic,
                           {{3, 4}, random_row}, nullptr, add, gradient_);
  }
  const Gradient& gradient() const { return gradient_; }
  Outputs Read() const {
    Outputs outputs;
    outputs.Add(codes_);
    outputs.Add(grid_);
    outputs.Add(critical_);
    return outputs;
  }
  std::vector<double> SquareSums() const { return square_sums_.Read(); }

 private:
  Engine& engine_;
  EngineArray<int32_t> columns_;
  EngineArray<int8_t> codes_;
  EngineArray<float> grid_;
  EngineArray<float> critical_;
  EngineArray<double> square_sums_;
  Gradient gradient_;
};

// What stands there already is added: the bits of AccumulateGradient and EncodeGradient, from
// values in either type.
TEST(EncodeGradient, AddsToWhatStandsThere) {
  struct Size {
    int64_t rows, cols;
    std::vector<int32_t> columns;
  };
  for (const Size& size : std::vector<Size>{{9, 77, {}},
                                            {5, 70, {0, 1, 69}},
                                            {700, 128, {5, 64, 65, 127}},
                                            {3, 4096, {0, 17, 4095}},
                                            {2, 11008, {8, 9, 11000}}}) {
    SCOPED_TRACE(size.cols);
    const std::vector<float> first = TestRandom(1).Floats(size.rows * size.cols);
    std::vector<float> second = TestRandom(2).Floats(size.rows * size.cols);
    std::vector<uint16_t> narrow;
    for (float& value : second) {
      narrow.push_back(FloatToBf16(value));
      value = Bf16ToFloat(narrow.back());
    }
    ExpectSameEverywhere([&](Engine& engine) {
      const auto run = [&](const auto& add) {
        const Stacked stacked(engine, size.rows, size.cols, size.columns);
        const EngineArray<float> values(engine, first), more(engine, second);
        stacked.Encode(values.data(), DType::kF32, 50, false);
        add(stacked, more.data());
        return std::make_pair(stacked.Read(), stacked.SquareSums());
      };
      const auto in_two = run([&](const Stacked& stacked, float* values) {
        engine.AccumulateGradient(stacked.gradient(), values);
        stacked.Encode(values, DType::kF32, 90, false);
      });
      const auto in_one = run([&](const Stacked& stacked, float* values) {
        stacked.Encode(values, DType::kF32, 90, true);
      });
      EXPECT_TRUE(in_one == in_two);
      if (IsCuda(engine)) {
        const EngineArray<uint16_t> values(engine, narrow);
        EXPECT_TRUE(in_two == run([&](const Stacked& stacked, float*) {
                      stacked.Encode(values.data(), DType::kBF16, 90, true);
                    }));
      }
      return in_one.first;
    });
  }
}

double SquareSum(Engine& engine, const Gradient& gradient, float scale, double start) {
  StepState step;
  step.gradient_scale = scale;
  step.gradient_square_sum = start;
  const EngineStep state(engine, step);
  engine.AddSquareSum(gradient, state.data());
  return state.Read().gradient_square_sum;
}

// Values [rows, cols] as they stand on the stack.
class Encoded {
 public:
  Encoded(Engine& engine, int64_t rows, int64_t cols, const std::vector<float>& values)
      : codes_(engine, rows * cols), grid_(engine, rows), square_sums_(engine, rows) {
    const EngineArray<float> matrix(engine, values);
    gradient = {codes_.data(), grid_.data(), DType::kI8, rows, cols, {}, square_sums_.data()};
    engine.EncodeGradient({matrix.data(), DType::kF32, rows, cols}, Rounding::kStochastic, {},
                          nullptr, false, gradient);
  }
  // Of row r, exact.
  double SquareSum(size_t r) const {
    const std::vector<int8_t> codes = codes_.Read();
    const double grid = grid_.Read()[r];
    int64_t sum = 0;
    for (int64_t c = 0; c < gradient.cols; ++c) {
      const size_t i = r * static_cast<size_t>(gradient.cols) + static_cast<size_t>(c);
      sum += int32_t{codes[i]} * codes[i];
    }
    return grid * grid * static_cast<double>(sum);
  }

  Gradient gradient;

 private:
  EngineArray<int8_t> codes_;
  EngineArray<float> grid_;
  EngineArray<double> square_sums_;
};

// Rows are exact; their sum is in row order on the CPU, in the engine's own on a GPU.
TEST(AddSquareSum, IsExact) {
  constexpr int64_t kRows = 300;
  constexpr int64_t kCols = 400;  // more than one task
  const std::vector<float> values = TestRandom(5).Floats(kRows * kCols);
  double plain = 0;
  for (size_t r = 0; r < kRows; ++r) {
    double row_plain = 0;
    for (size_t c = 0; c < kCols; ++c) {
      row_plain += double{values[r * kCols + c]} * values[r * kCols + c];
    }
    plain += row_plain;
  }
  ExpectSameEverywhere([&](Engine& engine) {
    const EngineArray<float> floats(engine, values);
    const Encoded encoded(engine, kRows, kCols, values);
    double coded = 0;
    for (size_t r = 0; r < kRows; ++r) coded += encoded.SquareSum(r);
    const double i8 = SquareSum(engine, encoded.gradient, 0.5f, 3.0);
    const double f32 =
        SquareSum(engine, {floats.data(), nullptr, DType::kF32, kRows, kCols}, 0.5f, 3.0);
    const double bound = IsCuda(engine) ? 1e-14 : 0;
    EXPECT_NEAR(i8, 3.0 + 0.25 * coded, bound * coded);
    EXPECT_NEAR(f32, 3.0 + 0.25 * plain, bound * plain);
    return Outputs();
  });
}

TEST(AddSquareSum, WhatIsNoNumberReachesTheNorm) {
  for (const std::string& variant : EngineVariants()) {
    const EnginePointer engine = CreateVariant(variant, 1);
    const Encoded encoded(*engine, 2, 3, {1.0f, 2.0f, 3.0f, 0.0f, kInfinity, 1.0f});
    EXPECT_TRUE(std::isnan(SquareSum(*engine, encoded.gradient, 1.0f, 1.0))) << variant;
  }
}

TEST(SetClipFactor, ClipsByTheNorm) {
  for (const std::string& variant : EngineVariants()) {
    const EnginePointer engine = CreateVariant(variant, 1);
    const auto run = [&](float max_norm, double override_sum, double square_sum) {
      StepState step;
      step.clip_factor = -1;
      step.skip_update = -1;
      step.gradient_square_sum = square_sum;
      const EngineStep state(*engine, step);
      engine->SetClipFactor(max_norm, override_sum, state.data());
      return state.Read();
    };
    EXPECT_EQ(run(1.0f, -1, 16.0).clip_factor, 0.25f);
    EXPECT_EQ(run(1.0f, -1, 16.0).skip_update, 0);
    EXPECT_EQ(run(8.0f, -1, 16.0).clip_factor, 1.0f);
    EXPECT_EQ(run(0.0f, -1, 16.0).clip_factor, 1.0f);
    EXPECT_EQ(run(1.0f, -1, 0.0).clip_factor, 1.0f);
    EXPECT_EQ(run(1.0f, 4.0, 16.0).clip_factor, 0.5f);
    for (const double bad : {double{kNaN}, double{kInfinity}}) {
      EXPECT_EQ(run(1.0f, -1, bad).skip_update, 1);
      EXPECT_EQ(run(1.0f, -1, bad).clip_factor, 1.0f);
      EXPECT_EQ(run(0.0f, -1, bad).skip_update, 1);
    }
  }
}

}  // namespace
}  // namespace qft
