// Ops on bf16 matrices, which only a GPU has, and INT8 products of the sizes its fast kernels take:
// each against the CPU engine on the same values in fp32.
#include <cmath>

#include "base/half.h"
#include "tests/kernels/test_engine.h"

namespace qft {
namespace {

// bf16 rounds to 2^-9; what sums of rounded values may be off relative to their largest.
constexpr double kStored = 0x1p-8;

std::vector<float> Rounded(std::vector<float> values) {
  for (float& value : values) value = Bf16ToFloat(FloatToBf16(value));
  return values;
}

std::vector<uint16_t> Narrow(const std::vector<float>& values) {
  std::vector<uint16_t> bits;
  bits.reserve(values.size());
  for (const float value : values) bits.push_back(FloatToBf16(value));
  return bits;
}

// A matrix in the memory of either engine, fp32 on the CPU and bf16 on the GPU unless told
// otherwise.
class TestMatrix {
 public:
  TestMatrix(Engine& engine, int64_t rows, const std::vector<float>& values, bool narrow = true)
      : narrow_(narrow && IsCuda(engine)), rows_(rows), count_(Count(values)) {
    if (narrow_) {
      half_ = std::make_unique<EngineArray<uint16_t>>(engine, Narrow(values));
    } else {
      full_ = std::make_unique<EngineArray<float>>(engine, values);
    }
  }
  Matrix matrix() const {
    if (narrow_) return {half_->data(), DType::kBF16, rows_, count_ / rows_};
    return {full_->data(), DType::kF32, rows_, count_ / rows_};
  }
  std::vector<float> Read() const {
    if (!narrow_) return full_->Read();
    std::vector<float> values;
    values.reserve(static_cast<size_t>(count_));
    for (const uint16_t bits : half_->Read()) values.push_back(Bf16ToFloat(bits));
    return values;
  }

 private:
  static int64_t Count(const std::vector<float>& values) {
    return static_cast<int64_t>(values.size());
  }

  bool narrow_;
  int64_t rows_;
  int64_t count_;
  std::unique_ptr<EngineArray<uint16_t>> half_;
  std::unique_ptr<EngineArray<float>> full_;
};

using Results = std::vector<std::vector<float>>;

// Runs `body` on the CPU and on the GPU, where there is one, and compares each result to within
// `tolerance` of its largest, or of `least` where all are smaller.
template <typename Body>
void ExpectClose(const Body& body, double tolerance, double least = 1e-30) {
  const EnginePointer gpu = CreateVariant("cuda", 1);
  if (gpu == nullptr) GTEST_SKIP() << "no GPU";
  const EnginePointer cpu(CreateCpuEngine(2));
  const Results expected = body(*cpu);
  const Results got = body(*gpu);
  const char* const error = gpu->Synchronize();
  ASSERT_EQ(error, nullptr) << error;
  ASSERT_EQ(got.size(), expected.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].size(), expected[i].size());
    double largest = least;
    double difference = 0;
    for (size_t j = 0; j < got[i].size(); ++j) {
      largest = std::max(largest, std::fabs(double{expected[i][j]}));
      const double one = std::fabs(double{got[i][j]} - double{expected[i][j]});
      difference = std::isnan(one) ? kInfinity : std::max(difference, one);
    }
    EXPECT_LE(difference, tolerance * largest) << "result " << i << " of size " << got[i].size();
  }
}

std::vector<float> Decoded(const std::vector<int8_t>& codes, const std::vector<float>& scales) {
  std::vector<float> values;
  values.reserve(codes.size());
  const size_t cols = codes.size() / scales.size();
  for (size_t i = 0; i < codes.size(); ++i) {
    values.push_back(scales[i / cols] * static_cast<float>(codes[i]));
  }
  return values;
}

// An INT8 operand to write to, decoded when read. Codes may differ by one where what is rounded
// does.
class TestOperand {
 public:
  TestOperand(Engine& engine, int64_t rows, int64_t cols)
      : codes_(engine, rows * cols), scales_(engine, rows), rows_(rows), cols_(cols) {}
  Operand operand() const { return {codes_.data(), scales_.data(), DType::kI8, rows_, cols_}; }
  std::vector<float> Read() const { return Decoded(codes_.Read(), scales_.Read()); }

 private:
  EngineArray<int8_t> codes_;
  EngineArray<float> scales_;
  int64_t rows_;
  int64_t cols_;
};

