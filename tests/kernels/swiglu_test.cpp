#include "tests/kernels/layer_test.h"

namespace qft {
namespace {

struct Problem {
  int64_t rows;
  int64_t cols;
  Floats gate, up, dy;
};

Problem MakeProblem(int64_t rows, int64_t cols, uint32_t seed) {
  const size_t count = static_cast<size_t>(rows * cols);
  return {rows, cols, RandomFloats(count, seed, 4.0f), RandomFloats(count, seed + 1),
          RandomFloats(count, seed + 2)};
}

double Silu(double x) {
  return x / (1 + std::exp(-x));
}

double SiluSlope(double x) {
  const double s = 1 / (1 + std::exp(-x));
  return s * (1 + x * (1 - s));
}

Floats Forward(Engine* engine, const Problem& p) {
  EngineArray<float> gate(engine, p.gate), up(engine, p.up), y(engine, p.gate.size());
  engine->SwigluForward(gate.AsMatrix(p.rows), up.AsMatrix(p.rows),
                        {y.data(), nullptr, DType::kF32, p.rows, p.cols});
  return y.Download();
}

// dgate, dup
std::vector<Floats> Backward(Engine* engine, const Problem& p, bool in_place) {
  EngineArray<float> gate(engine, p.gate), up(engine, p.up), dy(engine, p.dy);
  EngineArray<float> dgate(engine, p.gate.size()), dup(engine, p.gate.size());
  EngineArray<float>& to_gate = in_place ? gate : dgate;
  EngineArray<float>& to_up = in_place ? up : dup;
  engine->SwigluBackward(gate.AsMatrix(p.rows), up.AsMatrix(p.rows), dy.AsMatrix(p.rows),
                         to_gate.AsMatrix(p.rows), to_up.AsMatrix(p.rows));
  return {to_gate.Download(), to_up.Download()};
}

const std::vector<std::pair<int64_t, int64_t>> kSizes = {{1, 1}, {3, 31}, {2, 16}, {90, 777}};

TEST(Swiglu, ForwardMatchesReferencePerElement) {
  for (const auto& [rows, cols] : kSizes) {
    const Problem p = MakeProblem(rows, cols, 1);
    const Floats got =
        RunEverywhere([&](Engine* engine) { return std::vector<Floats>{Forward(engine, p)}; })[0];
    for (size_t i = 0; i < got.size(); ++i) {
      const double want = Silu(p.gate[i]) * p.up[i];
      EXPECT_LE(std::abs(got[i] - want), 5e-7 * std::abs(want)) << p.gate[i];
    }
  }
}

TEST(Swiglu, ReferenceSlopeMatchesFiniteDifferences) {
  for (double x = -9; x < 9; x += 0.37) {
    EXPECT_NEAR(SiluSlope(x), (Silu(x + 1e-5) - Silu(x - 1e-5)) / 2e-5, 1e-9);
  }
}

TEST(Swiglu, BackwardMatchesReferencePerElement) {
  for (const auto& [rows, cols] : kSizes) {
    const Problem p = MakeProblem(rows, cols, 2);
    const auto got = RunEverywhere([&](Engine* engine) { return Backward(engine, p, false); });
    for (size_t i = 0; i < p.gate.size(); ++i) {
      const double dup = p.dy[i] * Silu(p.gate[i]);
      const double dgate = static_cast<double>(p.dy[i]) * p.up[i] * SiluSlope(p.gate[i]);
      // 1 + x (1 - s) cancels near the minimum of silu: bounded against its terms.
      const double terms = std::abs(static_cast<double>(p.dy[i]) * p.up[i]);
      EXPECT_LE(std::abs(got[1][i] - dup), 5e-7 * std::abs(dup));
      EXPECT_LE(std::abs(got[0][i] - dgate), 5e-7 * terms);
    }
  }
}

TEST(Swiglu, BackwardInPlaceGivesTheSameBits) {
  const Problem p = MakeProblem(40, 333, 3);
  for (const NamedEngine& named : LayerEngines()) {
    const auto apart = Backward(named.engine.get(), p, false);
    const auto in_place = Backward(named.engine.get(), p, true);
    EXPECT_TRUE(SameBits(apart[0], in_place[0])) << named.name;
    EXPECT_TRUE(SameBits(apart[1], in_place[1])) << named.name;
  }
}

TEST(Swiglu, ExtremeGates) {
  const float inf = std::numeric_limits<float>::infinity();
  const Problem p{1,
                  8,
                  {-1e30f, -200, -88, 88, 200, 1e30f, std::nanf(""), inf},
                  Floats(8, 2.0f),
                  Floats(8, 1.0f)};
  const Floats y =
      RunEverywhere([&](Engine* engine) { return std::vector<Floats>{Forward(engine, p)}; })[0];
  const auto d = RunEverywhere([&](Engine* engine) { return Backward(engine, p, false); });
  EXPECT_EQ(y[0], 0.0f);
  EXPECT_EQ(y[1], 0.0f);
  EXPECT_NEAR(y[2], 0.0, 1e-30);
  EXPECT_EQ(y[3], 176.0f);
  EXPECT_EQ(y[5], 2e30f);
  EXPECT_TRUE(std::isnan(y[6]));
  EXPECT_EQ(y[7], inf);
  EXPECT_EQ(d[0][0], 0.0f);
  EXPECT_EQ(d[0][5], 2.0f);
  EXPECT_TRUE(std::isnan(d[0][6]) && std::isnan(d[1][6]));
}

TEST(Swiglu, QuantisesItsOutput) {
  Problem p = MakeProblem(4, 45, 5);
  p.gate[45 + 44] = std::nanf("");
  for (const NamedEngine& named : LayerEngines()) {
    Engine* engine = named.engine.get();
    EngineArray<float> gate(engine, p.gate), up(engine, p.up), scales(engine, size_t{4});
    EngineArray<int8_t> codes(engine, p.gate.size());
    engine->SwigluForward(gate.AsMatrix(4), up.AsMatrix(4),
                          {codes.data(), scales.data(), DType::kI8, 4, 45});
    ExpectQuantized(Forward(engine, p), 45, codes.Download(), scales.Download());
  }
}

TEST(Add, AddsElementwise) {
  const Floats x = RandomFloats(70001, 1), y = RandomFloats(70001, 2);
  const auto got = RunEverywhere([&](Engine* engine) {
    EngineArray<float> a(engine, x), b(engine, y), sum(engine, x.size());
    engine->Add(a.AsMatrix(1), b.AsMatrix(1), sum.AsMatrix(1));
    engine->Add(a.AsMatrix(1), b.AsMatrix(1), a.AsMatrix(1));
    return std::vector<Floats>{sum.Download(), a.Download()};
  });
  for (size_t i = 0; i < x.size(); ++i) {
    ASSERT_EQ(got[0][i], x[i] + y[i]);
    ASSERT_EQ(got[1][i], x[i] + y[i]);
  }
}

}  // namespace
}  // namespace qft
