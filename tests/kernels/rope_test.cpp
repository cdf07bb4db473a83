#include "tests/kernels/layer_test.h"

namespace qft {
namespace {

struct Problem {
  int heads;
  int dim;
  std::vector<int32_t> positions;
  Floats frequency, x;
};

Problem MakeProblem(std::vector<int32_t> positions, int heads, int dim, uint32_t seed) {
  Problem p{heads, dim, std::move(positions), {}, {}};
  for (int i = 0; i < dim / 2; ++i) {
    p.frequency.push_back(static_cast<float>(std::pow(10000.0, -2.0 * i / dim)));
  }
  p.x = RandomFloats(p.positions.size() * heads * dim, seed);
  return p;
}

Floats Rotate(Engine* engine, const Problem& p, bool inverse) {
  const int64_t rows = static_cast<int64_t>(p.positions.size());
  EngineArray<float> x(engine, p.x), frequency(engine, p.frequency);
  EngineArray<int32_t> positions(engine, p.positions);
  engine->Rope(x.AsMatrix(rows), positions.data(), frequency.data(), p.heads, p.dim, inverse);
  return x.Download();
}

Floats RotateEverywhere(const Problem& p, bool inverse) {
  return RunEverywhere(
      [&](Engine* engine) { return std::vector<Floats>{Rotate(engine, p, inverse)}; })[0];
}

// The angle is an fp32 product, as in the reference implementations of the models.
Doubles Reference(const Problem& p, bool inverse) {
  Doubles y = ToDoubles(p.x);
  const size_t half = p.frequency.size();
  for (size_t row = 0; row < p.positions.size() * p.heads; ++row) {
    const int32_t position = p.positions[row / p.heads];
    for (size_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(position) * p.frequency[i];
      const double c = std::cos(static_cast<double>(angle));
      const double s = std::sin(static_cast<double>(angle)) * (inverse ? -1 : 1);
      const size_t at = row * p.dim + i;
      y[at] = p.x[at] * c - p.x[at + half] * s;
      y[at + half] = p.x[at + half] * c + p.x[at] * s;
    }
  }
  return y;
}

TEST(Rope, MatchesReference) {
  for (int dim : {2, 6, 8, 20, 24, 64, 72, 100, 128, 250}) {
    const Problem p = MakeProblem({0, 1, 2, 3, 17, 0, 1, 500, 4095}, 3, dim, 1);
    EXPECT_LT(RelativeError(RotateEverywhere(p, false), Reference(p, false)), 1e-7) << dim;
    EXPECT_LT(RelativeError(RotateEverywhere(p, true), Reference(p, true)), 1e-7) << dim;
  }
}

TEST(Rope, IsAccurateAtLongPositions) {
  std::vector<int32_t> positions;
  positions.reserve(301);
  for (int32_t i = 0; i < 300; ++i) positions.push_back(131071 - i * 437);
  positions.push_back(1000000);
  const Problem p = MakeProblem(positions, 1, 64, 2);
  EXPECT_LT(RelativeError(RotateEverywhere(p, false), Reference(p, false)), 1e-7);
}

TEST(Rope, InverseIsTheGradient) {
  // Rope is linear and its matrix orthogonal: <rope(x), dy> = <x, inverse(dy)>.
  const Problem p = MakeProblem({3, 70, 900}, 2, 32, 3);
  Problem dy = p;
  dy.x = RandomFloats(p.x.size(), 4);
  const double forward = DotProduct(ToDoubles(RotateEverywhere(p, false)), ToDoubles(dy.x));
  const double backward = DotProduct(ToDoubles(p.x), ToDoubles(RotateEverywhere(dy, true)));
  EXPECT_NEAR(forward, backward, 1e-5);
}

TEST(Rope, PositionZeroChangesNothing) {
  const Problem p = MakeProblem({0, 0}, 2, 16, 5);
  EXPECT_TRUE(SameBits(RotateEverywhere(p, false), p.x));
}

TEST(Rope, NanStaysInItsPair) {
  Problem p = MakeProblem({5, 6}, 1, 8, 6);
  p.x[1] = std::nanf("");
  const Floats y = RotateEverywhere(p, false);
  for (size_t i = 0; i < y.size(); ++i) EXPECT_EQ(std::isnan(y[i]), i == 1 || i == 5) << i;
}

}  // namespace
}  // namespace qft