// A matrix to keep as codes.
class TestKept {
 public:
  TestKept(Engine& engine, int64_t rows, int64_t cols)
      : codes_(engine, rows * cols),
        scales_(engine, rows * KeptBlocks(cols)),
        rows_(rows),
        cols_(cols) {}
  KeptMatrix matrix() const { return {codes_.data(), scales_.data(), DType::kI8, rows_, cols_}; }

 private:
  EngineArray<int8_t> codes_;
  EngineArray<float> scales_;
  int64_t rows_;
  int64_t cols_;
};

struct Size {
  int64_t rows;
  int64_t cols;
};
const Size kSizes[] = {{1, 8}, {5, 33}, {70, 576}, {33, 4100}, {300, 4096}, {3, 11008}};

TEST(Bf16, QuantisingAndLayers) {
  for (const Size& size : kSizes) {
    const auto random = [&](uint64_t seed) {
      return Rounded(TestRandom(seed).Floats(size.rows * size.cols));
    };
    const std::vector<float> x = random(1), y = random(2), z = random(3);
    const std::vector<float> weight = TestRandom(4).Scales(size.cols);
    ExpectClose(
        [&](Engine& engine) {
          const TestMatrix a(engine, size.rows, x), b(engine, size.rows, y);
          const TestMatrix dy(engine, size.rows, z), dx(engine, size.rows, y, false);
          const TestMatrix sum(engine, size.rows, z), dgate(engine, size.rows, x);
          const TestMatrix dup(engine, size.rows, y);
          const EngineArray<float> w(engine, weight), rstd(engine, size.rows);
          const EngineArray<float> dw(engine, std::vector<float>(weight.size(), 0.5f));
          const TestOperand plain(engine, size.rows, size.cols);
          const TestOperand normed(engine, size.rows, size.cols);
          const TestOperand gated(engine, size.rows, size.cols);
          const TestOperand folded(engine, size.rows, size.cols);
          const TestOperand turned(engine, size.cols, size.rows);
          engine.QuantizeRows(a.matrix(), plain.operand());
          engine.RmsNormForward(a.matrix(), w.data(), 1e-5f, normed.operand(), rstd.data());
          engine.RmsNormBackward(a.matrix(), w.data(), rstd.data(), dy.matrix(), dx.matrix(),
                                 dw.data());
          const TestKept kept_a(engine, size.rows, size.cols), kept_b(engine, size.rows, size.cols);
          const SwigluInputs kept{kept_a.matrix(), kept_b.matrix()};
          engine.SwigluForward(a.matrix(), b.matrix(), kept, gated.operand());
          const std::vector<float> forward = gated.Read();
          engine.SwigluBackward(kept, dy.matrix(), dgate.matrix(), dup.matrix(), gated.operand());
          engine.Add(a.matrix(), b.matrix(), sum.matrix());
          const EngineStep step(engine, {});
          engine.QuantizeOutputGradient(dy.matrix(), w.data(), Rounding::kStochastic, {{1, 2}, 3},
                                        step.data(), folded.operand());
          engine.QuantizeOutputGradientTransposed(dy.matrix(), rstd.data(), Rounding::kStochastic,
                                                  {{1, 2}, 3}, step.data(), turned.operand());
          const TestOperand both(engine, size.rows, size.cols);
          const TestOperand both_turned(engine, size.cols, size.rows);
          engine.QuantizeOutputGradients(dy.matrix(), Rounding::kStochastic, step.data(),
                                         {w.data(), {{1, 2}, 3}, both.operand()},
                                         {rstd.data(), {{1, 2}, 3}, both_turned.operand()});
          EXPECT_EQ(both.Read(), folded.Read());
          EXPECT_EQ(both_turned.Read(), turned.Read());
          const Operand codes = both.operand();
          const EngineArray<double> square_sums(engine, size.rows);
          engine.EncodeGradient(
              dy.matrix(), Rounding::kStochastic, {{1, 2}, 3}, step.data(), false,
              {codes.data, codes.scales, DType::kI8, size.rows, size.cols, {}, square_sums.data()});
          return Results{both.Read(), plain.Read(),  normed.Read(), rstd.Read(),  dx.Read(),
                         dw.Read(),   forward,       gated.Read(),  dgate.Read(), dup.Read(),
                         sum.Read(),  folded.Read(), turned.Read()};
        },
        2 * kStored);
  }
}

