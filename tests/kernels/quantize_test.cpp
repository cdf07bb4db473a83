#include <cmath>

#include "base/philox.h"
#include "tests/kernels/test_engine.h"

namespace qft {
namespace {

struct Quantized {
  std::vector<int8_t> codes;
  std::vector<float> scales;
};

struct Grid {
  float scale;
  float inverse;  // 0: codes are 0
};

Grid GridOf(const std::vector<float>& values, float top) {
  float absmax = 0;
  for (const float value : values) {
    if (!std::isfinite(value)) return {kNaN, 0};
    absmax = std::max(absmax, std::fabs(value));
  }
  const float inverse = top / absmax;
  if (!std::isfinite(inverse)) return {0, 0};
  return {absmax / top, inverse};
}

uint32_t Random16(const RandomStream& random, uint64_t step, int64_t row, int64_t cols, int64_t c) {
  const int64_t block = (random.row_offset + row) * ((cols + 7) / 8) + c / 8;
  const PhiloxBlock words = Philox(random.key, static_cast<uint64_t>(block), step);
  return words.word[c % 8 / 2] >> (c % 2 * 16) & 0xffffu;
}

int8_t RoundReference(float x, Rounding rounding, uint32_t random) {
  if (rounding == Rounding::kNearest) return static_cast<int8_t>(std::nearbyintf(x));
  const auto fixed = static_cast<int64_t>(std::nearbyintf(x * 65536.0f));
  return static_cast<int8_t>((fixed + random) >> 16);
}

// The operand of the input gradient by the contract, one element at a time. `columns`: the operand
// of the weight gradient (scales per column, fold per row), not yet transposed.
Quantized Reference(const std::vector<float>& x, int64_t rows, int64_t cols,
                    const std::vector<float>& fold, bool columns, Rounding rounding,
                    const RandomStream& random, uint64_t step) {
  Quantized out;
  out.codes.resize(x.size());
  const auto at = [&](int64_t r, int64_t c) {
    const float value = x[static_cast<size_t>(r * cols + c)];
    if (fold.empty()) return value;
    return value * fold[static_cast<size_t>(columns ? r : c)];
  };
  for (int64_t i = 0; i < (columns ? cols : rows); ++i) {
    std::vector<float> line;
    for (int64_t j = 0; j < (columns ? rows : cols); ++j) {
      line.push_back(columns ? at(j, i) : at(i, j));
    }
    const Grid grid = GridOf(line, 127);
    out.scales.push_back(grid.scale);
    for (int64_t j = 0; j < (columns ? rows : cols); ++j) {
      const int64_t r = columns ? j : i;
      const int64_t c = columns ? i : j;
      const float value = grid.inverse == 0 ? 0 : at(r, c) * grid.inverse;
      out.codes[static_cast<size_t>(r * cols + c)] =
          RoundReference(value, rounding, Random16(random, step, r, cols, c));
    }
  }
  return out;
}

// Random rows, among them a zero one, a tiny one and some that are not finite.
std::vector<float> Values(int64_t rows, int64_t cols) {
  TestRandom random(static_cast<uint64_t>(rows * 1000 + cols));
  std::vector<float> x = random.Floats(rows * cols);
  const auto fill = [&](int64_t row, float value) {
    if (row >= rows) return;
    std::fill_n(x.begin() + row * cols, cols, value);
  };
  fill(3, 0.0f);
  fill(4, -1e-38f);
  fill(5, 1e-45f);
  fill(6, 3e38f);
  if (rows > 7) x[static_cast<size_t>(7 * cols + cols / 2)] = kNaN;
  if (rows > 8) x[static_cast<size_t>(8 * cols)] = -kInfinity;
  if (rows > 9) x[static_cast<size_t>(9 * cols + cols - 1)] = -kNaN;
  return x;
}

void ExpectSameFloats(const std::vector<float>& got, const std::vector<float>& expected) {
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    if (std::isnan(expected[i])) {
      EXPECT_TRUE(std::isnan(got[i])) << i;
    } else {
      EXPECT_EQ(got[i], expected[i]) << i;
    }
  }
}

struct Shape {
  int64_t rows;
  int64_t cols;
};

const Shape kShapes[] = {{1, 1},
                         {3, 1},
                         {1, 17},
                         {13, 16},
                         {12, 100},
                         {70, 65},
                         {130, 200},
                         // A block of a GPU holds wide rows in one way or another.
                         {9, 2056},
                         {3, 4104},
                         {3, 9000},
                         {2, 13000},
                         {2, 17000}};

TEST(QuantizeRows, IsTheContract) {
  for (const Shape shape : kShapes) {
    const std::vector<float> x = Values(shape.rows, shape.cols);
    const Quantized expected =
        Reference(x, shape.rows, shape.cols, {}, false, Rounding::kNearest, {}, 0);
    ExpectSameEverywhere([&](Engine& engine) {
      const EngineArray<float> input(engine, x);
      const EngineArray<int8_t> codes(engine, input.size());
      const EngineArray<float> scales(engine, shape.rows);
      engine.QuantizeRows({input.data(), DType::kF32, shape.rows, shape.cols},
                          {codes.data(), scales.data(), DType::kI8, shape.rows, shape.cols});
      EXPECT_EQ(codes.Read(), expected.codes);
      ExpectSameFloats(scales.Read(), expected.scales);
      Outputs outputs;
      outputs.Add(codes);
      outputs.Add(scales);
      return outputs;
    });
  }
}

TEST(QuantizeRows, TiesGoToEvenAndTheLargestGetsTheTopCode) {
  const EnginePointer engine(CreateCpuEngine(1));
  const std::vector<float> x = {127.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -127.0f, 0.49999997f};
  const EngineArray<float> input(*engine, x);
  const EngineArray<int8_t> codes(*engine, input.size());
  const EngineArray<float> scales(*engine, 1);
  engine->QuantizeRows({input.data(), DType::kF32, 1, 8},
                       {codes.data(), scales.data(), DType::kI8, 1, 8});
  EXPECT_EQ(codes.Read(), (std::vector<int8_t>{127, 0, 2, 2, 0, -2, -127, 0}));
  EXPECT_EQ(scales.Read()[0], 1.0f);
}

class OutputGradient : public testing::TestWithParam<Rounding> {};

TEST_P(OutputGradient, IsTheContract) {
  const RandomStream random{{11, 22}, 1000};
  StepState step;
  step.step = 7;
  for (const Shape shape : kShapes) {
    for (const bool with_fold : {false, true}) {
      const std::vector<float> x = Values(shape.rows, shape.cols);
      const std::vector<float> fold =
          with_fold ? TestRandom(5).Scales(shape.cols) : std::vector<float>();
      const Quantized expected =
          Reference(x, shape.rows, shape.cols, fold, false, GetParam(), random, step.step);
      ExpectSameEverywhere([&](Engine& engine) {
        const EngineArray<float> dy(engine, x);
        const EngineArray<float> factors(engine, fold);
        const EngineArray<int8_t> codes(engine, dy.size());
        const EngineArray<float> scales(engine, shape.rows);
        engine.QuantizeOutputGradient(
            {dy.data(), DType::kF32, shape.rows, shape.cols}, with_fold ? factors.data() : nullptr,
            GetParam(), random, EngineStep(engine, step).data(),
            {codes.data(), scales.data(), DType::kI8, shape.rows, shape.cols});
        EXPECT_EQ(codes.Read(), expected.codes);
        ExpectSameFloats(scales.Read(), expected.scales);
        Outputs outputs;
        outputs.Add(codes);
        outputs.Add(scales);
        return outputs;
      });
    }
  }
}

TEST_P(OutputGradient, BothAtOnceAreTheSameAsEach) {
  const RandomStream by_row{{11, 22}, 1000}, by_column{{33, 44}, 2000};
  for (const Shape shape : kShapes) {
    const std::vector<float> x = Values(shape.rows, shape.cols);
    ExpectSameEverywhere([&](Engine& engine) {
      const EngineArray<float> dy(engine, x);
      const EngineArray<float> fold(engine, TestRandom(5).Scales(shape.cols));
      const EngineArray<float> row_fold(engine, TestRandom(6).Scales(shape.rows));
      const EngineArray<int8_t> rows(engine, dy.size()), both_rows(engine, dy.size());
      const EngineArray<int8_t> columns(engine, dy.size()), both_columns(engine, dy.size());
      const EngineArray<float> row_scales(engine, shape.rows), both_row_scales(engine, shape.rows);
      const EngineArray<float> scales(engine, shape.cols), both_scales(engine, shape.cols);
      const EngineStep step(engine, {});
      const Matrix matrix{dy.data(), DType::kF32, shape.rows, shape.cols};
      const auto operand = [](const auto& codes, const auto& s, int64_t r, int64_t c) {
        return Operand{codes.data(), s.data(), DType::kI8, r, c};
      };
      engine.QuantizeOutputGradient(matrix, fold.data(), GetParam(), by_row, step.data(),
                                    operand(rows, row_scales, shape.rows, shape.cols));
      engine.QuantizeOutputGradientTransposed(matrix, row_fold.data(), GetParam(), by_column,
                                              step.data(),
                                              operand(columns, scales, shape.cols, shape.rows));
      engine.QuantizeOutputGradients(
          matrix, GetParam(), step.data(),
          {fold.data(), by_row, operand(both_rows, both_row_scales, shape.rows, shape.cols)},
          {row_fold.data(), by_column, operand(both_columns, both_scales, shape.cols, shape.rows)});
      EXPECT_EQ(both_rows.Read(), rows.Read());
      EXPECT_EQ(both_columns.Read(), columns.Read());
      ExpectSameFloats(both_row_scales.Read(), row_scales.Read());
      ExpectSameFloats(both_scales.Read(), scales.Read());
      Outputs outputs;
      outputs.Add(both_rows);
      outputs.Add(both_columns);
      return outputs;
    });
  }
}

TEST_P(OutputGradient, TransposedIsTheContract) {
  const RandomStream random{{11, 22}, 1000};
  StepState step;
  step.step = 7;
  for (const Shape shape : kShapes) {
    for (const bool with_fold : {false, true}) {
      // Lines that are zero, tiny or not finite are columns here.
      const std::vector<float> columns = Values(shape.cols, shape.rows);
      std::vector<float> x(columns.size());
      for (int64_t r = 0; r < shape.rows; ++r) {
        for (int64_t c = 0; c < shape.cols; ++c) {
          x[static_cast<size_t>(r * shape.cols + c)] =
              columns[static_cast<size_t>(c * shape.rows + r)];
        }
      }
      const std::vector<float> fold =
          with_fold ? TestRandom(5).Scales(shape.rows) : std::vector<float>();
      const Quantized expected =
          Reference(x, shape.rows, shape.cols, fold, true, GetParam(), random, step.step);
      ExpectSameEverywhere([&](Engine& engine) {
        const EngineArray<float> dy(engine, x);
        const EngineArray<float> factors(engine, fold);
        const EngineArray<int8_t> codes(engine, dy.size());
        const EngineArray<float> scales(engine, shape.cols);
        engine.QuantizeOutputGradientTransposed(
            {dy.data(), DType::kF32, shape.rows, shape.cols}, with_fold ? factors.data() : nullptr,
            GetParam(), random, EngineStep(engine, step).data(),
            {codes.data(), scales.data(), DType::kI8, shape.cols, shape.rows});
        const std::vector<int8_t> got = codes.Read();
        for (int64_t r = 0; r < shape.rows; ++r) {
          for (int64_t c = 0; c < shape.cols; ++c) {
            EXPECT_EQ(got[static_cast<size_t>(c * shape.rows + r)],
                      expected.codes[static_cast<size_t>(r * shape.cols + c)])
                << r << ", " << c << " of " << shape.rows << " x " << shape.cols;
          }
        }
        ExpectSameFloats(scales.Read(), expected.scales);
        Outputs outputs;
        outputs.Add(codes);
        outputs.Add(scales);
        return outputs;
      });
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Roundings, OutputGradient,
                         testing::Values(Rounding::kNearest, Rounding::kStochastic));

TEST(OutputGradientRandom, SplitIntoMicroBatchesDoesNotMatter) {
  constexpr int64_t kRows = 20;
  constexpr int64_t kCols = 37;
  constexpr int64_t kFirst = 7;
  const std::vector<float> x = TestRandom(3).Floats(kRows * kCols);
  const EnginePointer engine(CreateCpuEngine(2));
  const EngineArray<float> dy(*engine, x);
  const EngineArray<int8_t> whole(*engine, dy.size());
  const EngineArray<int8_t> parts(*engine, dy.size());
  const EngineArray<float> scales(*engine, kRows);
  const StepState step;
  const auto quantize = [&](int64_t row, int64_t rows, int8_t* codes) {
    engine->QuantizeOutputGradient({dy.data() + row * kCols, DType::kF32, rows, kCols}, nullptr,
                                   Rounding::kStochastic, {{1, 2}, 100 + row}, &step,
                                   {codes, scales.data(), DType::kI8, rows, kCols});
  };
  quantize(0, kRows, whole.data());
  quantize(0, kFirst, parts.data());
  quantize(kFirst, kRows - kFirst, parts.data() + kFirst * kCols);
  EXPECT_EQ(whole.Read(), parts.Read());
}

TEST(OutputGradientRandom, MeanOverStepsIsTheValue) {
  constexpr int64_t kCols = 64;
  constexpr int kSteps = 4000;
  std::vector<float> x = TestRandom(4).Floats(kCols, 60.0f);
  x[0] = 127.0f;
  const EnginePointer engine(CreateCpuEngine(1));
  const EngineArray<float> dy(*engine, x);
  const EngineArray<int8_t> codes(*engine, kCols);
  const EngineArray<float> scales(*engine, 1);
  std::vector<double> sum(kCols);
  StepState step;
  for (int i = 0; i < kSteps; ++i) {
    step.step = static_cast<uint64_t>(i);
    engine->QuantizeOutputGradient({dy.data(), DType::kF32, 1, kCols}, nullptr,
                                   Rounding::kStochastic, {{9, 9}, 0}, &step,
                                   {codes.data(), scales.data(), DType::kI8, 1, kCols});
    const std::vector<int8_t> got = codes.Read();
    for (size_t c = 0; c < kCols; ++c) sum[c] += got[c];
  }
  // A code is off by at most one, with a standard deviation of at most 1/2.
  for (size_t c = 0; c < kCols; ++c) {
    EXPECT_NEAR(sum[c] / kSteps, x[c], 5 * 0.5 / std::sqrt(kSteps)) << c;
  }
}

TEST(OutputGradientFloating, MultipliesAndTransposes) {
  const std::vector<float> x = TestRandom(6).Floats(6);
  const std::vector<float> fold = {2.0f, 0.5f, 4.0f};
  ExpectSameEverywhere([&](Engine& engine) {
    const EngineArray<float> dy(engine, x);
    const EngineArray<float> factors(engine, fold);
    const EngineArray<float> rows(engine, 6);
    const EngineArray<float> columns(engine, 6);
    engine.QuantizeOutputGradient({dy.data(), DType::kF32, 2, 3}, factors.data(),
                                  Rounding::kStochastic, {}, nullptr,
                                  {rows.data(), nullptr, DType::kF32, 2, 3});
    engine.QuantizeOutputGradientTransposed({dy.data(), DType::kF32, 2, 3}, nullptr,
                                            Rounding::kStochastic, {}, nullptr,
                                            {columns.data(), nullptr, DType::kF32, 3, 2});
    EXPECT_EQ(rows.Read(), (std::vector<float>{x[0] * 2.0f, x[1] * 0.5f, x[2] * 4.0f, x[3] * 2.0f,
                                               x[4] * 0.5f, x[5] * 4.0f}));
    EXPECT_EQ(columns.Read(), (std::vector<float>{x[0], x[3], x[1], x[4], x[2], x[5]}));
    return Outputs();
  });
}

TEST(EncodeWeight, LeavesRoomAboveTheLargestAndDecodes) {
  for (const Shape shape : kShapes) {
    const std::vector<float> x = Values(shape.rows, shape.cols);
    ExpectSameEverywhere([&](Engine& engine) {
      const EngineArray<float> input(engine, x);
      const EngineArray<int8_t> codes(engine, input.size());
      const EngineArray<float> grid(engine, shape.rows);
      const EngineArray<float> decoded(engine, input.size());
      const Weight w{codes.data(), grid.data(), DType::kI8, shape.rows, shape.cols};
      engine.EncodeWeight(input.data(), w);
      engine.DecodeWeight(w, 0, shape.rows, decoded.data());
      const std::vector<int8_t> got = codes.Read();
      const std::vector<float> values = decoded.Read();
      for (int64_t r = 0; r < shape.rows; ++r) {
        const auto begin = x.begin() + r * shape.cols;
        Grid expected = GridOf({begin, begin + shape.cols}, 120);
        if (expected.scale == 0) expected.scale = 0x1p-13f;  // a row of zeros can train
        ExpectSameFloats({grid.Read()[static_cast<size_t>(r)]}, {expected.scale});
        for (int64_t c = 0; c < shape.cols; ++c) {
          const auto i = static_cast<size_t>(r * shape.cols + c);
          const float code = expected.inverse == 0 ? 0 : std::nearbyintf(x[i] * expected.inverse);
          EXPECT_EQ(got[i], code);
          ExpectSameFloats({values[i]}, {expected.scale * code});
        }
      }
      Outputs outputs;
      outputs.Add(codes);
      outputs.Add(decoded);
      return outputs;
    });
  }
}

TEST(DecodeWeight, ReadsTheRowsAskedFor) {
  const std::vector<int8_t> codes = {1, -2, 3, -4, 5, -6};
  const std::vector<float> grid = {1.0f, 10.0f, 100.0f};
  const EnginePointer engine(CreateCpuEngine(1));
  const EngineArray<int8_t> data(*engine, codes);
  const EngineArray<float> scales(*engine, grid);
  const EngineArray<float> values(*engine, 2);
  engine->DecodeWeight({data.data(), scales.data(), DType::kI8, 3, 2}, 1, 1, values.data());
  EXPECT_EQ(values.Read(), (std::vector<float>{30.0f, -40.0f}));
}

TEST(CpuEngine, ReportsTheFirstThingItCannotDo) {
  const EnginePointer engine(CreateCpuEngine(1));
  EXPECT_STREQ(engine->Name(), "cpu");
  EXPECT_EQ(engine->Synchronize(), nullptr);
  const EngineArray<float> x(*engine, std::vector<float>(4, 1.0f));
  const Matrix matrix{x.data(), DType::kF32, 2, 2};
  engine->QuantizeRows(matrix, {x.data(), nullptr, DType::kBF16, 2, 2});
  engine->DecodeWeight({x.data(), nullptr, DType::kF16, 2, 2}, 0, 2, x.data());
  EXPECT_STREQ(engine->Synchronize(), "bf16 operands are not supported by the cpu engine");
  EXPECT_EQ(x.Read(), std::vector<float>(4, 1.0f));
}

TEST(CpuEngine, MemoryIsAlignedAndZeroed) {
  const EnginePointer engine(CreateCpuEngine(1));
  for (const size_t bytes : {size_t{0}, size_t{1}, size_t{1000}, size_t{5} << 20}) {
    auto* data = static_cast<uint8_t*>(engine->Allocate(bytes));
    ASSERT_NE(data, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(data) % 64, 0u);
    for (size_t i = 0; i < bytes; i += 999) EXPECT_EQ(data[i], 0);
    engine->Free(data, bytes);
  }
  EXPECT_EQ(engine->Allocate(std::numeric_limits<size_t>::max()), nullptr);
  EXPECT_EQ(engine->Allocate(std::numeric_limits<size_t>::max() / 2), nullptr);
}

}  // namespace
}  // namespace qft
