#include "tests/kernels/layer_test.h"

namespace qft {
namespace {

constexpr float kEpsilon = 1e-5f;

struct Problem {
  int64_t rows;
  int64_t cols;
  Floats x, weight, dy, dx, dweight;  // dx and dweight: what is there before
};

Problem MakeProblem(int64_t rows, int64_t cols, uint32_t seed) {
  const size_t count = static_cast<size_t>(rows * cols);
  return {rows,
          cols,
          RandomFloats(count, seed, 3.0f),
          RandomFloats(static_cast<size_t>(cols), seed + 1),
          RandomFloats(count, seed + 2),
          RandomFloats(count, seed + 3),
          RandomFloats(static_cast<size_t>(cols), seed + 4)};
}

Doubles ReferenceForward(const Problem& p, const Doubles& x, const Doubles& weight, Doubles* rstd) {
  Doubles y(x.size());
  rstd->clear();
  for (int64_t t = 0; t < p.rows; ++t) {
    double sum = 0;
    for (int64_t c = 0; c < p.cols; ++c) sum += x[t * p.cols + c] * x[t * p.cols + c];
    rstd->push_back(1 / std::sqrt(sum / static_cast<double>(p.cols) + kEpsilon));
    for (int64_t c = 0; c < p.cols; ++c) {
      y[t * p.cols + c] = x[t * p.cols + c] * rstd->back() * weight[c];
    }
  }
  return y;
}

// dx and dweight, without what was there before.
void ReferenceBackward(const Problem& p, Doubles* dx, Doubles* dweight) {
  const Doubles x = ToDoubles(p.x), weight = ToDoubles(p.weight), dy = ToDoubles(p.dy);
  Doubles rstd;
  ReferenceForward(p, x, weight, &rstd);
  dx->assign(x.size(), 0);
  dweight->assign(weight.size(), 0);
  for (int64_t t = 0; t < p.rows; ++t) {
    double dot = 0;
    for (int64_t c = 0; c < p.cols; ++c) {
      const int64_t i = t * p.cols + c;
      dot += dy[i] * weight[c] * x[i];
      (*dweight)[c] += dy[i] * x[i] * rstd[t];
    }
    const double mean = dot / static_cast<double>(p.cols);
    for (int64_t c = 0; c < p.cols; ++c) {
      const int64_t i = t * p.cols + c;
      (*dx)[i] = rstd[t] * (dy[i] * weight[c] - x[i] * rstd[t] * rstd[t] * mean);
    }
  }
}

// y, rstd
std::vector<Floats> Forward(Engine* engine, const Problem& p) {
  EngineArray<float> x(engine, p.x), weight(engine, p.weight);
  EngineArray<float> y(engine, p.x.size()), rstd(engine, static_cast<size_t>(p.rows));
  engine->RmsNormForward(x.AsMatrix(p.rows), weight.data(), kEpsilon,
                         {y.data(), nullptr, DType::kF32, p.rows, p.cols}, rstd.data());
  return {y.Download(), rstd.Download()};
}

// dx, dweight
std::vector<Floats> Backward(Engine* engine, const Problem& p) {
  const Floats forward_rstd = Forward(engine, p)[1];
  EngineArray<float> x(engine, p.x), weight(engine, p.weight), rstd(engine, forward_rstd);
  EngineArray<float> dy(engine, p.dy), dx(engine, p.dx), dweight(engine, p.dweight);
  engine->RmsNormBackward(x.AsMatrix(p.rows), weight.data(), rstd.data(), dy.AsMatrix(p.rows),
                          dx.AsMatrix(p.rows), dweight.data());
  return {dx.Download(), dweight.Download()};
}

const std::vector<std::pair<int64_t, int64_t>> kSizes = {
    {1, 1},   {3, 15},    {2, 16},    {5, 33},   {64, 100},
    {65, 64}, {200, 577}, {70, 4096}, {3, 8000}, {2, 12000}};

TEST(RmsNorm, ForwardMatchesReference) {
  for (const auto& [rows, cols] : kSizes) {
    const Problem p = MakeProblem(rows, cols, 1);
    const auto got = RunEverywhere([&](Engine* engine) { return Forward(engine, p); });
    Doubles rstd;
    const Doubles y = ReferenceForward(p, ToDoubles(p.x), ToDoubles(p.weight), &rstd);
    EXPECT_LT(RelativeError(got[0], y), 1e-6);
    EXPECT_LT(RelativeError(got[1], rstd), 1e-6);
  }
}

TEST(RmsNorm, ReferenceGradientsMatchFiniteDifferences) {
  const Problem p = MakeProblem(3, 7, 2);
  const Doubles x = ToDoubles(p.x), weight = ToDoubles(p.weight), dy = ToDoubles(p.dy);
  Doubles dx, dweight, rstd;
  ReferenceBackward(p, &dx, &dweight);
  const auto loss = [&](const Doubles& v, const Doubles& w) {
    return DotProduct(ReferenceForward(p, v, w, &rstd), dy);
  };
  EXPECT_LT(
      RelativeError(dx, NumericGradient([&](const Doubles& v) { return loss(v, weight); }, x)),
      1e-8);
  EXPECT_LT(
      RelativeError(dweight, NumericGradient([&](const Doubles& v) { return loss(x, v); }, weight)),
      1e-8);
}

TEST(RmsNorm, BackwardAddsTheGradients) {
  for (const auto& [rows, cols] : kSizes) {
    const Problem p = MakeProblem(rows, cols, 3);
    const auto got = RunEverywhere([&](Engine* engine) { return Backward(engine, p); });
    Doubles dx, dweight;
    ReferenceBackward(p, &dx, &dweight);
    for (size_t i = 0; i < dx.size(); ++i) dx[i] += p.dx[i];
    for (size_t i = 0; i < dweight.size(); ++i) dweight[i] += p.dweight[i];
    EXPECT_LT(RelativeError(got[0], dx), 1e-6);
    EXPECT_LT(RelativeError(got[1], dweight), 2e-6);
  }
}

TEST(RmsNorm, WeightGradientIsOptional) {
  const Problem p = MakeProblem(70, 20, 4);
  const auto got = RunEverywhere([&](Engine* engine) {
    const Floats forward_rstd = Forward(engine, p)[1];
    EngineArray<float> x(engine, p.x), weight(engine, p.weight), rstd(engine, forward_rstd);
    EngineArray<float> dy(engine, p.dy), dx(engine, p.dx);
    engine->RmsNormBackward(x.AsMatrix(p.rows), weight.data(), rstd.data(), dy.AsMatrix(p.rows),
                            dx.AsMatrix(p.rows), nullptr);
    return std::vector<Floats>{dx.Download(), Backward(engine, p)[0]};
  });
  EXPECT_TRUE(SameBits(got[0], got[1]));
}

TEST(RmsNorm, QuantisesItsOutput) {
  Problem p = MakeProblem(6, 77, 5);
  p.x[2 * 77 + 5] = std::nanf("");                            // row 2: NaN
  for (int c = 0; c < 77; ++c) p.x[3 * 77 + c] = 0;           // row 3: zero
  p.x[4 * 77 + 76] = std::numeric_limits<float>::infinity();  // row 4: infinite
  for (const NamedEngine& named : LayerEngines()) {
    Engine* engine = named.engine.get();
    EngineArray<float> x(engine, p.x), weight(engine, p.weight);
    EngineArray<int8_t> codes(engine, p.x.size());
    EngineArray<float> scales(engine, size_t{6}), rstd(engine, size_t{6});
    engine->RmsNormForward(x.AsMatrix(6), weight.data(), kEpsilon,
                           {codes.data(), scales.data(), DType::kI8, 6, 77}, rstd.data());
    const Floats values = Forward(engine, p)[0], scale = scales.Download();
    ExpectQuantized(values, 77, codes.Download(), scale);
    EXPECT_TRUE(std::isnan(scale[2]) && std::isnan(scale[4])) << named.name;
    EXPECT_EQ(scale[3], 0.0f);
    EXPECT_GT(scale[5], 0.0f);
  }
}

TEST(RmsNorm, SecondTermIsThatOfItsOutput) {
  const Problem p = MakeProblem(6, 77, 6);
  for (const NamedEngine& named : LayerEngines()) {
    SCOPED_TRACE(named.name);
    Engine* engine = named.engine.get();
    EngineArray<float> x(engine, p.x), weight(engine, p.weight), y(engine, Forward(engine, p)[0]);
    EngineArray<float> scales(engine, size_t{6}), rstd(engine, size_t{6});
    EngineArray<int8_t> codes(engine, p.x.size()), second(engine, p.x.size());
    EngineArray<int8_t> expected(engine, p.x.size()), expected_second(engine, p.x.size());
    engine->RmsNormForward(x.AsMatrix(6), weight.data(), kEpsilon,
                           {codes.data(), scales.data(), DType::kI8, 6, 77, {}, second.data()},
                           rstd.data());
    engine->QuantizeRows(
        y.AsMatrix(6),
        {expected.data(), scales.data(), DType::kI8, 6, 77, {}, expected_second.data()});
    EXPECT_EQ(codes.Download(), expected.Download());
    EXPECT_EQ(second.Download(), expected_second.Download());
  }
}

}  // namespace
}  // namespace qft
