#include "tests/kernels/layer_test.h"

namespace qft {
namespace {

const std::vector<std::pair<int64_t, int64_t>> kSizes = {
    {1, 1}, {3, 15}, {2, 16}, {65, 33}, {64, 100}, {200, 257}, {70, 4096}, {5000, 7}};

TEST(Bias, IsAddedToEveryRow) {
  for (const auto& [rows, cols] : kSizes) {
    const Floats y = RandomFloats(static_cast<size_t>(rows * cols), 1);
    const Floats bias = RandomFloats(static_cast<size_t>(cols), 2);
    Floats expected = y;
    for (size_t i = 0; i < y.size(); ++i) expected[i] += bias[i % bias.size()];
    for (const NamedEngine& named : LayerEngines()) {
      EngineArray<float> to(named.engine.get(), y), from(named.engine.get(), bias);
      named.engine->AddBias(to.AsMatrix(rows), from.data());
      EXPECT_TRUE(SameBits(to.Download(), expected)) << named.name << " " << rows << "x" << cols;
    }
  }
}

TEST(Bias, BackwardAddsTheSumsOfColumns) {
  for (const auto& size : kSizes) {
    // No structured binding: clang before 16 lets no lambda capture one.
    const int64_t rows = size.first, cols = size.second;
    const Floats dy = RandomFloats(static_cast<size_t>(rows * cols), 3);
    const Floats before = RandomFloats(static_cast<size_t>(cols), 4);
    Doubles expected = ToDoubles(before);
    for (size_t i = 0; i < dy.size(); ++i) expected[i % expected.size()] += dy[i];
    const auto got = RunEverywhere([&](Engine* engine) {
      EngineArray<float> from(engine, dy), to(engine, before);
      engine->BiasBackward(from.AsMatrix(rows), to.data());
      return std::vector<Floats>{to.Download()};
    });
    EXPECT_LT(RelativeError(got[0], expected), 2e-6) << rows << "x" << cols;
  }
}

TEST(Bias, BackwardHandsOnWhatIsNotFinite) {
  Floats dy = RandomFloats(70 * 40, 5);
  dy[69 * 40 + 3] = std::nanf("");
  dy[5 * 40 + 39] = std::numeric_limits<float>::infinity();
  const auto got = RunEverywhere([&](Engine* engine) {
    EngineArray<float> from(engine, dy), to(engine, Floats(40));
    engine->BiasBackward(from.AsMatrix(70), to.data());
    return std::vector<Floats>{to.Download()};
  });
  EXPECT_TRUE(std::isnan(got[0][3]));
  EXPECT_TRUE(std::isinf(got[0][39]));
  EXPECT_TRUE(std::isfinite(got[0][4]));
}

}  // namespace
}  // namespace qft