TEST(Bf16, RopeAndEmbedding) {
  constexpr int64_t kTokens = 37, kHeads = 3, kVocabulary = 50;
  for (const int dim : {6, 64, 100}) {
    const std::vector<float> x = Rounded(TestRandom(1).Floats(kTokens * kHeads * dim));
    const std::vector<float> table = TestRandom(2).Floats(kVocabulary * kHeads * dim);
    std::vector<int32_t> positions, tokens;
    for (int32_t t = 0; t < kTokens; ++t) positions.push_back(100 * t);
    for (int32_t t = 0; t < kTokens; ++t) tokens.push_back(t * 7 % kVocabulary / 2);
    std::vector<float> frequency;
    frequency.reserve(dim / 2);
    for (int i = 0; i < dim / 2; ++i) frequency.push_back(std::pow(1e4f, -2.0f * i / dim));
    ExpectClose(
        [&](Engine& engine) {
          const TestMatrix turned(engine, kTokens, x), back(engine, kTokens, x);
          const TestMatrix looked_up(engine, kTokens, x);
          const EngineArray<int32_t> at(engine, positions), ids(engine, tokens);
          const EngineArray<float> inverse(engine, frequency), values(engine, table);
          const EngineArray<float> gradient(engine, table);
          engine.Rope(turned.matrix(), at.data(), inverse.data(), kHeads, dim, false);
          engine.Rope(back.matrix(), at.data(), inverse.data(), kHeads, dim, true);
          engine.EmbeddingForward(ids.data(),
                                  {values.data(), nullptr, DType::kF32, kVocabulary, kHeads * dim},
                                  looked_up.matrix());
          engine.EmbeddingBackward(ids.data(), turned.matrix(), 0,
                                   {gradient.data(), DType::kF32, kVocabulary, kHeads * dim});
          return Results{turned.Read(), back.Read(), looked_up.Read(), gradient.Read()};
        },
        2 * kStored);
  }
}

TEST(Bf16, CrossEntropy) {
  constexpr int64_t kTokens = 9, kColumns = 1000;
  const std::vector<float> x = Rounded(TestRandom(1).Floats(kTokens * kColumns, 8.0f));
  std::vector<int32_t> targets;
  targets.reserve(kTokens);
  for (int32_t t = 0; t < kTokens; ++t) targets.push_back(t * 111);
  ExpectClose(
      [&](Engine& engine) {
        const TestMatrix logits(engine, kTokens, x, false), gradient(engine, kTokens, x);
        const EngineArray<uint16_t> exps(engine, kTokens * kColumns);
        const EngineArray<int32_t> wanted(engine, targets);
        const EngineArray<float> weight(engine, std::vector<float>(kTokens, 0.5f));
        const EngineArray<float> max(engine, kTokens), sum(engine, kTokens), logit(engine, kTokens);
        const EngineArray<float> row_max(engine, kTokens), row_sum(engine, kTokens);
        const EngineArray<float> loss(engine, kTokens);
        const EngineStep step(engine, {});
        const VocabularyChunk chunk{
            0, max.data(), sum.data(), {exps.data(), DType::kBF16, kTokens, kColumns}};
        const CrossEntropyRows rows{kTokens,        wanted.data(),  weight.data(), logit.data(),
                                    row_max.data(), row_sum.data(), loss.data()};
        engine.CrossEntropyChunk(logits.matrix(), wanted.data(), chunk, logit.data());
        engine.CrossEntropyLoss(rows, 1, max.data(), sum.data(), step.data());
        engine.CrossEntropyGradient(chunk, rows, gradient.matrix());
        return Results{loss.Read(), gradient.Read()};
      },
      kStored);
}

struct AttentionCase {
  std::vector<int64_t> documents;
  int32_t heads;
  int32_t kv_heads;
  int32_t dim;
  int64_t window = 0;  // tokens that a token sees; 0: its document
  bool narrow = true;  // dout and the results are bf16, or fp32
};

// One token, less than a tile, tiles and more with boundaries anywhere; shared keys; heads that do
// not fill a tile or are not for tensor cores, with rows at no multiple of 16 bytes.
const AttentionCase kAttentionCases[] = {{{1}, 1, 1, 64},
                                         {{1, 16}, 1, 1, 128},
                                         {{200}, 2, 1, 64},
                                         {{64, 128, 3, 70}, 4, 2, 128},
                                         {{300, 1, 1, 259}, 2, 2, 128},
                                         {{700, 128, 61}, 4, 1, 64},
                                         {{65, 513, 127}, 6, 2, 128, 0, false},
                                         {{1, 400, 63}, 2, 1, 64, 0, false},
                                         {{300, 150}, 2, 1, 128, 100},
                                         {{150, 143}, 2, 2, 64, 1},
                                         {{90}, 2, 1, 80},
                                         {{1}, 1, 1, 2},
                                         {{65, 1, 70}, 4, 2, 6},
                                         {{150}, 3, 1, 20, 40},
                                         {{170, 1, 90}, 4, 2, 34},
                                         {{130, 77, 1}, 4, 2, 100},
                                         {{100, 50}, 2, 2, 100, 30, false},
                                         {{70, 61}, 2, 1, 130},
                                         {{90}, 3, 3, 254, 0, false}};

