#include <gtest/gtest.h>

#include "tests/model/compare.h"
#include "tests/model/session_util.h"

namespace qft {
namespace {

std::vector<LlamaShape> Shapes() {
  LlamaShape tied;
  tied.tied = true;
  LlamaShape one_head;
  one_head.hidden = 24;
  one_head.heads = one_head.kv_heads = 1;
  one_head.head_dim = 24;
  one_head.layers = 1;
  LlamaShape wide_heads;  // heads * head_dim is not the hidden size
  wide_heads.head_dim = 16;
  wide_heads.kv_heads = 4;
  wide_heads.layers = 3;
  wide_heads.rope_theta = 100000;
  LlamaShape two_chunks;
  two_chunks.vocabulary = 8200;
  two_chunks.hidden = 16;
  two_chunks.layers = 1;
  return {LlamaShape(),    tied,         one_head,      wide_heads,     two_chunks,
          Qwen2Shape(),    Qwen3Shape(), BiasedShape(), SmolLm3Shape(), HeadDim100Shape(),
          HeadDim10Shape()};
}

class ForwardTest : public testing::TestWithParam<size_t> {
 protected:
  ForwardTest() : model_(Shapes()[GetParam()]) {}
  TestModel model_;
};

INSTANTIATE_TEST_SUITE_P(Shapes, ForwardTest, testing::Range<size_t>(0, Shapes().size()));

TEST_P(ForwardTest, LogProbabilitiesAreTheReferences) {
  TestSession session(model_, kPlain);
  session.Randomise(3);
  const TestBatch batch = RandomBatch(model_.shape().vocabulary, {17, 1, 9, 13}, 5);
  const std::vector<double> expected = session.Reference().LogProbabilities(batch);
  EXPECT_LT(LargestDifference(session.Forward(batch), expected), 1e-5 * LargestMagnitude(expected));
}

TEST_P(ForwardTest, DocumentsOfAMicroBatchDoNotSeeEachOther) {
  TestSession session(model_);
  session.Randomise(3);
  const int vocabulary = model_.shape().vocabulary;
  const TestBatch first = RandomBatch(vocabulary, {11}, 1);
  const TestBatch second = RandomBatch(vocabulary, {14}, 2);
  TestBatch both = first;
  both.tokens.insert(both.tokens.end(), second.tokens.begin(), second.tokens.end());
  both.documents.insert(both.documents.end(), second.tokens.size(), 7);
  std::vector<float> apart = session.Forward(first);
  const std::vector<float> rest = session.Forward(second);
  apart.insert(apart.end(), rest.begin(), rest.end());
  // On tensor cores the order of sums depends on where a document begins: a last bit may move a
  // code.
  const double tolerance = OnGpu() ? 2e-2 * LargestMagnitude(apart) : 1e-4;
  EXPECT_LT(LargestDifference(session.Forward(both), apart), tolerance);
}

TEST_P(ForwardTest, EvaluationIsTheMeanOfTokenLosses) {
  TestSession session(model_, kPlain);
  session.Randomise(4);
  TestBatch weighted = RandomBatch(model_.shape().vocabulary, {10, 12}, 6);
  for (int64_t t = 0; t < weighted.size(); ++t) {
    weighted.weights.push_back(0.25f * static_cast<float>(t % 4));
  }
  const TestBatch chosen = [&] {
    TestBatch batch = RandomBatch(model_.shape().vocabulary, {15}, 7);
    for (int64_t t = 0; t < batch.size(); ++t) {
      batch.targets.push_back(t % 3 == 0 ? -1 : static_cast<int32_t>((t * 31) % 90));
    }
    return batch;
  }();
  ReferenceLlama reference = session.Reference();
  std::vector<double> expected = reference.TokenLosses(weighted);
  double loss_sum = 0;
  double weight_sum = 0;
  for (size_t t = 0; t < expected.size(); ++t) {
    // The last token of a document has no target and weighs nothing.
    const double weight = t == 9 || t == 21 ? 0 : static_cast<double>(weighted.weights[t]);
    loss_sum += weight * expected[t];
    weight_sum += weight;
  }
  for (const double loss : reference.TokenLosses(chosen)) {
    expected.push_back(loss);
    loss_sum += loss;
    weight_sum += loss != 0 ? 1 : 0;
  }
  for (size_t t = 0; t < weighted.weights.size(); ++t) {
    if (weighted.weights[t] == 0) expected[t] = 0;
  }
  std::vector<float> token_losses;
  const qft_eval_result result = session.Evaluate({weighted, chosen}, &token_losses);
  EXPECT_EQ(result.tokens, 37);
  EXPECT_DOUBLE_EQ(result.loss_weight, weight_sum);
  EXPECT_NEAR(result.loss, loss_sum / weight_sum, 1e-5 * loss_sum / weight_sum);
  EXPECT_LT(LargestDifference(token_losses, expected), 1e-5 * LargestMagnitude(expected));
}

// Feeds a document in pieces of several sizes; the logits after each piece are the forward pass's.
void ExpectDecoderAgrees(TestSession& session, double tolerance) {
  const TestBatch batch = RandomBatch(session.model().shape().vocabulary, {40}, 8);
  const std::vector<float> logits = session.Forward(batch, QFT_OUTPUT_LOGITS);
  const size_t vocabulary = static_cast<size_t>(session.model().shape().vocabulary);
  qft_decoder* decoder = nullptr;
  Must([&](qft_error** e) { return qft_decoder_open(session.handle(), 40, &decoder, e); });
  for (int round = 0; round < 2; ++round) {
    size_t fed = 0;
    for (const size_t count : {1, 1, 13, 2, 1, 22}) {
      std::vector<float> last(vocabulary);
      Must([&](qft_error** e) {
        return qft_decoder_feed(decoder, batch.tokens.data() + fed, static_cast<int64_t>(count),
                                last.data(), last.size(), e);
      });
      fed += count;
      const auto row = logits.begin() + static_cast<ptrdiff_t>((fed - 1) * vocabulary);
      EXPECT_LT(LargestDifference(
                    last, std::vector<float>(row, row + static_cast<ptrdiff_t>(vocabulary))),
                tolerance * LargestMagnitude(logits))
          << "after " << fed;
    }
    EXPECT_EQ(fed, 40u);
    const Outcome full = Try([&](qft_error** e) {
      return qft_decoder_feed(decoder, batch.tokens.data(), 1, nullptr, 0, e);
    });
    EXPECT_EQ(full.status, QFT_ERROR_OUT_OF_RANGE);
    Must([&](qft_error** e) { return qft_decoder_reset(decoder, e); });
  }
  qft_decoder_destroy(decoder);
}

TEST_P(ForwardTest, DecoderAgreesInPlainArithmetic) {
  TestSession session(model_, kPlain);
  session.Randomise(5);
  ExpectDecoderAgrees(session, 1e-5);
}

// A last bit of attention may move a code across a rounding boundary, so a little more apart.
TEST_P(ForwardTest, DecoderAgreesInIntegerArithmetic) {
  TestSession session(model_);
  session.Randomise(5);
  ExpectDecoderAgrees(session, 2e-2);
}

TEST_P(ForwardTest, IntegerForwardIsNearTheReference) {
  TestSession session(model_);
  session.Randomise(6);
  const TestBatch batch = RandomBatch(model_.shape().vocabulary, {20, 20}, 9);
  const std::vector<double> expected = session.Reference().LogProbabilities(batch);
  EXPECT_LT(RelativeError(session.Forward(batch), expected), 5e-2);
}

TEST_P(ForwardTest, InferenceSessionComputesTheSameBits) {
  TestSession train(model_);
  TestSession infer(model_, {{"mode", "infer"}});
  const TestBatch batch = RandomBatch(model_.shape().vocabulary, {20, 20}, 10);
  EXPECT_EQ(train.Forward(batch), infer.Forward(batch));
  const qft_session_metrics metrics = infer.Metrics();
  EXPECT_EQ(metrics.momentum_bytes, 0);
  EXPECT_EQ(metrics.gradient_bytes, 0);
  EXPECT_EQ(infer.TryBegin(1e-3).status, QFT_ERROR_STATE);
}

TEST(WeightsTest, CodesTimesGridAreTheValues) {
  const TestModel model{LlamaShape()};
  TestSession session(model, {{"residual_bits", "0"}, {"critical_features", "0"}});
  session.Randomise(1);
  for (const TensorEntry& tensor : model.tensors()) {
    if (!tensor.quantised) continue;
    const std::vector<int8_t> codes = session.ReadCodes(tensor.name);
    const std::vector<float> grid = session.Read(tensor.name, QFT_TENSOR_GRID);
    const std::vector<float> values = session.Read(tensor.name);
    for (size_t i = 0; i < codes.size(); ++i) {
      const float expected = grid[i / static_cast<size_t>(tensor.cols)] * codes[i];
      ASSERT_EQ(values[i], expected) << tensor.name << " " << i;
    }
  }
}

TEST(WeightsTest, TheSameSeedGivesTheSameModel) {
  const TestModel a(LlamaShape(), 1), b(LlamaShape(), 1), c(LlamaShape(), 2);
  TestSession of_a(a), of_b(b), of_c(c);
  EXPECT_EQ(of_a.Hash(), of_b.Hash());
  EXPECT_NE(of_a.Hash(), of_c.Hash());
}

}  // namespace
}  // namespace qft
