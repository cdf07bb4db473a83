#include <cmath>

#include "tests/kernels/test_engine.h"

namespace qft {
namespace {

struct Size {
  int64_t t;
  int64_t n;
  int64_t k;
};

// Around the limits of the tiles, panels and dots, and within one of each.
const Size kSizes[] = {{1, 1, 1},     {1, 17, 100},   {3, 5, 7},     {8, 33, 64},
                       {9, 33, 63},   {17, 16, 1},    {100, 3, 100}, {33, 100, 17},
                       {65, 64, 513}, {130, 700, 40}, {520, 70, 90}, {300, 48, 1300}};

enum class Product { kForward, kInputGradient, kWeightGradient };

// The integer operands of a product: a [m, k], b [n, k] or [k, n], scales of a's rows, and grids of
// W's rows.
struct Problem {
  Product product;
  int64_t m;
  int64_t n;
  int64_t k;
  std::vector<int8_t> a;
  std::vector<int8_t> b;
  std::vector<float> a_scales;
  std::vector<float> b_scales;
  std::vector<float> initial;

  bool BTransposed() const { return product == Product::kForward; }
  int64_t BRows() const { return BTransposed() ? n : k; }
  int64_t BCols() const { return BTransposed() ? k : n; }
};

Problem MakeProblem(Product product, const Size& size) {
  Problem p{product, 0, 0, 0, {}, {}, {}, {}, {}};
  switch (product) {
    case Product::kForward:
      p.m = size.t, p.n = size.n, p.k = size.k;
      break;
    case Product::kInputGradient:
      p.m = size.t, p.n = size.k, p.k = size.n;
      break;
    case Product::kWeightGradient:
      p.m = size.n, p.n = size.k, p.k = size.t;
      break;
  }
  TestRandom random(static_cast<uint64_t>(p.m * 7 + p.n * 13 + p.k));
  p.a = random.Codes(p.m * p.k);
  p.b = random.Codes(p.n * p.k);
  p.a_scales = random.Scales(p.m, 0.01f);
  p.b_scales = random.Scales(p.BRows(), 0.01f);
  p.initial = random.Floats(p.m * p.n, 100.0f);
  return p;
}

float Expected(const Problem& p, int64_t i, int64_t j, bool accumulate) {
  float value = 0;
  for (int64_t begin = 0; begin < p.k; begin += kMaxIntegerSum) {
    int64_t sum = 0;
    for (int64_t k = begin; k < std::min(p.k, begin + kMaxIntegerSum); ++k) {
      sum += int64_t{p.a[static_cast<size_t>(i * p.k + k)]} *
             p.b[static_cast<size_t>(p.BTransposed() ? j * p.k + k : k * p.n + j)];
    }
    EXPECT_LE(std::abs(sum), std::numeric_limits<int32_t>::max());
    value += static_cast<float>(sum);
  }
  float scale = p.a_scales[static_cast<size_t>(i)];
  if (p.product == Product::kForward) scale *= p.b_scales[static_cast<size_t>(j)];
  value = scale * value;
  return accumulate ? p.initial[static_cast<size_t>(i * p.n + j)] + value : value;
}

// Calls the product of `engine` with operands at `a` and `b`, of codes or of fp32 values.
void Multiply(Engine& engine, const Problem& p, const Operand& a, const Operand& b, float* out,
              bool accumulate) {
  const Matrix result{out, DType::kF32, p.m, p.n};
  const Weight w{b.data, b.scales, b.dtype, b.rows, b.cols};
  switch (p.product) {
    case Product::kForward:
      return engine.MatmulForward(a, w, result, accumulate);
    case Product::kInputGradient:
      return engine.MatmulInputGradient(a, w, result, accumulate);
    case Product::kWeightGradient:
      return engine.MatmulWeightGradient(a, b, result, accumulate);
  }
}

std::vector<float> RunInteger(Engine& engine, const Problem& p, bool accumulate) {
  const EngineArray<int8_t> a(engine, p.a);
  const EngineArray<int8_t> b(engine, p.b);
  const EngineArray<float> a_scales(engine, p.a_scales);
  const EngineArray<float> b_scales(engine, p.b_scales);
  const EngineArray<float> out(engine, p.m * p.n);
  if (accumulate) {
    engine.CopyToEngine(out.data(), p.initial.data(), p.initial.size() * sizeof(float));
  }
  Multiply(engine, p, {a.data(), a_scales.data(), DType::kI8, p.m, p.k},
           {b.data(), b_scales.data(), DType::kI8, p.BRows(), p.BCols()}, out.data(), accumulate);
  return out.Read();
}

class MatmulTest : public testing::TestWithParam<Product> {};

TEST_P(MatmulTest, IntegerIsTheContractOnEveryPath) {
  for (const Size& size : kSizes) {
    for (const bool accumulate : {false, true}) {
      const Problem p = MakeProblem(GetParam(), size);
      std::vector<float> expected;
      for (int64_t i = 0; i < p.m; ++i) {
        for (int64_t j = 0; j < p.n; ++j) expected.push_back(Expected(p, i, j, accumulate));
      }
      ExpectSameEverywhere([&](Engine& engine) {
        const std::vector<float> got = RunInteger(engine, p, accumulate);
        EXPECT_EQ(got, expected) << size.t << ", " << size.n << ", " << size.k;
        Outputs outputs;
        outputs.AddValues(got);
        return outputs;
      });
    }
  }
}

// Products of codes at the limits: a sum in 16 bits, or one not split, would show.
TEST_P(MatmulTest, IntegerIsExactAtTheLimits) {
  struct Case {
    int64_t k;
    int8_t a;
    int8_t b;
  };
  const Case cases[] = {{200, 127, 127},           {200, -127, 127},   {131072, 127, 127},
                        {131072, -127, 127},       {131073, 127, 127}, {131072 * 2, -127, -127},
                        {131072 * 2 + 5, 127, 127}};
  for (const Case& limit : cases) {
    Problem p{GetParam(), 10, 3, limit.k, {}, {}, {}, {}, {}};
    p.a.assign(static_cast<size_t>(p.m * p.k), limit.a);
    p.b.assign(static_cast<size_t>(p.n * p.k), limit.b);
    p.a_scales.assign(static_cast<size_t>(p.m), 1.0f);
    p.b_scales.assign(static_cast<size_t>(p.BRows()), 1.0f);
    const float expected = Expected(p, 0, 0, false);
    const double exact = static_cast<double>(limit.k) * limit.a * limit.b;
    EXPECT_NEAR(expected, exact, std::fabs(exact) * 0x1p-23);
    for (const char* variant : {"avx512", "avx512-own", "avx2-own", "plain-own", "cuda"}) {
      const EnginePointer engine = CreateVariant(variant, 2);
      if (engine == nullptr) continue;
      for (const float got : RunInteger(*engine, p, false)) EXPECT_EQ(got, expected) << variant;
      EXPECT_EQ(engine->Synchronize(), nullptr);
    }
  }
}

TEST_P(MatmulTest, NanScaleReachesItsRowAndNoOther) {
  Problem p = MakeProblem(GetParam(), {20, 20, 20});
  p.a_scales[2] = kNaN;
  const EnginePointer engine(CreateCpuEngine(2));
  const std::vector<float> got = RunInteger(*engine, p, false);
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      EXPECT_EQ(std::isnan(got[static_cast<size_t>(i * p.n + j)]), i == 2);
    }
  }
}