std::vector<int32_t> Starts(const AttentionCase& c) {
  std::vector<int32_t> start;
  for (const int64_t length : c.documents) {
    const auto begin = static_cast<int64_t>(start.size());
    for (int64_t t = begin; t < begin + length; ++t) {
      const int64_t seen = c.window > 0 ? std::max(begin, t + 1 - c.window) : begin;
      start.push_back(static_cast<int32_t>(seen));
    }
  }
  return start;
}

AttentionShape Shape(const AttentionCase& c, int64_t tokens) {
  AttentionShape shape;
  shape.tokens = tokens;
  shape.heads = c.heads;
  shape.kv_heads = c.kv_heads;
  shape.head_dim = c.dim;
  shape.scale = 1.0f / std::sqrt(static_cast<float>(c.dim));
  return shape;
}

TEST(Bf16, Attention) {
  for (const AttentionCase& c : kAttentionCases) {
    SCOPED_TRACE(::testing::Message() << c.documents[0] << " tokens first, dim " << c.dim);
    const std::vector<int32_t> start = Starts(c);
    const auto tokens = static_cast<int64_t>(start.size());
    const AttentionShape shape = Shape(c, tokens);
    const auto random = [&](uint64_t seed, int32_t heads) {
      return Rounded(TestRandom(seed).Floats(tokens * heads * c.dim, 2.0f));
    };
    const std::vector<float> q = random(1, c.heads), k = random(2, c.kv_heads);
    const std::vector<float> v = random(3, c.kv_heads), dout = random(4, c.heads);
    ExpectClose(
        [&](Engine& engine) {
          const auto matrix = [&](const std::vector<float>& values, bool narrow) {
            return TestMatrix(engine, tokens, values, narrow);
          };
          const TestMatrix mq = matrix(q, true), mk = matrix(k, true), mv = matrix(v, true);
          const TestMatrix mdout = matrix(dout, c.narrow), out = matrix(q, c.narrow);
          const TestMatrix dq = matrix(q, c.narrow), dk = matrix(k, c.narrow);
          const TestMatrix dv = matrix(k, c.narrow);
          const EngineArray<int32_t> starts(engine, start);
          const EngineArray<float> log_sum(engine, tokens * c.heads);
          const EngineArray<char> scratch(
              engine, static_cast<int64_t>(engine.AttentionBackwardScratch(shape)));
          engine.AttentionForward(shape, starts.data(), mq.matrix(), mk.matrix(), mv.matrix(),
                                  out.matrix(), log_sum.data());
          engine.AttentionBackward(shape, starts.data(), mq.matrix(), mk.matrix(), mv.matrix(),
                                   out.matrix(), log_sum.data(), mdout.matrix(), dq.matrix(),
                                   dk.matrix(), dv.matrix(), scratch.data());
          return Results{out.Read(), log_sum.Read(), dq.Read(), dk.Read(), dv.Read()};
        },
        // Probabilities are rounded to bf16 too; gradients of a token that sees itself alone are 0.
        4 * kStored, 1e-3);
  }
}

