#include "tests/kernels/layer_test.h"

namespace qft {
namespace {

struct Problem {
  int64_t tokens;
  int64_t vocabulary;
  int64_t chunk;
  Floats logits;  // [tokens, vocabulary]
  Floats weight;
  std::vector<int32_t> targets;
};

Problem MakeProblem(int64_t tokens, int64_t vocabulary, int64_t chunk, uint32_t seed) {
  Problem p{tokens, vocabulary, chunk, RandomFloats(tokens * vocabulary, seed, 5.0f), {}, {}};
  std::mt19937 random(seed);
  for (int64_t t = 0; t < tokens; ++t) {
    p.targets.push_back(static_cast<int32_t>(random() % vocabulary));
    p.weight.push_back(t % 5 == 1 ? 0.0f : 0.25f * static_cast<float>(1 + t % 4));
  }
  return p;
}

struct Result {
  Floats token_loss, gradient;
  StepState step;
};

// Columns [begin, begin + count) of the logits, or of a gradient, as a dense matrix.
Floats Columns(const Floats& x, int64_t cols, int64_t begin, int64_t count) {
  Floats part;
  for (size_t row = 0; row < x.size(); row += cols) {
    part.insert(part.end(), x.begin() + row + begin, x.begin() + row + begin + count);
  }
  return part;
}

Result RunLoss(Engine* engine, const Problem& p) {
  const size_t tokens = static_cast<size_t>(p.tokens);
  const size_t chunks = static_cast<size_t>((p.vocabulary + p.chunk - 1) / p.chunk);
  EngineArray<int32_t> targets(engine, p.targets);
  EngineArray<float> weight(engine, p.weight), max(engine, tokens), sum(engine, tokens);
  EngineArray<float> chunk_max(engine, chunks * tokens), chunk_sum(engine, chunks * tokens);
  EngineArray<uint16_t> exps(engine, p.logits.size());
  EngineArray<float> target_logit(engine, tokens), loss(engine, tokens);
  EngineArray<StepState> step(engine, std::vector<StepState>(1));
  const auto chunk_at = [&](int64_t begin) {
    const int64_t count = std::min(p.chunk, p.vocabulary - begin);
    const int64_t stats = begin / p.chunk * p.tokens;
    return VocabularyChunk{begin,
                           chunk_max.data() + stats,
                           chunk_sum.data() + stats,
                           {exps.data() + begin * p.tokens, DType::kBF16, p.tokens, count}};
  };
  const CrossEntropyRows rows{p.tokens,   targets.data(), weight.data(), target_logit.data(),
                              max.data(), sum.data(),     loss.data()};
  for (int64_t begin = 0; begin < p.vocabulary; begin += p.chunk) {
    const VocabularyChunk chunk = chunk_at(begin);
    EngineArray<float> logits(engine, Columns(p.logits, p.vocabulary, begin, chunk.exps.cols));
    engine->CrossEntropyChunk(logits.AsMatrix(p.tokens), targets.data(), chunk,
                              target_logit.data());
    EXPECT_EQ(engine->Synchronize(), nullptr);
  }
  engine->CrossEntropyLoss(rows, static_cast<int64_t>(chunks), chunk_max.data(), chunk_sum.data(),
                           step.data());
  Result result{loss.Download(), Floats(p.logits.size()), step.Download()[0]};
  for (int64_t begin = 0; begin < p.vocabulary; begin += p.chunk) {
    const VocabularyChunk chunk = chunk_at(begin);
    const int64_t count = chunk.exps.cols;
    EngineArray<float> gradient(engine, static_cast<size_t>(p.tokens * count));
    engine->CrossEntropyGradient(chunk, rows, gradient.AsMatrix(p.tokens));
    const Floats part = gradient.Download();
    for (size_t t = 0; t < tokens; ++t) {
      std::copy_n(part.begin() + t * count, count,
                  result.gradient.begin() + t * p.vocabulary + begin);
    }
  }
  return result;
}

// An exponential at a tie may be rounded to either side.
void ExpectNearlySame(Floats got, Floats expected) {
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(std::isnan(got[i]), std::isnan(expected[i]));
    if (std::isnan(expected[i])) got[i] = expected[i] = 0;
  }
  EXPECT_LT(RelativeError(got, ToDoubles(expected)), 1e-4);
}

Result RunLossEverywhere(const Problem& p) {
  Result expected;
  bool first = true;
  for (const NamedEngine& named : LayerEngines()) {
    const Result got = RunLoss(named.engine.get(), p);
    if (first) expected = got;
    first = false;
    if (named.name == "cuda") {
      EXPECT_TRUE(Close(expected.token_loss, got.token_loss));
      ExpectNearlySame(got.gradient, expected.gradient);
      EXPECT_TRUE(Close({static_cast<float>(expected.step.loss_sum)},
                        {static_cast<float>(got.step.loss_sum)}));
      EXPECT_NEAR(got.step.loss_weight, expected.step.loss_weight, 1e-12);
      continue;
    }
    EXPECT_TRUE(SameBits(got.token_loss, expected.token_loss)) << named.name;
    EXPECT_TRUE(SameBits(got.gradient, expected.gradient)) << named.name;
    EXPECT_TRUE(got.step.loss_sum == expected.step.loss_sum ||
                (std::isnan(got.step.loss_sum) && std::isnan(expected.step.loss_sum)));
    EXPECT_EQ(got.step.loss_weight, expected.step.loss_weight);
  }
  return expected;
}

double TokenLoss(const Problem& p, const Doubles& logits, int64_t t) {
  const auto row = logits.begin() + t * p.vocabulary;
  const double max = *std::max_element(row, row + p.vocabulary);
  double sum = 0;
  for (int64_t c = 0; c < p.vocabulary; ++c) sum += std::exp(row[c] - max);
  return std::log(sum) + max - row[p.targets[t]];
}

double WeightedLoss(const Problem& p, const Doubles& logits) {
  double sum = 0;
  for (int64_t t = 0; t < p.tokens; ++t) sum += p.weight[t] * TokenLoss(p, logits, t);
  return sum;
}

double ToBFloat16(double x) {
  int exponent = 0;
  const double mantissa = std::frexp(x, &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(mantissa, 8)), exponent - 8);
}

