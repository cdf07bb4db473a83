// Groups of tensors: frozen ones, learning-rate factors, weight decay, and rows that nothing
// touched.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/model/compare.h"
#include "tests/model/session_util.h"

namespace qft {
namespace {

using States = std::map<std::string, std::vector<float>>;

States Weights(TestSession& session) {
  States states;
  for (const TensorEntry& tensor : session.tensors()) {
    states[tensor.name] = session.Read(tensor.name);
  }
  return states;
}

std::vector<TestBatch> Batches(uint32_t step) {
  return {RandomBatch(96, {20, 17}, step), RandomBatch(96, {31}, 100 + step)};
}

void Train(TestSession& session, int steps = 3, double learning_rate = 1e-2) {
  for (int step = 0; step < steps; ++step) {
    session.Step(Batches(static_cast<uint32_t>(step)), learning_rate);
  }
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

struct FrozenCase {
  std::string pattern;
  bool tied;
};

class FrozenTest : public testing::TestWithParam<FrozenCase> {};

INSTANTIATE_TEST_SUITE_P(
    Patterns, FrozenTest,
    testing::Values(FrozenCase{"model.embed_tokens.weight", false},
                    FrozenCase{"model.embed_tokens.weight", true},
                    FrozenCase{"lm_head.weight", false}, FrozenCase{"*norm*", false},
                    FrozenCase{"*norm.weight", true}, FrozenCase{"model.layers.0.*", false},
                    FrozenCase{"model.layers.1.*", true}, FrozenCase{"*.q_proj.weight", false},
                    FrozenCase{"*down_proj*", true}, FrozenCase{"model.layers.*", true}));

std::string WithoutStars(std::string pattern) {
  std::erase(pattern, '*');
  return pattern;
}

TEST_P(FrozenTest, KeepsItsBitsWhileTheOthersChange) {
  LlamaShape shape;
  shape.tied = GetParam().tied;
  const TestModel model(shape);
  for (const Settings& settings :
       {Settings{{"gradients", "stack"}}, Settings{{"gradients", "fused"}}, kPlain}) {
    TestSession session(model, settings, {{GetParam().pattern, 1, -1, true}});
    session.Randomise(1);
    const States before = Weights(session);
    Train(session);
    int64_t trained = 0;
    for (const TensorEntry& tensor : model.tensors()) {
      const bool frozen = Contains(tensor.name, WithoutStars(GetParam().pattern));
      EXPECT_EQ(session.Read(tensor.name) == before.at(tensor.name), frozen) << tensor.name;
      EXPECT_EQ(session.TryRead(tensor.name, QFT_TENSOR_MOMENTUM).status,
                frozen ? QFT_ERROR_STATE : QFT_OK)
          << tensor.name;
      if (!frozen) trained += tensor.rows * tensor.cols;
    }
    EXPECT_EQ(session.Metrics().parameters_trained, trained);
    EXPECT_LT(trained, session.Metrics().parameters);
  }
}

// Freezing one tensor does not change the gradients of the others.
TEST_P(FrozenTest, OtherGradientsAreTheSame) {
  LlamaShape shape;
  shape.tied = GetParam().tied;
  const TestModel model(shape);
  TestSession all(model), some(model, {}, {{GetParam().pattern, 1, -1, true}});
  all.Randomise(1);
  some.Randomise(1);
  const auto expected = all.Gradients(Batches(0));
  some.Begin(0);
  some.Accumulate(Batches(0));
  for (const TensorEntry& tensor : model.tensors()) {
    if (Contains(tensor.name, WithoutStars(GetParam().pattern))) {
      EXPECT_EQ(some.TryRead(tensor.name, QFT_TENSOR_GRADIENT).status, QFT_ERROR_STATE);
    } else {
      EXPECT_EQ(some.Read(tensor.name, QFT_TENSOR_GRADIENT), expected.at(tensor.name))
          << tensor.name;
    }
  }
}

TEST(GroupsTest, OnlyTheHeadTrains) {
  const TestModel model{LlamaShape()};
  TestSession session(model, {}, {{"*", 1, -1, true}, {"lm_head.weight", 1, -1, false}});
  session.Randomise(1);
  const States before = Weights(session);
  Train(session);
  for (const TensorEntry& tensor : model.tensors()) {
    EXPECT_EQ(session.Read(tensor.name) != before.at(tensor.name), tensor.name == "lm_head.weight")
        << tensor.name;
  }
}

TEST(GroupsTest, NothingTrains) {
  const TestModel model{LlamaShape()};
  TestSession session(model, {}, {{"*", 1, -1, true}});
  const std::string hash = session.Hash();
  Train(session);
  EXPECT_EQ(session.Hash(), hash);
  EXPECT_EQ(session.Metrics().parameters_trained, 0);
}

TEST(GroupsTest, LearningRateFactors) {
  const TestModel model{LlamaShape()};
  const std::vector<Group> groups = {{"*.q_proj.weight", 0}, {"*.k_proj.weight", 0.5}};
  TestSession session(model, kPlain, groups);
  session.Randomise(1);
  const States before = Weights(session);
  session.Step(Batches(0), 1e-2, {1.0, 4.0});
  for (const TensorEntry& tensor : model.tensors()) {
    double expected = 1e-2;
    if (Contains(tensor.name, "q_proj")) expected = 0;
    if (Contains(tensor.name, "k_proj")) expected = 2e-2;
    EXPECT_NEAR(LargestDifference(session.Read(tensor.name), before.at(tensor.name)), expected,
                1e-6)
        << tensor.name;
  }
  EXPECT_EQ(session.TryBegin(1e-2, {1.0}).status, QFT_ERROR_SHAPE);
  EXPECT_EQ(session.TryBegin(1e-2, {1.0, -1.0}).status, QFT_ERROR_OUT_OF_RANGE);
}

TEST(GroupsTest, FactorZeroKeepsTheBitsOfInt8Weights) {
  const TestModel model{LlamaShape()};
  TestSession session(model, {{"weight_decay", "0.5"}}, {{"*", 0}});
  session.Randomise(1);
  const States before = Weights(session);
  const std::string hash = session.Hash();
  Train(session);
  EXPECT_EQ(Weights(session), before);
  EXPECT_NE(session.Hash(), hash) << "the momentum goes on";
}

TEST(GroupsTest, LaterGroupsWin) {
  const TestModel model{LlamaShape()};
  TestSession session(model, kPlain, {{"*", 0}, {"model.layers.1.*", 1}});
  session.Randomise(1);
  const States before = Weights(session);
  Train(session, 1);
  for (const TensorEntry& tensor : model.tensors()) {
    EXPECT_EQ(session.Read(tensor.name) != before.at(tensor.name),
              Contains(tensor.name, "layers.1."))
        << tensor.name;
  }
}

TEST(GroupsTest, APatternThatMatchesNothingIsRefused) {
  const TestModel model{LlamaShape()};
  const Outcome outcome = TryOpen(model, {}, {{"*.bias", 1, -1, true}});
  EXPECT_EQ(outcome.status, QFT_ERROR_NOT_FOUND);
  EXPECT_TRUE(Contains(outcome.message, "*.bias"));
}

// Without loss the gradient is 0, so that the decay stands alone.
States AfterDecayOnly(TestSession& session) {
  TestBatch batch = RandomBatch(96, {20}, 1);
  batch.targets.assign(batch.tokens.size(), -1);
  session.Step({batch}, 0.1);
  return Weights(session);
}

TEST(GroupsTest, WeightDecayShrinksMatricesOnly) {
  const TestModel model{LlamaShape()};
  TestSession session(model, kPlain + Settings{{"weight_decay", "0.5"}});
  session.Randomise(1);
  const States before = Weights(session);
  const States after = AfterDecayOnly(session);
  for (const TensorEntry& tensor : model.tensors()) {
    const double keeps = tensor.dimensions == 2 ? 0.95 : 1;
    for (size_t i = 0; i < before.at(tensor.name).size(); ++i) {
      ASSERT_NEAR(after.at(tensor.name)[i], keeps * before.at(tensor.name)[i], 1e-6) << tensor.name;
    }
  }
}

TEST(GroupsTest, AGroupMayDecayNormsAndSpareMatrices) {
  const TestModel model{LlamaShape()};
  TestSession session(model, kPlain + Settings{{"weight_decay", "0.5"}},
                      {{"model.norm.weight", 1, 0.2}, {"*.q_proj.weight", 1, 0}});
  session.Randomise(1);
  const States before = Weights(session);
  const States after = AfterDecayOnly(session);
  const auto ratio = [&](const std::string& name) {
    return after.at(name)[0] / before.at(name)[0];
  };
  EXPECT_NEAR(ratio("model.norm.weight"), 0.98, 1e-6);
  EXPECT_NEAR(ratio("model.layers.0.self_attn.q_proj.weight"), 1, 1e-7);
  EXPECT_NEAR(ratio("model.layers.0.self_attn.k_proj.weight"), 0.95, 1e-6);
}

TEST(GroupsTest, UntouchedEmbeddingRowsKeepTheirBits) {
  const TestModel model{LlamaShape()};
  const std::string name = "model.embed_tokens.weight";
  for (const char* accumulation : {"vertical", "horizontal"}) {
    TestSession session(model, {{"accumulation", accumulation}});
    session.Randomise(1);
    const std::vector<int8_t> before = session.ReadCodes(name);
    const std::vector<float> grid = session.Read(name, QFT_TENSOR_GRID);
    std::vector<bool> touched(96, false);
    for (uint32_t step = 0; step < 4; ++step) {
      TestBatch batch = RandomBatch(40, {30}, step);
      for (int32_t& token : batch.tokens) token *= 2;
      for (const int32_t token : batch.tokens) touched[static_cast<size_t>(token)] = true;
      session.Step({batch, batch}, 5e-2);
    }
    const std::vector<int8_t> after = session.ReadCodes(name);
    const std::vector<float> new_grid = session.Read(name, QFT_TENSOR_GRID);
    for (size_t row = 0; row < 96; ++row) {
      const auto begin = static_cast<ptrdiff_t>(row * 32);
      const bool same =
          std::equal(before.begin() + begin, before.begin() + begin + 32, after.begin() + begin) &&
          grid[row] == new_grid[row];
      EXPECT_EQ(same, !touched[row]) << row;
    }
  }
}

}  // namespace
}  // namespace qft
