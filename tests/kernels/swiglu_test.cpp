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

// A matrix kept for backward, in engine memory.
class KeptArray {
 public:
  // What forward is to write.
  KeptArray(Engine* engine, DType dtype, int64_t rows, int64_t cols)
      : KeptArray(engine, dtype, rows, cols, Floats(static_cast<size_t>(rows * cols))) {}
  // Values.
  KeptArray(Engine* engine, const Floats& values, int64_t rows)
      : KeptArray(engine, DType::kF32, rows, static_cast<int64_t>(values.size()) / rows, values) {}

  KeptMatrix matrix() const {
    void* data = dtype_ == DType::kI8 ? static_cast<void*>(codes_.data()) : values_.data();
    return {data, scales_.data(), dtype_, rows_, cols_};
  }
  std::vector<int8_t> Codes() const { return codes_.Download(); }
  Floats Scales() const { return scales_.Download(); }
  // Decoded, where they are codes.
  Floats Values() const {
    if (dtype_ == DType::kF32) return values_.Download();
    const std::vector<int8_t> codes = Codes();
    const Floats scales = Scales();
    Floats values;
    for (int64_t r = 0; r < rows_; ++r) {
      for (int64_t c = 0; c < cols_; ++c) {
        values.push_back(scales[r * KeptBlocks(cols_) + c / kKeptBlock] *
                         static_cast<float>(codes[r * cols_ + c]));
      }
    }
    return values;
  }

 private:
  KeptArray(Engine* engine, DType dtype, int64_t rows, int64_t cols, const Floats& values)
      : dtype_(dtype),
        rows_(rows),
        cols_(cols),
        values_(engine, values),
        codes_(engine, values.size()),
        scales_(engine, static_cast<size_t>(rows * KeptBlocks(cols))) {}

  DType dtype_;
  int64_t rows_;
  int64_t cols_;
  EngineArray<float> values_;
  EngineArray<int8_t> codes_;
  EngineArray<float> scales_;
};

Floats Forward(Engine* engine, const Problem& p) {
  EngineArray<float> gate(engine, p.gate), up(engine, p.up), y(engine, p.gate.size());
  engine->SwigluForward(gate.AsMatrix(p.rows), up.AsMatrix(p.rows), {},
                        {y.data(), nullptr, DType::kF32, p.rows, p.cols});
  return y.Download();
}

// dgate, dup, y from values as they are.
std::vector<Floats> Backward(Engine* engine, const Problem& p, bool in_place) {
  const KeptArray gate(engine, p.gate, p.rows), up(engine, p.up, p.rows);
  EngineArray<float> dy(engine, p.dy), dgate(engine, p.gate.size());
  EngineArray<float> dup(engine, p.gate.size()), y(engine, p.gate.size());
  EngineArray<float>& to_gate = in_place ? dy : dgate;
  engine->SwigluBackward({gate.matrix(), up.matrix()}, dy.AsMatrix(p.rows),
                         to_gate.AsMatrix(p.rows), dup.AsMatrix(p.rows),
                         {y.data(), nullptr, DType::kF32, p.rows, p.cols});
  return {to_gate.Download(), dup.Download(), y.Download()};
}

const std::vector<std::pair<int64_t, int64_t>> kSizes = {{1, 1},    {3, 31},   {2, 16},  {90, 777},
                                                         {40, 520}, {3, 2304}, {2, 4113}};

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
    for (size_t i = 0; i < apart.size(); ++i) {
      EXPECT_TRUE(SameBits(apart[i], in_place[i])) << named.name << ", output " << i;
    }
  }
}

TEST(Swiglu, BackwardMakesTheSameYAsForward) {
  for (const auto& [rows, cols] : kSizes) {
    const Problem p = MakeProblem(rows, cols, 4);
    for (const NamedEngine& named : LayerEngines()) {
      Engine* engine = named.engine.get();
      EXPECT_TRUE(SameBits(Backward(engine, p, false)[2], Forward(engine, p))) << named.name;
    }
  }
}

