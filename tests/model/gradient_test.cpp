// Gradients of every kind of tensor against central differences of the float64 reference. What the
// library holds between accumulate and end_step is the sum over tokens of weight * gradient.
#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "tests/model/compare.h"
#include "tests/model/session_util.h"

namespace qft {
namespace {

LlamaShape SmallShape(bool tied) {
  LlamaShape shape;
  shape.vocabulary = 64;
  shape.hidden = 16;
  shape.inner = 24;
  shape.heads = 2;
  shape.kv_heads = 1;
  shape.tied = tied;
  return shape;
}

std::vector<TestBatch> SomeBatches(int vocabulary) {
  TestBatch weighted = RandomBatch(vocabulary, {9}, 2);
  weighted.weights.assign(weighted.tokens.size(), 0.5f);
  weighted.weights[3] = 2.0f;
  weighted.weights[4] = 0.0f;
  return {RandomBatch(vocabulary, {7, 5, 4}, 1), weighted, RandomBatch(vocabulary, {1, 12}, 3)};
}

// The elements of largest magnitude and some random ones.
std::vector<size_t> Sample(const std::vector<float>& gradient) {
  std::vector<size_t> order(gradient.size());
  std::iota(order.begin(), order.end(), 0);
  const size_t largest = std::min<size_t>(4, order.size());
  std::partial_sort(
      order.begin(), order.begin() + static_cast<ptrdiff_t>(largest), order.end(),
      [&](size_t a, size_t b) { return std::fabs(gradient[a]) > std::fabs(gradient[b]); });
  std::vector<size_t> sample(order.begin(), order.begin() + static_cast<ptrdiff_t>(largest));
  std::mt19937 random(11);
  while (sample.size() < 20) sample.push_back(random() % gradient.size());
  return sample;
}

void ExpectExactGradients(const LlamaShape& shape, const Settings& settings,
                          const std::vector<TestBatch>& batches) {
  const TestModel model(shape);
  TestSession session(model, kPlain + settings);
  session.Randomise(7);
  ReferenceLlama reference = session.Reference();
  const auto gradients = session.Gradients(batches);
  ASSERT_EQ(gradients.size(), model.tensors().size());
  for (const auto& [name, gradient] : gradients) {
    const double largest = LargestMagnitude(gradient);
    EXPECT_GT(largest, 0) << name;
    for (const size_t i : Sample(gradient)) {
      ASSERT_NEAR(gradient[i], reference.Derivative(name, i, batches), 1e-3 * largest)
          << name << " element " << i;
    }
  }
}

TEST(PlainGradientTest, UntiedVertical) {
  ExpectExactGradients(SmallShape(false), {}, SomeBatches(64));
}

TEST(PlainGradientTest, TiedVertical) {
  ExpectExactGradients(SmallShape(true), {}, SomeBatches(64));
}

TEST(PlainGradientTest, TiedHorizontal) {
  ExpectExactGradients(SmallShape(true), {{"accumulation", "horizontal"}}, SomeBatches(64));
}

TEST(PlainGradientTest, UntiedHorizontal) {
  ExpectExactGradients(SmallShape(false), {{"accumulation", "horizontal"}}, SomeBatches(64));
}

TEST(PlainGradientTest, GroupedHeadsAndThreeLayers) {
  LlamaShape shape;
  shape.layers = 3;
  ExpectExactGradients(shape, {{"recompute", "always"}}, {RandomBatch(96, {11, 10}, 4)});
}

TEST(PlainGradientTest, Families) {
  for (LlamaShape shape : {Qwen2Shape(), Qwen3Shape(), SmolLm3Shape(), BiasedShape()}) {
    shape.vocabulary = 64;
    for (const Settings& settings : {Settings(), Settings{{"accumulation", "horizontal"}},
                                     Settings{{"recompute", "always"}}}) {
      ExpectExactGradients(shape, settings, SomeBatches(64));
    }
  }
}

TEST(PlainGradientTest, EvenHeadDimensions) {
  for (const int head_dim : {2, 6, 12, 20, 100}) {
    for (const char* family : {"llama", "qwen3"}) {
      LlamaShape shape = SmallShape(false);
      shape.family = family;
      shape.head_dim = head_dim;
      shape.heads = 3;
      SCOPED_TRACE(shape.Json());
      ExpectExactGradients(shape, {}, SomeBatches(64));
    }
  }
}

// The head and the embedding go through in chunks of 8192 vocabulary entries.
TEST(PlainGradientTest, SeveralVocabularyChunks) {
  for (const bool tied : {false, true}) {
    LlamaShape shape = SmallShape(tied);
    shape.vocabulary = 8210;
    shape.layers = 1;
    TestBatch batch = RandomBatch(shape.vocabulary, {6}, 4);
    batch.tokens[1] = 8209;  // in the second chunk, as input and as target
    batch.tokens[2] = 8192;
    batch.tokens[3] = 8191;
    ExpectExactGradients(shape, {}, {batch});
  }
}

TEST(PlainGradientTest, AccumulateMayBeCalledAgainUnderTheHorizontalSchedule) {
  const TestModel model(SmallShape(true));
  const std::vector<TestBatch> batches = SomeBatches(64);
  TestSession together(model, {{"accumulation", "horizontal"}});
  TestSession apart(model, {{"accumulation", "horizontal"}});
  const auto expected = together.Gradients(batches);
  apart.Begin(0);
  for (const TestBatch& batch : batches) apart.Accumulate({batch});
  EXPECT_EQ(apart.ReadGradients(), expected);
}

// --- rounding -----------------------------------------------------------------------------------

using Gradients = std::map<std::string, std::vector<float>>;

// The gradients of `count` steps at learning rate 0: only the random numbers differ.
std::vector<Gradients> Repeated(TestSession& session, const std::vector<TestBatch>& batches,
                                int count) {
  std::vector<Gradients> repeated;
  for (int i = 0; i < count; ++i) {
    session.Begin(0);
    session.Accumulate(batches);
    repeated.push_back(session.ReadGradients());
    session.End();
  }
  return repeated;
}

std::vector<double> Mean(const std::vector<Gradients>& samples, const std::string& name,
                         size_t begin, size_t count) {
  std::vector<double> mean(samples[0].at(name).size(), 0.0);
  for (size_t s = begin; s < begin + count; ++s) {
    const std::vector<float>& sample = samples[s].at(name);
    for (size_t i = 0; i < mean.size(); ++i) {
      mean[i] += static_cast<double>(sample[i]) / static_cast<double>(count);
    }
  }
  return mean;
}

// Squared relative error of means of `count` samples, averaged over all such means.
double MeanSquareError(const std::vector<Gradients>& samples, const std::string& name,
                       const std::vector<double>& exact, size_t count) {
  double sum = 0;
  const size_t means = samples.size() / count;
  for (size_t m = 0; m < means; ++m) {
    const double error = RelativeError(Mean(samples, name, m * count, count), exact);
    sum += error * error / static_cast<double>(means);
  }
  return sum;
}

// Standard deviation of the squared error of a mean, in units of its expectation: that of a sum of
// squares with the elements' variances, nearly normal each.
double Spread(const std::vector<Gradients>& samples, const std::string& name) {
  const std::vector<double> mean = Mean(samples, name, 0, samples.size());
  double sum = 0;
  double square_sum = 0;
  for (size_t i = 0; i < mean.size(); ++i) {
    double variance = 0;
    for (const Gradients& sample : samples) {
      const double error = static_cast<double>(sample.at(name)[i]) - mean[i];
      variance += error * error / static_cast<double>(samples.size());
    }
    sum += variance;
    square_sum += variance * variance;
  }
  return std::sqrt(2 * square_sum) / sum;
}

TEST(IntegerGradientTest, PointsWhereTheReferencePoints) {
  LlamaShape wide;  // with critical features
  wide.hidden = 64;
  wide.inner = 80;
  wide.head_dim = 16;
  wide.layers = 1;
  LlamaShape wide_qwen2 = wide, wide_qwen3 = wide;
  wide_qwen2.family = "qwen2";
  wide_qwen3.family = "qwen3";
  for (const LlamaShape& shape : {SmallShape(false), SmallShape(true), wide, wide_qwen2, wide_qwen3,
                                  HeadDim100Shape(), HeadDim10Shape()}) {
    const TestModel model(shape);
    TestSession session(model);
    session.Randomise(7);
    ReferenceLlama reference = session.Reference();
    const std::vector<TestBatch> batches = {RandomBatch(shape.vocabulary, {12, 11}, 1)};
    for (const auto& [name, gradient] : session.Gradients(batches)) {
      std::vector<double> expected;
      std::vector<double> got;
      for (size_t i = 0; i < gradient.size(); i += 1 + gradient.size() / 300) {
        got.push_back(static_cast<double>(gradient[i]));
        expected.push_back(reference.Derivative(name, i, batches));
      }
      EXPECT_GT(Cosine(got, expected), 0.99) << name;
    }
  }
}

// Only the rounding onto the stack is random here, and the exact gradient is known to fp32.
TEST(IntegerGradientTest, RoundingOntoTheStackIsUnbiased) {
  constexpr int kSamples = 256;
  for (const char* accumulation : {"vertical", "horizontal"}) {
    const TestModel model(SmallShape(true));
    const std::vector<TestBatch> batches = {RandomBatch(64, {12}, 1), RandomBatch(64, {9}, 2)};
    TestSession rounded(model, {{"arithmetic", "float"}, {"accumulation", accumulation}});
    rounded.Randomise(7);
    TestSession plain(model, kPlain);
    for (const TensorEntry& tensor : model.tensors()) {
      plain.Write(tensor.name, rounded.Read(tensor.name));
    }
    const Gradients exact = plain.Gradients(batches);
    const std::vector<Gradients> samples = Repeated(rounded, batches, kSamples);
    for (const TensorEntry& tensor : model.tensors()) {
      if (!tensor.quantised) continue;
      const auto& values = exact.at(tensor.name);
      const std::vector<double> expected(values.begin(), values.end());
      const double one = MeanSquareError(samples, tensor.name, expected, 1);
      EXPECT_GT(one, 1e-8) << tensor.name;
      for (const size_t count : {16, kSamples}) {
        const double expected_error = one / static_cast<double>(count);
        const double means = static_cast<double>(kSamples) / static_cast<double>(count);
        const double tolerance = 4 * Spread(samples, tensor.name) / std::sqrt(means);
        EXPECT_NEAR(MeanSquareError(samples, tensor.name, expected, count) / expected_error, 1,
                    tolerance)
            << tensor.name << " mean of " << count << " " << accumulation;
      }
    }
  }
}

// Output gradients are rounded too. What stays is the rounding of the inputs, to nearest and the
// same in every step: the mean is nearer to the reference than one sample, as far as that allows.
TEST(IntegerGradientTest, RoundingOfOutputGradientsAveragesOut) {
  const TestModel model(SmallShape(true));
  const std::vector<TestBatch> batches = {RandomBatch(64, {12, 11}, 1)};
  TestSession session(model);
  session.Randomise(7);
  ReferenceLlama reference = session.Reference();
  const std::vector<Gradients> samples = Repeated(session, batches, 128);
  for (const TensorEntry& tensor : model.tensors()) {
    const std::vector<double> exact = reference.Gradient(tensor.name, batches);
    const double one = MeanSquareError(samples, tensor.name, exact, 1);
    const double four = MeanSquareError(samples, tensor.name, exact, 4);
    const double all = MeanSquareError(samples, tensor.name, exact, samples.size());
    // E(n) = floor + noise / n, so that E(1) - E(128) = 127/128 noise and E(4) - E(128) = 31/128.
    EXPECT_LT(all, one) << tensor.name;
    EXPECT_NEAR((four - all) / (one - all), 31.0 / 127.0, 0.05) << tensor.name;
  }
}

// With the same random numbers for both the sum would be twice one of them, bit for bit.
TEST(IntegerGradientTest, EqualMicroBatchesAreRoundedDifferently) {
  for (const char* accumulation : {"vertical", "horizontal"}) {
    const TestModel model(SmallShape(true));
    TestSession session(model, {{"accumulation", accumulation}});
    session.Randomise(7);
    const TestBatch batch = RandomBatch(64, {30}, 1);
    const std::vector<float> one = session.Gradients({batch}).at("model.norm.weight");
    const std::vector<float> two = session.Gradients({batch, batch}).at("model.norm.weight");
    std::vector<float> twice = one;
    for (float& value : twice) value *= 2;
    EXPECT_NE(two, twice) << accumulation;
    EXPECT_LT(RelativeError(two, twice), 0.1) << accumulation;
  }
}

}  // namespace
}  // namespace qft
