// Critical features: kept apart by quantising, added by the forward and weight-gradient matmuls.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "test_engine.h"

namespace qft {
namespace {

struct Size {
  int64_t tokens;
  int64_t outputs;
  int64_t inputs;
  std::vector<int32_t> columns;
};

const std::vector<Size>& Sizes() {
  static const std::vector<Size> sizes = {{1, 7, 32, {31}},
                                          {5, 96, 70, {0, 1, 69}},
                                          {40, 3, 33, {2, 16, 17, 18, 32}},
                                          {300, 200, 200, {5, 64, 65, 127, 128, 130, 150, 199}}};
  return sizes;
}

// Values whose critical columns are far above the others.
std::vector<float> OutlierRows(const Size& size, TestRandom& random) {
  std::vector<float> x = random.Floats(size.tokens * size.inputs);
  for (int64_t t = 0; t < size.tokens; ++t) {
    for (const int32_t c : size.columns) x[static_cast<size_t>(t * size.inputs + c)] *= 300.0f;
  }
  return x;
}

bool IsCritical(const Size& size, int64_t column) {
  return std::find(size.columns.begin(), size.columns.end(), column) != size.columns.end();
}

std::vector<float> Magnitudes(std::vector<float> values) {
  for (float& value : values) value = std::fabs(value);
  return values;
}

TEST(Critical, QuantizeRowsKeepsThemApart) {
  for (const Size& size : Sizes()) {
    TestRandom random(1);
    const std::vector<float> x = OutlierRows(size, random);
    const auto count = static_cast<int32_t>(size.columns.size());
    ExpectSameEverywhere([&](Engine& engine) {
      const EngineArray<float> input(engine, x);
      const EngineArray<int8_t> codes(engine, size.tokens * size.inputs);
      const EngineArray<float> scales(engine, size.tokens);
      const EngineArray<int32_t> columns(engine, size.columns);
      const EngineArray<float> values(engine, size.tokens * count);
      engine.QuantizeRows({input.data(), DType::kF32, size.tokens, size.inputs},
                          {codes.data(),
                           scales.data(),
                           DType::kI8,
                           size.tokens,
                           size.inputs,
                           {columns.data(), values.data(), count}});
      const std::vector<int8_t> got = codes.Read();
      const std::vector<float> got_scales = scales.Read();
      const std::vector<float> got_values = values.Read();
      for (int64_t t = 0; t < size.tokens; ++t) {
        const float* row = x.data() + t * size.inputs;
        float largest = 0;
        for (int64_t k = 0; k < size.inputs; ++k) {
          if (!IsCritical(size, k)) largest = std::max(largest, std::fabs(row[k]));
        }
        EXPECT_EQ(got_scales[static_cast<size_t>(t)], largest / 127.0f);
        for (int64_t k = 0; k < size.inputs; ++k) {
          const float code =
              IsCritical(size, k) ? 0.0f : std::nearbyint(row[k] * (127.0f / largest));
          EXPECT_EQ(got[static_cast<size_t>(t * size.inputs + k)], static_cast<int8_t>(code));
        }
        for (int32_t c = 0; c < count; ++c) {
          EXPECT_EQ(got_values[static_cast<size_t>(t * count + c)], row[size.columns[c]]);
        }
      }
      Outputs outputs;
      outputs.Add(codes);
      outputs.Add(scales);
      outputs.Add(values);
      return outputs;
    });
  }
}

// The second term holds what the first leaves, to 1/512 of a step but for the ends.
TEST(SecondTerm, HoldsWhatIsLeft) {
  for (const Size& size : Sizes()) {
    TestRandom random(8);
    const std::vector<float> x = OutlierRows(size, random);
    const auto count = static_cast<int32_t>(size.columns.size());
    ExpectSameEverywhere([&](Engine& engine) {
      const EngineArray<float> input(engine, x);
      const EngineArray<int8_t> codes(engine, size.tokens * size.inputs);
      const EngineArray<int8_t> alone(engine, size.tokens * size.inputs);
      const EngineArray<int8_t> second(engine, size.tokens * size.inputs);
      const EngineArray<float> scales(engine, size.tokens);
      const EngineArray<int32_t> columns(engine, size.columns);
      const EngineArray<float> values(engine, size.tokens * count);
      const Matrix matrix{input.data(), DType::kF32, size.tokens, size.inputs};
      Operand out{alone.data(), scales.data(), DType::kI8,
                  size.tokens,  size.inputs,   {columns.data(), values.data(), count}};
      engine.QuantizeRows(matrix, out);
      out.data = codes.data();
      out.second = second.data();
      engine.QuantizeRows(matrix, out);
      EXPECT_EQ(codes.Read(), alone.Read());
      for (size_t i = 0; i < x.size(); ++i) {
        const size_t row = i / static_cast<size_t>(size.inputs);
        const double code = codes.Read()[i] + second.Read()[i] / 256.0;
        if (IsCritical(size, static_cast<int64_t>(i) % size.inputs)) {
          EXPECT_EQ(code, 0);
        } else {
          EXPECT_NEAR(x[i] / scales.Read()[row], code, 0.0041);
        }
      }
      Outputs outputs;
      outputs.Add(codes);
      outputs.Add(second);
      return outputs;
    });
  }
}

// y = scale * step * (first + second / 256) as ops.h rounds it; sums are of k products.
float TwoTermOutput(float scale, const std::vector<int64_t>& first,
                    const std::vector<int64_t>& second) {
  if (first.size() == 1) {
    return scale * static_cast<float>(first[0] + ((second[0] + 128) >> 8));
  }
  float sum = 0;
  for (const int64_t part : second) sum += static_cast<float>(part);
  sum *= 0x1p-8f;
  for (const int64_t part : first) sum += static_cast<float>(part);
  return scale * sum;
}

struct TwoTermSize {
  int64_t tokens, outputs, inputs;
};

// Few tokens, tiles with tails, whole tiles of every kernel; sums that 32 bits do not hold.
TEST(SecondTerm, IsPartOfTheForwardProduct) {
  for (const TwoTermSize& size :
       {TwoTermSize{3, 50, 70}, TwoTermSize{40, 50, 70}, TwoTermSize{130, 300, 256},
        TwoTermSize{70, 270, 1040}, TwoTermSize{3, 2, 2 * kMaxIntegerSum + 37},
        TwoTermSize{12, 3, kMaxIntegerSum + 64}}) {
    for (const bool accumulate : {false, true}) {
      const int64_t tokens = size.tokens;
      const int64_t features = size.outputs;
      const int64_t inputs = size.inputs;
      TestRandom random(9);
      const std::vector<int8_t> x = random.Codes(tokens * inputs);
      const std::vector<int8_t> more = random.Codes(tokens * inputs);
      const std::vector<float> x_scales = random.Scales(tokens, 0.01f);
      const std::vector<int8_t> w = random.Codes(features * inputs);
      const std::vector<float> grid = random.Scales(features, 0.02f);
      const std::vector<float> initial = random.Floats(tokens * features);
      std::vector<float> expected;
      for (int64_t t = 0; t < tokens; ++t) {
        for (int64_t n = 0; n < features; ++n) {
          const auto parts = static_cast<size_t>((inputs + kMaxIntegerSum - 1) / kMaxIntegerSum);
          std::vector<int64_t> first(parts), second(parts);
          for (int64_t k = 0; k < inputs; ++k) {
            const auto part = static_cast<size_t>(k / kMaxIntegerSum);
            const auto at = static_cast<size_t>(n * inputs + k);
            first[part] += w[at] * x[static_cast<size_t>(t * inputs + k)];
            second[part] += w[at] * more[static_cast<size_t>(t * inputs + k)];
          }
          const float scale = x_scales[static_cast<size_t>(t)] * grid[static_cast<size_t>(n)];
          const float y = TwoTermOutput(scale, first, second);
          expected.push_back(accumulate ? initial[static_cast<size_t>(t * features + n)] + y : y);
        }
      }
      ExpectSameEverywhere([&](Engine& engine) {
        const EngineArray<int8_t> codes(engine, x);
        const EngineArray<int8_t> second(engine, more);
        const EngineArray<float> scales(engine, x_scales);
        const EngineArray<int8_t> weight(engine, w);
        const EngineArray<float> weight_grid(engine, grid);
        const EngineArray<float> y(engine, initial);
        engine.MatmulForward(
            {codes.data(), scales.data(), DType::kI8, tokens, inputs, {}, second.data()},
            {weight.data(), weight_grid.data(), DType::kI8, features, inputs},
            {y.data(), DType::kF32, tokens, features}, accumulate);
        EXPECT_EQ(y.Read(), expected);
        Outputs outputs;
        outputs.Add(y);
        return outputs;
      });
    }
  }
}

TEST(Critical, NonFiniteValueOutsideThemPoisonsItsRow) {
  const Size size{2, 1, 40, {3}};
  std::vector<float> x(80, 1.0f);
  x[40 + 20] = kInfinity;
  const EnginePointer engine(CreateCpuEngine(1));
  const EngineArray<float> input(*engine, x);
  const EngineArray<int8_t> codes(*engine, 80);
  const EngineArray<float> scales(*engine, 2);
  const EngineArray<int32_t> columns(*engine, size.columns);
  const EngineArray<float> values(*engine, 2);
  engine->QuantizeRows(
      {input.data(), DType::kF32, 2, 40},
      {codes.data(), scales.data(), DType::kI8, 2, 40, {columns.data(), values.data(), 1}});
  EXPECT_EQ(scales.Read()[0], 1.0f / 127.0f);
  EXPECT_TRUE(std::isnan(scales.Read()[1]));
}

// An operand with random codes, zero at the critical columns.
struct RandomOperand {
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<float> values;
};

RandomOperand MakeOperand(const Size& size, TestRandom& random) {
  RandomOperand x{random.Codes(size.tokens * size.inputs), random.Scales(size.tokens, 0.01f),
                  random.Floats(size.tokens * static_cast<int64_t>(size.columns.size()), 50.0f)};
  for (int64_t t = 0; t < size.tokens; ++t) {
    for (const int32_t c : size.columns) x.codes[static_cast<size_t>(t * size.inputs + c)] = 0;
  }
  return x;
}

TEST(Critical, ForwardIsTheContract) {
  for (const Size& size : Sizes()) {
    for (const bool accumulate : {false, true}) {
      TestRandom random(2);
      const RandomOperand x = MakeOperand(size, random);
      const std::vector<int8_t> w = random.Codes(size.outputs * size.inputs);
      const std::vector<float> grid = random.Scales(size.outputs, 0.02f);
      const std::vector<float> initial = random.Floats(size.tokens * size.outputs);
      const size_t count = size.columns.size();
      const std::vector<float> critical = random.Floats(size.outputs * static_cast<int64_t>(count));
      std::vector<float> expected;
      for (int64_t t = 0; t < size.tokens; ++t) {
        for (int64_t n = 0; n < size.outputs; ++n) {
          int64_t sum = 0;
          for (int64_t k = 0; k < size.inputs; ++k) {
            sum += x.codes[static_cast<size_t>(t * size.inputs + k)] *
                   w[static_cast<size_t>(n * size.inputs + k)];
          }
          const size_t token = static_cast<size_t>(t);
          const float scale = x.scales[token] * grid[static_cast<size_t>(n)];
          float y = scale * static_cast<float>(sum);
          if (accumulate) y = initial[static_cast<size_t>(t * size.outputs + n)] + y;
          for (size_t c = 0; c < count; ++c) {
            y = std::fma(x.values[token * count + c], critical[static_cast<size_t>(n) * count + c],
                         y);
          }
          expected.push_back(y);
        }
      }
      ExpectSameEverywhere([&](Engine& engine) {
        const EngineArray<int8_t> codes(engine, x.codes);
        const EngineArray<float> scales(engine, x.scales);
        const EngineArray<float> values(engine, x.values);
        const EngineArray<int32_t> columns(engine, size.columns);
        const EngineArray<int8_t> weight(engine, w);
        const EngineArray<float> weight_grid(engine, grid);
        const EngineArray<float> weight_values(engine, critical);
        const EngineArray<float> y(engine, initial);
        engine.MatmulForward({codes.data(),
                              scales.data(),
                              DType::kI8,
                              size.tokens,
                              size.inputs,
                              {columns.data(), values.data(), static_cast<int32_t>(count)}},
                             {weight.data(),
                              weight_grid.data(),
                              DType::kI8,
                              size.outputs,
                              size.inputs,
                              {columns.data(), weight_values.data(), static_cast<int32_t>(count)}},
                             {y.data(), DType::kF32, size.tokens, size.outputs}, accumulate);
        EXPECT_EQ(y.Read(), expected);
        Outputs outputs;
        outputs.Add(y);
        return outputs;
      });
    }
  }
}

// 16 lanes over t, halves folded onto each other.
float LaneSum(const std::vector<float>& products_a, const std::vector<float>& products_b) {
  float lane[16] = {};
  for (size_t t = 0; t < products_a.size(); ++t) {
    lane[t % 16] = std::fma(products_a[t], products_b[t], lane[t % 16]);
  }
  float s[8];
  for (int i = 0; i < 8; ++i) s[i] = lane[i] + lane[i + 8];
  for (int i = 0; i < 4; ++i) s[i] = s[i] + s[i + 4];
  return (s[0] + s[2]) + (s[1] + s[3]);
}

TEST(Critical, WeightGradientIsTheContract) {
  for (const Size& size : Sizes()) {
    TestRandom random(3);
    RandomOperand x = MakeOperand(size, random);
    x.scales[0] = 0;  // a token whose ordinary features are all zero
    const std::vector<int8_t> dy = random.Codes(size.outputs * size.tokens);
    const std::vector<float> dy_scales = random.Scales(size.outputs, 0.03f);
    const size_t count = size.columns.size();
    ExpectSameEverywhere([&](Engine& engine) {
      const EngineArray<int8_t> codes(engine, x.codes);
      const EngineArray<float> scales(engine, x.scales);
      const EngineArray<float> values(engine, x.values);
      const EngineArray<int32_t> columns(engine, size.columns);
      const EngineArray<int8_t> gradient(engine, dy);
      const EngineArray<float> gradient_scales(engine, dy_scales);
      const EngineArray<float> dw(engine, size.outputs * size.inputs);
      const Operand dy_t{gradient.data(), gradient_scales.data(), DType::kI8, size.outputs,
                         size.tokens};
      Operand input{codes.data(), scales.data(),
                    DType::kI8,   size.tokens,
                    size.inputs,  {columns.data(), values.data(), static_cast<int32_t>(count)}};
      const auto product = [&] {
        const Matrix out{dw.data(), DType::kF32, size.outputs, size.inputs};
        engine.Fill(dw.data(), 0xff, dw.size() * sizeof(float));
        engine.MatmulWeightGradient(dy_t, input, out, false);
        return dw.Read();
      };
      const std::vector<float> got = product();
      const size_t prepared_bytes =
          engine.PreparedInputBytes(size.tokens, size.inputs, static_cast<int32_t>(count));
      if (prepared_bytes > 0) {
        const EngineArray<int8_t> prepared(engine, static_cast<int64_t>(prepared_bytes));
        input.prepared = prepared.data();
        engine.PrepareInput(input, prepared.data());
        for (int twice = 0; twice < 2; ++twice) EXPECT_EQ(product(), got);
      }
      for (int64_t n = 0; n < size.outputs; ++n) {
        for (size_t c = 0; c < count; ++c) {
          std::vector<float> a, b;
          for (int64_t t = 0; t < size.tokens; ++t) {
            const size_t token = static_cast<size_t>(t);
            const bool zero = x.scales[token] == 0;
            a.push_back(static_cast<float>(dy[static_cast<size_t>(n * size.tokens + t)]));
            b.push_back(zero ? 0.0f : x.values[token * count + c] * (1.0f / x.scales[token]));
          }
          const float expected = dy_scales[static_cast<size_t>(n)] * LaneSum(a, b);
          ExpectSum(
              engine, got[static_cast<size_t>(n * size.inputs + size.columns[c])], expected,
              1e-5f * dy_scales[static_cast<size_t>(n)] * LaneSum(Magnitudes(a), Magnitudes(b)));
        }
      }
      Outputs outputs;
      outputs.AddSums(dw);
      return outputs;
    });
  }
}

TEST(Critical, InputGradientIsTheContract) {
  for (const Size& size : Sizes()) {
    for (const bool accumulate : {false, true}) {
      TestRandom random(4);
      const std::vector<int8_t> dy = random.Codes(size.tokens * size.outputs);
      const std::vector<float> dy_scales = random.Scales(size.tokens, 0.03f);
      std::vector<int8_t> w = random.Codes(size.outputs * size.inputs);
      for (int64_t n = 0; n < size.outputs; ++n) {
        for (const int32_t c : size.columns) w[static_cast<size_t>(n * size.inputs + c)] = 0;
      }
      const std::vector<float> grid = random.Scales(size.outputs, 0.02f);
      const size_t count = size.columns.size();
      const std::vector<float> critical = random.Floats(size.outputs * static_cast<int64_t>(count));
      const std::vector<float> initial = random.Floats(size.tokens * size.inputs);
      ExpectSameEverywhere([&](Engine& engine) {
        const EngineArray<int8_t> gradient(engine, dy);
        const EngineArray<float> scales(engine, dy_scales);
        const EngineArray<int8_t> codes(engine, w);
        const EngineArray<float> weight_grid(engine, grid);
        const EngineArray<float> values(engine, critical);
        const EngineArray<int32_t> columns(engine, size.columns);
        const EngineArray<float> dx(engine, initial);
        engine.MatmulInputGradient(
            {gradient.data(), scales.data(), DType::kI8, size.tokens, size.outputs},
            {codes.data(),
             weight_grid.data(),
             DType::kI8,
             size.outputs,
             size.inputs,
             {columns.data(), values.data(), static_cast<int32_t>(count)}},
            {dx.data(), DType::kF32, size.tokens, size.inputs}, accumulate);
        const std::vector<float> got = dx.Read();
        for (int64_t t = 0; t < size.tokens; ++t) {
          for (size_t c = 0; c < count; ++c) {
            std::vector<float> a, b;
            for (int64_t n = 0; n < size.outputs; ++n) {
              const size_t output = static_cast<size_t>(n);
              a.push_back(static_cast<float>(dy[static_cast<size_t>(t * size.outputs + n)]));
              b.push_back(critical[output * count + c] * (1.0f / grid[output]));
            }
            const auto at = static_cast<size_t>(t * size.inputs + size.columns[c]);
            const float sum = dy_scales[static_cast<size_t>(t)] * LaneSum(a, b);
            ExpectSum(
                engine, got[at], accumulate ? initial[at] + sum : sum,
                1e-5f * dy_scales[static_cast<size_t>(t)] * LaneSum(Magnitudes(a), Magnitudes(b)) +
                    1e-6f);
          }
        }
        Outputs outputs;
        outputs.AddSums(dx);
        return outputs;
      });
    }
  }
}

TEST(Critical, OperandsThatDifferInThemAreRefused) {
  const EnginePointer engine(CreateCpuEngine(1));
  const EngineArray<int8_t> codes(*engine, 64);
  const EngineArray<float> floats(*engine, 64);
  const EngineArray<int32_t> columns(*engine, std::vector<int32_t>{0});
  engine->MatmulForward(
      {codes.data(), floats.data(), DType::kI8, 2, 32},
      {codes.data(), floats.data(), DType::kI8, 2, 32, {columns.data(), floats.data(), 1}},
      {floats.data(), DType::kF32, 2, 2}, false);
  EXPECT_STREQ(engine->Synchronize(), "the matmul's operands differ in their critical features");
}

// So small that sixteen steps a grid step have no finite inverse: zero, and zeros stay zero.
TEST(Critical, TinyRowsAreRowsOfZeros) {
  const EnginePointer engine(CreateCpuEngine(1));
  std::vector<float> values(40, 0.0f);
  values[7] = 1e-36f;
  const EngineArray<int8_t> codes(*engine, 40);
  const EngineArray<float> grid(*engine, 1);
  const EngineArray<uint8_t> residual(*engine, ResidualBytes(40));
  const Weight w{codes.data(), grid.data(), DType::kI8, 1, 40, {}, residual.data()};
  engine->EncodeWeight(values.data(), w);
  EXPECT_EQ(codes.Read(), std::vector<int8_t>(40, 0));
  const EngineArray<int8_t> momentum(*engine, std::vector<int8_t>(40, 0));
  const EngineArray<float> momentum_grid(*engine, std::vector<float>{0.0f});
  const EngineArray<int8_t> gradient(*engine, std::vector<int8_t>(40, 0));
  for (const float step : {grid.Read()[0], 3e-39f}) {
    engine->CopyToEngine(grid.data(), &step, sizeof(step));
    StepState state;
    state.learning_rate = 1e-3f;
    engine->LionUpdate({}, w, {momentum.data(), momentum_grid.data(), DType::kI8},
                       {gradient.data(), momentum_grid.data(), DType::kI8, 1, 40}, &state);
    EXPECT_EQ(codes.Read(), std::vector<int8_t>(40, 0));
    EXPECT_EQ(state.rows_grown, 0);
  }
  EXPECT_EQ(engine->Synchronize(), nullptr);
}

// Values far above the others set no grid, come back as they were, and leave no code behind.
TEST(Critical, WeightsAndGradientsKeepThemApart) {
  for (const bool fine : {false, true}) {
    const Size size{9, 1, 70, {0, 15, 16, 69}};
    TestRandom random(5);
    const std::vector<float> values = OutlierRows(size, random);
    std::vector<float> ordinary = values;
    for (int64_t r = 0; r < size.tokens; ++r) {
      for (const int32_t c : size.columns) ordinary[static_cast<size_t>(r * 70 + c)] = 0;
    }
    ExpectSameEverywhere([&](Engine& engine) {
      const EngineArray<int32_t> columns(engine, size.columns);
      const EngineArray<int8_t> codes(engine, 9 * 70);
      const EngineArray<int8_t> plain_codes(engine, 9 * 70);
      const EngineArray<float> grid(engine, 9);
      const EngineArray<float> plain_grid(engine, 9);
      const EngineArray<float> critical(engine, 9 * 4);
      const EngineArray<uint8_t> residual(engine, 9 * ResidualBytes(70));
      const EngineArray<uint8_t> plain_residual(engine, 9 * ResidualBytes(70));
      const EngineArray<float> decoded(engine, 9 * 70);
      const CriticalFeatures features{columns.data(), critical.data(), 4};
      const Weight w{
          codes.data(), grid.data(), DType::kI8, 9, 70, features, fine ? residual.data() : nullptr};
      engine.EncodeWeight(values.data(), w);
      engine.EncodeWeight(ordinary.data(), {plain_codes.data(),
                                            plain_grid.data(),
                                            DType::kI8,
                                            9,
                                            70,
                                            {},
                                            fine ? plain_residual.data() : nullptr});
      EXPECT_EQ(codes.Read(), plain_codes.Read());
      EXPECT_EQ(residual.Read(), plain_residual.Read());
      EXPECT_EQ(grid.Read(), plain_grid.Read());
      engine.DecodeWeight(w, 0, 9, decoded.data());
      const std::vector<float> got = decoded.Read();
      for (size_t i = 0; i < got.size(); ++i) {
        if (IsCritical(size, static_cast<int64_t>(i % 70))) {
          EXPECT_EQ(got[i], values[i]);
        } else {
          const float step = plain_grid.Read()[i / 70] / (fine ? 16.0f : 1.0f);
          EXPECT_NEAR(got[i], values[i], 0.5001f * step);
        }
      }
      const EngineArray<float> sum(engine, values);
      const EngineArray<double> square_sums(engine, 9);
      const Gradient gradient{plain_codes.data(), plain_grid.data(), DType::kI8, 9, 70,
                              features,           square_sums.data()};
      engine.EncodeGradient({sum.data(), DType::kF32, 9, 70}, Rounding::kNearest, {}, nullptr,
                            false, gradient);
      const EngineStep state(engine, {});
      engine.AddSquareSum(gradient, state.data());
      engine.Fill(sum.data(), 0, 9 * 70 * sizeof(float));
      engine.AccumulateGradient(gradient, sum.data());
      double squares = 0;
      for (const float value : sum.Read()) squares += static_cast<double>(value) * value;
      EXPECT_NEAR(state.Read().gradient_square_sum, squares, 1e-6 * squares);
      for (size_t i = 0; i < values.size(); ++i) {
        if (!IsCritical(size, static_cast<int64_t>(i % 70))) continue;
        EXPECT_EQ(sum.Read()[i], values[i]);
      }
      Outputs outputs;
      outputs.Add(codes);
      outputs.Add(grid);
      outputs.Add(critical);
      outputs.Add(residual);
      outputs.Add(sum);
      return outputs;
    });
  }
}

}  // namespace
}  // namespace qft