// What the kept exponentials lose is in it: gradients of the loss but for that.
Doubles RoundedGradient(const Problem& p) {
  const Doubles logits = ToDoubles(p.logits);
  Doubles gradient(logits.size());
  for (int64_t t = 0; t < p.tokens; ++t) {
    const size_t row = t * p.vocabulary;
    const double log_sum = TokenLoss(p, logits, t) + logits[row + p.targets[t]];
    for (int64_t begin = 0; begin < p.vocabulary; begin += p.chunk) {
      const int64_t end = std::min(p.vocabulary, begin + p.chunk);
      const double max =
          *std::max_element(logits.begin() + row + begin, logits.begin() + row + end);
      const double shift = std::isinf(max) ? 0 : max;
      for (int64_t c = begin; c < end; ++c) {
        const double one = c == p.targets[t] ? 1 : 0;
        const double kept = ToBFloat16(std::exp(logits[row + c] - shift));
        gradient[row + c] = p.weight[t] * (kept * std::exp(max - log_sum) - one);
      }
    }
  }
  return gradient;
}

Doubles ReferenceGradient(const Problem& p) {
  const Doubles logits = ToDoubles(p.logits);
  Doubles gradient(logits.size());
  for (int64_t t = 0; t < p.tokens; ++t) {
    const size_t row = t * p.vocabulary;
    const double log_sum = TokenLoss(p, logits, t) + logits[row + p.targets[t]];
    for (int64_t c = 0; c < p.vocabulary; ++c) {
      const double one = c == p.targets[t] ? 1 : 0;
      gradient[row + c] = p.weight[t] * (std::exp(logits[row + c] - log_sum) - one);
    }
  }
  return gradient;
}

void ExpectMatchesReference(const Problem& p) {
  const Result got = RunLossEverywhere(p);
  const Doubles logits = ToDoubles(p.logits);
  Doubles loss(p.tokens);
  double loss_sum = 0, weight_sum = 0;
  for (int64_t t = 0; t < p.tokens; ++t) {
    if (p.weight[t] == 0) continue;
    loss[t] = TokenLoss(p, logits, t);
    loss_sum += static_cast<double>(p.weight[t]) * static_cast<double>(got.token_loss[t]);
    weight_sum += static_cast<double>(p.weight[t]);
  }
  EXPECT_LT(RelativeError(got.token_loss, loss), 1e-6);
  EXPECT_EQ(got.step.loss_sum, loss_sum);
  EXPECT_EQ(got.step.loss_weight, weight_sum);
  EXPECT_LT(RelativeError(got.gradient, RoundedGradient(p)), 1e-5);
  EXPECT_LT(RelativeError(got.gradient, ReferenceGradient(p)), 0x1p-9);
}