TEST_P(MatmulTest, FloatingIsTheProduct) {
  for (const Size& size : {Size{1, 1, 1},
                           {3, 5, 7},
                           {33, 100, 17},
                           {300, 270, 50},
                           {40, 20, 2500},
                           {2100, 20, 30},
                           {20, 1100, 30}}) {
    for (const bool accumulate : {false, true}) {
      for (const bool coded : {false, true}) {
        if (coded && GetParam() == Product::kWeightGradient) continue;
        const Problem p = MakeProblem(GetParam(), size);
        const std::vector<float> a = TestRandom(1).Floats(p.m * p.k);
        std::vector<float> b = TestRandom(2).Floats(p.n * p.k);
        if (coded) {
          for (size_t i = 0; i < b.size(); ++i) {
            b[i] = p.b_scales[i / static_cast<size_t>(p.BCols())] * p.b[i];
          }
        }
        std::vector<float> result;
        ExpectSameEverywhere([&](Engine& engine) {
          const EngineArray<float> a_values(engine, a);
          const EngineArray<float> b_values(engine, b);
          const EngineArray<int8_t> b_codes(engine, p.b);
          const EngineArray<float> b_scales(engine, p.b_scales);
          const EngineArray<float> out(engine, p.initial);
          const DType b_type = coded ? DType::kI8 : DType::kF32;
          void* const b_data = coded ? static_cast<void*>(b_codes.data()) : b_values.data();
          Multiply(engine, p, {a_values.data(), nullptr, DType::kF32, p.m, p.k},
                   {b_data, b_scales.data(), b_type, p.BRows(), p.BCols()}, out.data(), accumulate);
          result = out.Read();
          Outputs outputs;
          outputs.AddSums(out);
          return outputs;
        });
        for (int64_t i = 0; i < p.m; ++i) {
          for (int64_t j = 0; j < p.n; ++j) {
            double sum = accumulate ? p.initial[static_cast<size_t>(i * p.n + j)] : 0.0;
            double magnitude = std::fabs(sum);
            for (int64_t k = 0; k < p.k; ++k) {
              const double product =
                  double{a[static_cast<size_t>(i * p.k + k)]} *
                  b[static_cast<size_t>(p.BTransposed() ? j * p.k + k : k * p.n + j)];
              sum += product;
              magnitude += std::fabs(product);
            }
            // Rounding errors of fp32 sums grow with the square root of their length.
            const double bound = magnitude * 0x1p-24 * (2 + std::sqrt(static_cast<double>(p.k)));
            ASSERT_NEAR(result[static_cast<size_t>(i * p.n + j)], sum, bound)
                << i << ", " << j << " of " << size.t << ", " << size.n << ", " << size.k;
          }
        }
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Products, MatmulTest,
                         testing::Values(Product::kForward, Product::kInputGradient,
                                         Product::kWeightGradient));

TEST(Matmul, SaysWhatItCannotMultiply) {
  const auto error = [](DType a_type, DType w_type) {
    const EnginePointer engine(CreateCpuEngine(1));
    const EngineArray<float> data(*engine, 64);
    engine->MatmulForward({data.data(), data.data(), a_type, 2, 2},
                          {data.data(), data.data(), w_type, 2, 2},
                          {data.data(), DType::kF32, 2, 2}, false);
    const char* const message = engine->Synchronize();
    return std::string(message != nullptr ? message : "");
  };
  EXPECT_EQ(error(DType::kBF16, DType::kI8), "bf16 operands are not supported by the cpu engine");
  EXPECT_EQ(error(DType::kI8, DType::kF32), "integer matmuls need codes on both sides");
  EXPECT_EQ(error(DType::kF32, DType::kF32), "");
}

}  // namespace
}  // namespace qft