// Its probability is 1 whatever the scores are: out is v and dv is dout to the bit, and nothing
// comes of its score.
TEST(Bf16, ATokenThatSeesItselfAlone) {
  const EnginePointer gpu = CreateVariant("cuda", 1);
  if (gpu == nullptr) GTEST_SKIP() << "no GPU";
  for (const int32_t dim : {64, 100, 128}) {
    constexpr int64_t kTokens = 293;
    const AttentionCase c = {{kTokens}, 2, 2, dim, 1};
    const AttentionShape shape = Shape(c, kTokens);
    const std::vector<int32_t> start = Starts(c);
    const auto random = [&](uint64_t seed) {
      return Rounded(TestRandom(seed).Floats(kTokens * 2 * dim, 2.0f));
    };
    const std::vector<float> q = random(1), k = random(2), v = random(3), dout = random(4);
    const TestMatrix mq(*gpu, kTokens, q), mk(*gpu, kTokens, k), mv(*gpu, kTokens, v);
    const TestMatrix mdout(*gpu, kTokens, dout), out(*gpu, kTokens, q);
    const TestMatrix dq(*gpu, kTokens, q), dk(*gpu, kTokens, k), dv(*gpu, kTokens, v);
    const EngineArray<int32_t> starts(*gpu, start);
    const EngineArray<float> log_sum(*gpu, kTokens * 2);
    const EngineArray<char> scratch(*gpu,
                                    static_cast<int64_t>(gpu->AttentionBackwardScratch(shape)));
    gpu->AttentionForward(shape, starts.data(), mq.matrix(), mk.matrix(), mv.matrix(), out.matrix(),
                          log_sum.data());
    gpu->AttentionBackward(shape, starts.data(), mq.matrix(), mk.matrix(), mv.matrix(),
                           out.matrix(), log_sum.data(), mdout.matrix(), dq.matrix(), dk.matrix(),
                           dv.matrix(), scratch.data());
    EXPECT_EQ(out.Read(), v) << dim;
    EXPECT_EQ(dv.Read(), dout) << dim;
    for (const TestMatrix* gradient : {&dq, &dk}) {
      double largest = 0;
      for (const float value : gradient->Read())
        largest = std::max(largest, std::fabs(double{value}));
      EXPECT_LT(largest, 1e-4) << dim;
    }
  }
}

// A cache that is longer than what is valid: the rest must not be read.
TEST(Bf16, AttentionOverACache) {
  constexpr int64_t kPast = 230, kBehind = 20;
  for (const int32_t dim : {6, 34, 64, 100, 128, 130}) {
    for (const int64_t tokens : {1, 40, 300}) {
      const AttentionShape shape = Shape({{}, 4, 2, dim}, tokens);
      const int64_t valid = kPast + tokens;
      const auto cache = [&](uint64_t seed) {
        std::vector<float> values = Rounded(TestRandom(seed).Floats(valid * 2 * dim, 2.0f));
        values.resize(static_cast<size_t>((valid + kBehind) * 2 * dim), std::nanf(""));
        return values;
      };
      const std::vector<float> q = Rounded(TestRandom(1).Floats(tokens * 4 * dim, 2.0f));
      const std::vector<float> k = cache(2), v = cache(3);
      ExpectClose(
          [&](Engine& engine) {
            const TestMatrix mq(engine, tokens, q), out(engine, tokens, q);
            const TestMatrix mk(engine, valid + kBehind, k), mv(engine, valid + kBehind, v);
            engine.AttentionDecode(shape, kPast, nullptr, mq.matrix(), mk.matrix(), mv.matrix(),
                                   out.matrix());
            return Results{out.Read()};
          },
          4 * kStored);
    }
  }
}

struct Product {
  int64_t tokens;
  int64_t outputs;
  int64_t inputs;
};

// Multiples of the tiles, less, more, with tails, and with rows at odd addresses.
const Product kProducts[] = {{64, 256, 128},   {128, 256, 256},  {300, 520, 1040}, {512, 4096, 576},
                             {1000, 264, 144}, {2048, 96, 4096}, {96, 200, 130},   {304, 131, 257}};