// Gates of many magnitudes, a block of zeros, one of tiny numbers and values that are none.
Problem MakeUnevenProblem(int64_t rows, int64_t cols) {
  Problem p = MakeProblem(rows, cols, 6);
  for (int64_t i = 0; i < rows * cols; ++i) {
    const int64_t block = i % cols / kKeptBlock;
    if (block == 1) p.gate[i] = 0;
    if (block == 2) p.up[i] *= 1e-39f;
    if (block == 3) p.up[i] *= 1e6f;
  }
  if (rows > 2) {
    p.gate[cols] = std::nanf("");
    p.up[2 * cols + cols / 2] = std::numeric_limits<float>::infinity();
  }
  return p;
}

TEST(Swiglu, ForwardKeepsGateAndUpAsTheyAre) {
  for (const auto& [rows, cols] : kSizes) {
    const Problem p = MakeUnevenProblem(rows, cols);
    for (const NamedEngine& named : LayerEngines()) {
      Engine* engine = named.engine.get();
      EngineArray<float> gate(engine, p.gate), up(engine, p.up), y(engine, p.gate.size());
      const KeptArray kept_gate(engine, DType::kF32, rows, cols);
      const KeptArray kept_up(engine, DType::kF32, rows, cols);
      engine->SwigluForward(gate.AsMatrix(rows), up.AsMatrix(rows),
                            {kept_gate.matrix(), kept_up.matrix()},
                            {y.data(), nullptr, DType::kF32, rows, cols});
      EXPECT_TRUE(SameBits(kept_gate.Values(), p.gate)) << named.name;
      EXPECT_TRUE(SameBits(kept_up.Values(), p.up)) << named.name;
      EXPECT_TRUE(SameBits(y.Download(), Forward(engine, p))) << named.name;
    }
  }
}

// A block of a KeptMatrix, written plainly.
QuantizedRow KeptReference(const float* values, int64_t cols) {
  QuantizedRow result{std::vector<int8_t>(static_cast<size_t>(cols)), 0};
  float largest = 0;
  for (int64_t c = 0; c < cols; ++c) {
    if (!std::isfinite(values[c])) return {result.codes, std::nanf("")};
    largest = std::max(largest, std::abs(values[c]));
  }
  if (largest < 0x1p-120f) return result;
  result.scale = 0x1p-149f;
  while (std::nearbyint(largest / result.scale) > 127) result.scale *= 2;
  for (int64_t c = 0; c < cols; ++c) {
    result.codes[c] = static_cast<int8_t>(std::nearbyint(values[c] / result.scale));
  }
  return result;
}

void ExpectKept(const Floats& values, const KeptArray& kept, int64_t rows, int64_t cols) {
  const std::vector<int8_t> codes = kept.Codes();
  const Floats scales = kept.Scales();
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t block = 0; block < KeptBlocks(cols); ++block) {
      const int64_t begin = r * cols + block * kKeptBlock;
      const int64_t end = std::min(begin + kKeptBlock, (r + 1) * cols);
      const QuantizedRow want = KeptReference(values.data() + begin, end - begin);
      EXPECT_TRUE(std::equal(want.codes.begin(), want.codes.end(), codes.begin() + begin));
      EXPECT_TRUE(SameBits({scales[r * KeptBlocks(cols) + block]}, {want.scale}));
    }
  }
}

// Exact on every engine; y is that of gate and up as they are.
TEST(Swiglu, ForwardKeepsCodesWithAScaleABlock) {
  for (const auto& [rows, cols] : kSizes) {
    const Problem p = MakeUnevenProblem(rows, cols);
    for (const NamedEngine& named : LayerEngines()) {
      SCOPED_TRACE(named.name);
      Engine* engine = named.engine.get();
      EngineArray<float> gate(engine, p.gate), up(engine, p.up);
      EngineArray<float> scales(engine, static_cast<size_t>(rows));
      EngineArray<int8_t> codes(engine, p.gate.size());
      const KeptArray kept_gate(engine, DType::kI8, rows, cols);
      const KeptArray kept_up(engine, DType::kI8, rows, cols);
      engine->SwigluForward(gate.AsMatrix(rows), up.AsMatrix(rows),
                            {kept_gate.matrix(), kept_up.matrix()},
                            {codes.data(), scales.data(), DType::kI8, rows, cols});
      ExpectKept(p.gate, kept_gate, rows, cols);
      ExpectKept(p.up, kept_up, rows, cols);
      ExpectQuantized(Forward(engine, p), static_cast<size_t>(cols), codes.Download(),
                      scales.Download());
    }
  }
}