TEST(CrossEntropy, ReferenceGradientMatchesFiniteDifferences) {
  const Problem p = MakeProblem(4, 9, 9, 1);
  const Doubles numeric = NumericGradient(
      [&](const Doubles& logits) { return WeightedLoss(p, logits); }, ToDoubles(p.logits));
  EXPECT_LT(RelativeError(ReferenceGradient(p), numeric), 1e-8);
}

// A row that is nearly certain of its target: the gradient there is a small difference, as exact as
// fp32 numbers below 1 are.
TEST(CrossEntropy, CertainTokensKeepSmallGradients) {
  Problem p = MakeProblem(4, 100, 50, 9);
  p.weight = {1, 1, 1, 1};
  for (size_t t = 0; t < 4; ++t) p.logits[t * 100 + static_cast<size_t>(p.targets[t])] = 24.0f;
  const Result got = RunLossEverywhere(p);
  const Doubles expected = ReferenceGradient(p);
  for (size_t t = 0; t < 4; ++t) {
    const size_t at = t * 100 + static_cast<size_t>(p.targets[t]);
    EXPECT_NEAR(got.gradient[at], expected[at], 1e-3 * std::abs(expected[at]) + 0x1p-22);
  }
}

TEST(CrossEntropy, OneChunk) {
  ExpectMatchesReference(MakeProblem(7, 33, 64, 2));
}

TEST(CrossEntropy, SeveralChunksOfOddSize) {
  ExpectMatchesReference(MakeProblem(61, 1000, 99, 3));
}

TEST(CrossEntropy, WholeVocabulary) {
  ExpectMatchesReference(MakeProblem(3, 3 * kVocabularyChunk + 5, kVocabularyChunk, 4));
}

TEST(CrossEntropy, LargeLogitsAndGrowingMaximum) {
  Problem p = MakeProblem(5, 300, 50, 5);
  for (int64_t i = 0; i < 5 * 300; ++i) p.logits[i] += static_cast<float>(i % 300) * 3.0f - 400.0f;
  ExpectMatchesReference(p);
}

TEST(CrossEntropy, SkippedTokensHaveNoLossAndNoGradient) {
  Problem p = MakeProblem(6, 40, 16, 6);
  p.targets[1] = -100;
  p.weight[1] = 0;
  const Result got = RunLossEverywhere(p);
  EXPECT_EQ(got.token_loss[1], 0.0f);
  for (int c = 0; c < 40; ++c) EXPECT_EQ(got.gradient[40 + c], 0.0f);
}

TEST(CrossEntropy, ExcludedVocabularyIsAllowed) {
  Problem p = MakeProblem(2, 60, 20, 7);
  for (int64_t t = 0; t < 2; ++t) {
    p.targets[t] = 50;
    p.weight[t] = 1;
    for (int c = 0; c < 25; ++c) {
      p.logits[t * 60 + c] = -std::numeric_limits<float>::infinity();
    }
  }
  const Result got = RunLossEverywhere(p);
  EXPECT_LT(RelativeError(got.gradient, RoundedGradient(p)), 1e-5);
  for (int c = 0; c < 25; ++c) EXPECT_EQ(got.gradient[c], 0.0f);
}

TEST(CrossEntropy, NanReachesTheLoss) {
  for (int column : {0, 17, 39}) {
    Problem p = MakeProblem(3, 40, 16, 8);
    p.weight = {1, 1, 1};
    p.logits[40 + column] = std::nanf("");
    const Result got = RunLossEverywhere(p);
    EXPECT_TRUE(std::isnan(got.token_loss[1]));
    EXPECT_FALSE(std::isnan(got.token_loss[0]) || std::isnan(got.token_loss[2]));
    EXPECT_TRUE(std::isnan(got.step.loss_sum));
    EXPECT_TRUE(std::isnan(got.gradient[40]));
  }
}

}  // namespace
}  // namespace qft