// The three products of a linear layer with 16 critical features and a second term, on bf16 and
// fp32, added to and not. TF32 and 16-bit factors at critical features, bf16 in what is stored.
TEST(Bf16, IntegerProducts) {
  constexpr int32_t kCritical = 16;
  for (const Product& p : kProducts) {
    TestRandom random(static_cast<uint64_t>(p.outputs + p.inputs));
    std::vector<int32_t> columns;
    columns.reserve(kCritical);
    for (int32_t c = 0; c < kCritical; ++c) {
      columns.push_back(c * static_cast<int32_t>(p.inputs) / kCritical);
    }
    std::vector<int8_t> x = random.Codes(p.tokens * p.inputs);
    std::vector<int8_t> second = random.Codes(p.tokens * p.inputs);
    std::vector<int8_t> w = random.Codes(p.outputs * p.inputs);
    for (const int32_t column : columns) {
      for (int64_t t = 0; t < p.tokens; ++t) {
        x[static_cast<size_t>(t * p.inputs + column)] = 0;
        second[static_cast<size_t>(t * p.inputs + column)] = 0;
      }
      for (int64_t n = 0; n < p.outputs; ++n) w[static_cast<size_t>(n * p.inputs + column)] = 0;
    }
    const std::vector<int8_t> dy = random.Codes(p.tokens * p.outputs);
    const std::vector<int8_t> dy_t = random.Codes(p.tokens * p.outputs);
    const std::vector<float> x_scales = random.Scales(p.tokens, 0.02f);
    const std::vector<float> grid = random.Scales(p.outputs, 0.02f);
    const std::vector<float> dy_scales = random.Scales(p.tokens, 0.03f);
    const std::vector<float> dy_t_scales = random.Scales(p.outputs, 0.03f);
    const std::vector<float> x_critical = random.Floats(p.tokens * kCritical, 30.0f);
    const std::vector<float> w_critical = random.Floats(p.outputs * kCritical);
    for (const bool narrow : {false, true}) {
      for (const bool accumulate : {false, true}) {
        ExpectClose(
            [&](Engine& engine) {
              const EngineArray<int32_t> at(engine, columns);
              const EngineArray<int8_t> x_codes(engine, x), more(engine, second),
                  w_codes(engine, w);
              const EngineArray<int8_t> dy_codes(engine, dy), dy_t_codes(engine, dy_t);
              const EngineArray<float> xs(engine, x_scales), ws(engine, grid);
              const EngineArray<float> ds(engine, dy_scales), dts(engine, dy_t_scales);
              const EngineArray<float> xc(engine, x_critical), wc(engine, w_critical);
              const Operand operand{x_codes.data(), xs.data(), DType::kI8,
                                    p.tokens,       p.inputs,  {at.data(), xc.data(), kCritical}};
              Operand two_terms = operand;
              two_terms.second = more.data();
              const Weight weight{w_codes.data(), ws.data(), DType::kI8,
                                  p.outputs,      p.inputs,  {at.data(), wc.data(), kCritical}};
              const auto start = [&](int64_t count) {
                return Rounded(TestRandom(9).Floats(count, 50.0f));
              };
              const TestMatrix y(engine, p.tokens, start(p.tokens * p.outputs), narrow);
              const TestMatrix y2(engine, p.tokens, start(p.tokens * p.outputs), narrow);
              const TestMatrix dx(engine, p.tokens, start(p.tokens * p.inputs), narrow);
              const TestMatrix dw(engine, p.outputs, start(p.outputs * p.inputs), false);
              engine.MatmulForward(operand, weight, y.matrix(), accumulate);
              engine.MatmulForward(two_terms, weight, y2.matrix(), accumulate);
              engine.MatmulInputGradient(
                  {dy_codes.data(), ds.data(), DType::kI8, p.tokens, p.outputs}, weight,
                  dx.matrix(), accumulate);
              engine.MatmulWeightGradient(
                  {dy_t_codes.data(), dts.data(), DType::kI8, p.outputs, p.tokens}, operand,
                  dw.matrix(), accumulate);
              return Results{y.Read(), y2.Read(), dx.Read(), dw.Read()};
            },
            narrow ? kStored : 1e-3);
      }
    }
  }
}

TEST(Bf16, BiasesAndQkNorms) {
  for (const int32_t dim : {20, 64, 128}) {
    const int64_t tokens = 300, width = 3 * dim;
    TestRandom random(10);
    const std::vector<float> x = Rounded(random.Floats(tokens * width, 3.0f));
    const std::vector<float> dy = Rounded(random.Floats(tokens * width));
    const std::vector<float> bias = random.Floats(width);
    const std::vector<float> weight = random.Floats(dim);
    ExpectClose(
        [&](Engine& engine) {
          const TestMatrix sum(engine, tokens, x), in(engine, tokens, x), out(engine, tokens, x);
          const TestMatrix gradient(engine, tokens, dy);
          const EngineArray<float> b(engine, bias), w(engine, weight), rstd(engine, tokens * 3);
          const EngineArray<float> db(engine, bias), dw(engine, weight);
          engine.AddBias(sum.matrix(), b.data());
          engine.BiasBackward(gradient.matrix(), db.data());
          engine.QkNormForward(in.matrix(), w.data(), 1e-6f, dim, out.matrix(), rstd.data());
          engine.QkNormBackward(in.matrix(), w.data(), rstd.data(), gradient.matrix(),
                                gradient.matrix(), dim, dw.data());
          return Results{sum.Read(),  db.Read(),       out.Read(),
                         rstd.Read(), gradient.Read(), dw.Read()};
        },
        kStored);
  }
}

}  // namespace
}  // namespace qft
