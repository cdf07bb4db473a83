// The update against Lion in float64, computed from the gradients that were read.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/model/compare.h"
#include "tests/model/session_util.h"

namespace qft {
namespace {

constexpr double kBeta1 = 0.85;
constexpr double kBeta2 = 0.95;
constexpr double kWeightDecay = 0.1;

const Settings kLion = kPlain + Settings{{"beta1", "0.85"}, {"beta2", "0.95"}};

struct LionState {
  std::vector<double> weight;
  std::vector<double> momentum;
  // Elements whose update direction is not certain in fp32: their sign may differ from here on.
  std::vector<bool> uncertain;
};

using LionStates = std::map<std::string, LionState>;

LionStates StatesOf(TestSession& session) {
  LionStates states;
  for (const TensorEntry& tensor : session.tensors()) {
    const std::vector<float> weight = session.Read(tensor.name);
    states[tensor.name] = {{weight.begin(), weight.end()},
                           std::vector<double>(weight.size(), 0.0),
                           std::vector<bool>(weight.size(), false)};
  }
  return states;
}

// factor: gradient scale times clip factor.
void LionStep(LionState& state, const std::vector<float>& gradient, double factor,
              double learning_rate, double weight_decay) {
  const double tiny = 1e-5 * factor * LargestMagnitude(gradient);
  for (size_t i = 0; i < state.weight.size(); ++i) {
    const double g = factor * static_cast<double>(gradient[i]);
    const double u = kBeta1 * state.momentum[i] + (1 - kBeta1) * g;
    const double sign = u > 0 ? 1 : u < 0 ? -1 : 0;
    if (u != 0 && std::fabs(u) < tiny) state.uncertain[i] = true;
    state.weight[i] -= learning_rate * (sign + weight_decay * state.weight[i]);
    state.momentum[i] = kBeta2 * state.momentum[i] + (1 - kBeta2) * g;
  }
}

double GlobalNorm(const std::map<std::string, std::vector<float>>& gradients, double scale) {
  double squares = 0;
  for (const auto& [name, gradient] : gradients) squares += std::pow(Norm(gradient), 2);
  return scale * std::sqrt(squares);
}

void ExpectStates(TestSession& session, const LionStates& states) {
  size_t compared = 0;
  size_t total = 0;
  for (const auto& [name, state] : states) {
    const std::vector<float> weight = session.Read(name);
    const std::vector<float> momentum = session.Read(name, QFT_TENSOR_MOMENTUM);
    EXPECT_LT(LargestDifference(momentum, state.momentum),
              1e-5 * LargestMagnitude(state.momentum) + 1e-30)
        << name;
    for (size_t i = 0; i < weight.size(); ++i) {
      ++total;
      if (state.uncertain[i]) continue;
      ++compared;
      ASSERT_NEAR(weight[i], state.weight[i], 1e-6) << name << " element " << i;
    }
  }
  EXPECT_GT(compared, total * 99 / 100);
}

void RunLion(const LlamaShape& shape, double clip_norm) {
  const TestModel model(shape);
  TestSession session(model, kLion + Settings{{"clip_norm", std::to_string(clip_norm)},
                                              {"weight_decay", std::to_string(kWeightDecay)}});
  session.Randomise(9);
  LionStates states = StatesOf(session);
  for (int step = 0; step < 4; ++step) {
    const double learning_rate = 1e-3 * (step + 1);
    TestBatch first = RandomBatch(96, {20, 9}, static_cast<uint32_t>(2 * step));
    first.weights.assign(first.tokens.size(), 0.75f);
    const std::vector<TestBatch> batches = {
        first, RandomBatch(96, {31}, static_cast<uint32_t>(2 * step + 1))};
    const double loss_weight = 27 * 0.75 + 30;
    session.Begin(learning_rate);
    session.Accumulate(batches);
    const auto gradients = session.ReadGradients();
    const qft_step_result result = session.End();
    const double norm = GlobalNorm(gradients, 1 / loss_weight);
    const double clip = clip_norm > 0 && norm > clip_norm ? clip_norm / norm : 1;
    EXPECT_EQ(result.step, step + 1);
    EXPECT_EQ(result.tokens, 60);
    EXPECT_DOUBLE_EQ(result.loss_weight, loss_weight);
    EXPECT_DOUBLE_EQ(result.learning_rate, learning_rate);
    EXPECT_NEAR(result.gradient_norm, norm, 1e-6 * norm);
    EXPECT_NEAR(result.clip_factor, clip, 1e-6);
    for (const TensorEntry& tensor : model.tensors()) {
      LionStep(states[tensor.name], gradients.at(tensor.name), clip / loss_weight, learning_rate,
               tensor.dimensions == 2 ? kWeightDecay : 0);
    }
    ExpectStates(session, states);
  }
}

TEST(LionTest, WithoutClipping) {
  RunLion(LlamaShape(), 0);
}
TEST(LionTest, Clipped) {
  RunLion(LlamaShape(), 0.25);
}
TEST(LionTest, TiedAndClipped) {
  LlamaShape shape;
  shape.tied = true;
  RunLion(shape, 0.25);
}
TEST(LionTest, BiasesAndQkNorms) {
  for (const LlamaShape& shape : {Qwen2Shape(), Qwen3Shape(), BiasedShape()}) RunLion(shape, 0.25);
}

TEST(LionTest, LossNormalizerReplacesTheSumOfLossWeights) {
  const TestModel model{LlamaShape()};
  TestSession session(model, kLion);
  session.Randomise(9);
  const std::vector<TestBatch> batches = {RandomBatch(96, {25}, 3)};
  ASSERT_EQ(session.TryBegin(1e-3, {}, 1000.0).status, QFT_OK);
  session.Accumulate(batches);
  const double norm = GlobalNorm(session.ReadGradients(), 1e-3);
  const qft_step_result result = session.End();
  EXPECT_NEAR(result.gradient_norm, norm, 1e-6 * norm);
  EXPECT_DOUBLE_EQ(result.loss_weight, 24);
}

// Under fused each step is clipped by the norm of the one before, the first not at all.
TEST(LionTest, FusedClipsByTheStepBefore) {
  const TestModel model{LlamaShape()};
  TestSession session(model, {{"gradients", "fused"}, {"clip_norm", "0.25"}});
  session.Randomise(9);
  double previous = -1;
  for (uint32_t step = 0; step < 3; ++step) {
    const qft_step_result result = session.Step({RandomBatch(96, {25}, step)}, 1e-3);
    const double expected = previous < 0 || previous <= 0.25 ? 1 : 0.25 / previous;
    EXPECT_NEAR(result.clip_factor, expected, 1e-6) << step;
    EXPECT_GT(result.gradient_norm, 0.25);
    previous = result.gradient_norm;
  }
}

}  // namespace
}  // namespace qft
