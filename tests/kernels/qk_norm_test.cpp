#include "tests/kernels/layer_test.h"

namespace qft {
namespace {

constexpr float kEpsilon = 1e-6f;

struct Problem {
  int64_t tokens;
  int64_t heads;
  int32_t dim;
  Floats x, weight, dy, dweight;  // dweight: what is there before

  int64_t rows() const { return tokens * heads; }
};

Problem MakeProblem(int64_t tokens, int64_t heads, int32_t dim, uint32_t seed) {
  const auto count = static_cast<size_t>(tokens * heads * dim);
  const auto width = static_cast<size_t>(dim);
  return {tokens,
          heads,
          dim,
          RandomFloats(count, seed, 3.0f),
          RandomFloats(width, seed + 1),
          RandomFloats(count, seed + 2),
          RandomFloats(width, seed + 3)};
}

std::vector<Problem> Problems(uint32_t seed) {
  return {
      MakeProblem(1, 1, 2, seed),    MakeProblem(3, 5, 16, seed),   MakeProblem(2, 3, 34, seed),
      MakeProblem(65, 4, 64, seed),  MakeProblem(9, 2, 80, seed),   MakeProblem(130, 8, 128, seed),
      MakeProblem(700, 7, 20, seed), MakeProblem(33, 4, 100, seed), MakeProblem(4, 1, 1024, seed)};
}

Doubles ReferenceRstd(const Problem& p, const Doubles& x) {
  Doubles rstd;
  for (int64_t r = 0; r < p.rows(); ++r) {
    double sum = 0;
    for (int64_t c = 0; c < p.dim; ++c) sum += x[r * p.dim + c] * x[r * p.dim + c];
    rstd.push_back(1 / std::sqrt(sum / p.dim + double{kEpsilon}));
  }
  return rstd;
}

Doubles ReferenceForward(const Problem& p, const Doubles& x, const Doubles& weight) {
  const Doubles rstd = ReferenceRstd(p, x);
  Doubles y(x.size());
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t dim = weight.size();
    y[i] = x[i] * rstd[i / dim] * weight[i % dim];
  }
  return y;
}

// dx and dweight, the latter without what was there before.
void ReferenceBackward(const Problem& p, Doubles* dx, Doubles* dweight) {
  const Doubles x = ToDoubles(p.x), weight = ToDoubles(p.weight), dy = ToDoubles(p.dy);
  const Doubles rstd = ReferenceRstd(p, x);
  dx->assign(x.size(), 0);
  dweight->assign(weight.size(), 0);
  for (int64_t r = 0; r < p.rows(); ++r) {
    double dot = 0;
    for (int64_t c = 0; c < p.dim; ++c) {
      const int64_t i = r * p.dim + c;
      dot += dy[i] * weight[c] * x[i];
      (*dweight)[c] += dy[i] * x[i] * rstd[r];
    }
    for (int64_t c = 0; c < p.dim; ++c) {
      const int64_t i = r * p.dim + c;
      (*dx)[i] = rstd[r] * (dy[i] * weight[c] - x[i] * rstd[r] * rstd[r] * dot / p.dim);
    }
  }
}

// y, rstd
std::vector<Floats> Forward(Engine* engine, const Problem& p, bool in_place) {
  EngineArray<float> x(engine, p.x), weight(engine, p.weight);
  EngineArray<float> y(engine, p.x.size()), rstd(engine, static_cast<size_t>(p.rows()));
  const EngineArray<float>& out = in_place ? x : y;
  engine->QkNormForward(x.AsMatrix(p.tokens), weight.data(), kEpsilon, p.dim,
                        out.AsMatrix(p.tokens), rstd.data());
  return {out.Download(), rstd.Download()};
}

// dx, dweight
std::vector<Floats> Backward(Engine* engine, const Problem& p, bool in_place, bool wants_weight) {
  const Floats forward_rstd = Forward(engine, p, false)[1];
  EngineArray<float> x(engine, p.x), weight(engine, p.weight), rstd(engine, forward_rstd);
  EngineArray<float> dy(engine, p.dy), dx(engine, p.dy.size()), dweight(engine, p.dweight);
  const EngineArray<float>& out = in_place ? dy : dx;
  engine->QkNormBackward(x.AsMatrix(p.tokens), weight.data(), rstd.data(), dy.AsMatrix(p.tokens),
                         out.AsMatrix(p.tokens), p.dim, wants_weight ? dweight.data() : nullptr);
  return {out.Download(), dweight.Download()};
}

TEST(QkNorm, ForwardMatchesReference) {
  for (const Problem& p : Problems(1)) {
    const auto got = RunEverywhere([&](Engine* engine) { return Forward(engine, p, false); });
    const Doubles x = ToDoubles(p.x);
    EXPECT_LT(RelativeError(got[0], ReferenceForward(p, x, ToDoubles(p.weight))), 1e-6);
    EXPECT_LT(RelativeError(got[1], ReferenceRstd(p, x)), 1e-6);
  }
}

TEST(QkNorm, ReferenceGradientsMatchFiniteDifferences) {
  const Problem p = MakeProblem(2, 3, 6, 2);
  const Doubles x = ToDoubles(p.x), weight = ToDoubles(p.weight), dy = ToDoubles(p.dy);
  Doubles dx, dweight;
  ReferenceBackward(p, &dx, &dweight);
  const auto by_x = [&](const Doubles& v) {
    return DotProduct(ReferenceForward(p, v, weight), dy);
  };
  const auto by_weight = [&](const Doubles& v) {
    return DotProduct(ReferenceForward(p, x, v), dy);
  };
  EXPECT_LT(RelativeError(dx, NumericGradient(by_x, x)), 1e-8);
  EXPECT_LT(RelativeError(dweight, NumericGradient(by_weight, weight)), 1e-8);
}

TEST(QkNorm, BackwardMatchesReference) {
  for (const Problem& p : Problems(3)) {
    const auto got =
        RunEverywhere([&](Engine* engine) { return Backward(engine, p, false, true); });
    Doubles dx, dweight;
    ReferenceBackward(p, &dx, &dweight);
    for (size_t i = 0; i < dweight.size(); ++i) dweight[i] += p.dweight[i];
    EXPECT_LT(RelativeError(got[0], dx), 1e-6);
    EXPECT_LT(RelativeError(got[1], dweight), 2e-6);
  }
}

TEST(QkNorm, MayWorkInPlace) {
  for (const Problem& p : Problems(4)) {
    for (const NamedEngine& named : LayerEngines()) {
      Engine* engine = named.engine.get();
      EXPECT_EQ(Forward(engine, p, true), Forward(engine, p, false)) << named.name;
      EXPECT_EQ(Backward(engine, p, true, true), Backward(engine, p, false, true)) << named.name;
    }
  }
}

TEST(QkNorm, WeightGradientIsOptional) {
  const Problem p = MakeProblem(70, 2, 20, 5);
  for (const NamedEngine& named : LayerEngines()) {
    Engine* engine = named.engine.get();
    const auto without = Backward(engine, p, false, false);
    EXPECT_EQ(without[0], Backward(engine, p, false, true)[0]) << named.name;
    EXPECT_EQ(without[1], p.dweight) << named.name;
  }
}

}  // namespace
}  // namespace qft