// What SwigluBackward makes of y on a scale that is there.
std::vector<int8_t> OnScales(const Floats& y, const Floats& scales,
                             const std::vector<int32_t>& critical) {
  const size_t cols = y.size() / scales.size();
  std::vector<int8_t> codes;
  for (size_t i = 0; i < y.size(); ++i) {
    const float inverse = 1.0f / scales[i / cols];
    const bool zero = !std::isfinite(inverse) ||
                      std::count(critical.begin(), critical.end(), static_cast<int32_t>(i % cols));
    const float code = zero ? 0.0f : std::clamp(y[i] * inverse, -127.0f, 127.0f);
    codes.push_back(static_cast<int8_t>(std::nearbyint(code)));
  }
  return codes;
}

// From codes: the gradients of the decoded values, to the bit, and y on the scales it has, some of
// which are too small for it, zero or no number.
TEST(Swiglu, BackwardFromCodes) {
  for (const auto& [rows, cols] : kSizes) {
    const Problem p = MakeUnevenProblem(rows, cols);
    Floats row_scales = RandomFloats(static_cast<size_t>(rows), 7, 0.02f);
    for (float& scale : row_scales) scale = std::abs(scale) + 0.01f;
    if (rows > 2) {
      row_scales[0] = 0;
      row_scales[1] = std::nanf("");
      row_scales[2] = 1e-42f;
    }
    std::vector<int32_t> columns;
    for (int64_t c = 3; c < cols; c += 1 + cols / 5) columns.push_back(static_cast<int32_t>(c));
    for (const NamedEngine& named : LayerEngines()) {
      SCOPED_TRACE(named.name);
      Engine* engine = named.engine.get();
      EngineArray<float> gate(engine, p.gate), up(engine, p.up), dy(engine, p.dy);
      EngineArray<float> dgate(engine, p.gate.size()), dup(engine, p.gate.size());
      EngineArray<float> scales(engine, row_scales), values(engine, p.gate.size());
      EngineArray<int8_t> codes(engine, p.gate.size());
      const EngineArray<int32_t> critical(engine, columns);
      const KeptArray kept_gate(engine, DType::kI8, rows, cols);
      const KeptArray kept_up(engine, DType::kI8, rows, cols);
      const SwigluInputs kept{kept_gate.matrix(), kept_up.matrix()};
      engine->SwigluForward(gate.AsMatrix(rows), up.AsMatrix(rows), kept,
                            {values.data(), nullptr, DType::kF32, rows, cols});
      engine->SwigluBackward(kept, dy.AsMatrix(rows), dgate.AsMatrix(rows), dup.AsMatrix(rows),
                             {codes.data(),
                              scales.data(),
                              DType::kI8,
                              rows,
                              cols,
                              {critical.data(), nullptr, static_cast<int32_t>(columns.size())}});
      Problem decoded = p;
      decoded.gate = kept_gate.Values();
      decoded.up = kept_up.Values();
      const std::vector<Floats> want = Backward(engine, decoded, false);
      EXPECT_TRUE(SameBits(dgate.Download(), want[0]));
      EXPECT_TRUE(SameBits(dup.Download(), want[1]));
      EXPECT_TRUE(SameBits(scales.Download(), row_scales));
      EXPECT_EQ(codes.Download(), OnScales(want[2], row_scales, columns));
    }
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
    engine->SwigluForward(gate.AsMatrix(4), up.AsMatrix(4), {},
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
