// Calls in the wrong order and arguments out of range: refused, and without a trace.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/model/session_util.h"

namespace qft {
namespace {

class MisuseTest : public testing::Test {
 protected:
  MisuseTest() : model_(LlamaShape()), session_(model_), batch_(RandomBatch(96, {30}, 1)) {
    session_.Randomise(1);
  }

  // What may not be called while a step is open.
  void RefuseAll() {
    EXPECT_EQ(session_.TryEvaluate({batch_}).status, QFT_ERROR_STATE);
    EXPECT_EQ(session_.TryBegin(1e-1).status, QFT_ERROR_STATE);
    EXPECT_EQ(session_.TryStep({batch_}, 1e-1).status, QFT_ERROR_STATE);
    EXPECT_THROW(session_.Forward(batch_), std::runtime_error);
    EXPECT_THROW(session_.Write("model.norm.weight", std::vector<float>(32)), std::runtime_error);
    const TemporaryFolder folder;
    EXPECT_THROW(session_.Save(folder.Path()), std::runtime_error);
  }

  TestModel model_;
  TestSession session_;
  TestBatch batch_;
};

TEST_F(MisuseTest, CallsOutOfOrder) {
  EXPECT_EQ(session_.TryAccumulate({batch_}).status, QFT_ERROR_STATE);
  EXPECT_EQ(session_.TryEnd().status, QFT_ERROR_STATE);
  EXPECT_EQ(session_.TryAbandon().status, QFT_ERROR_STATE);
  session_.Begin(1e-3);
  EXPECT_EQ(session_.TryBegin(1e-3).status, QFT_ERROR_STATE);
  EXPECT_EQ(session_.TryEnd().status, QFT_ERROR_STATE) << "nothing was accumulated";
  session_.Accumulate({batch_});
  EXPECT_EQ(session_.TryAccumulate({batch_}).status, QFT_ERROR_STATE)
      << "vertical takes all micro-batches at once";
  session_.End();
  EXPECT_EQ(session_.TryEnd().status, QFT_ERROR_STATE);
  EXPECT_EQ(session_.Metrics().step, 1);
}

// What is refused during an open step must not disturb it.
TEST_F(MisuseTest, RefusedCallsLeaveTheOpenStepAsItIs) {
  TestSession undisturbed(model_);
  undisturbed.Randomise(1);
  const qft_step_result expected = undisturbed.Step({batch_}, 1e-3);

  TestBatch bad = batch_;
  bad.tokens[3] = 96;
  session_.Begin(1e-3);
  RefuseAll();
  EXPECT_EQ(session_.TryAccumulate({batch_, bad}).status, QFT_ERROR_OUT_OF_RANGE);
  session_.Accumulate({batch_});
  RefuseAll();
  const qft_step_result result = session_.End();
  EXPECT_EQ(result.loss, expected.loss);
  EXPECT_EQ(result.gradient_norm, expected.gradient_norm);
  EXPECT_EQ(session_.Hash(), undisturbed.Hash());
}

TEST_F(MisuseTest, ArgumentsOutOfRange) {
  const std::string hash = session_.Hash();
  for (const double learning_rate : {-1e-9, 1.5, std::nan(""), HUGE_VAL}) {
    EXPECT_EQ(session_.TryBegin(learning_rate).status, QFT_ERROR_OUT_OF_RANGE) << learning_rate;
  }
  for (const double normalizer : {-1.0, std::nan(""), HUGE_VAL}) {
    EXPECT_EQ(session_.TryBegin(1e-3, {}, normalizer).status, QFT_ERROR_OUT_OF_RANGE);
  }
  const auto expect_refused = [&](const TestBatch& batch) {
    EXPECT_EQ(session_.TryStep({batch_, batch}, 1e-3).status, QFT_ERROR_OUT_OF_RANGE);
    EXPECT_EQ(session_.TryEvaluate({batch}).status, QFT_ERROR_OUT_OF_RANGE);
  };
  TestBatch batch = batch_;
  batch.tokens[29] = -1;
  expect_refused(batch);
  batch.tokens[29] = 96;
  expect_refused(batch);
  batch = batch_;
  batch.targets.assign(30, 5);
  batch.targets[7] = 96;
  expect_refused(batch);
  batch.targets[7] = -2;
  expect_refused(batch);
  for (const float weight : {-1.0f, std::nanf(""), HUGE_VALF}) {
    batch = batch_;
    batch.weights.assign(30, 1.0f);
    batch.weights[4] = weight;
    expect_refused(batch);
  }
  expect_refused(RandomBatch(96, {65}, 1));
  EXPECT_EQ(session_.TryStep(std::vector<TestBatch>(5, batch_), 1e-3).status,
            QFT_ERROR_OUT_OF_RANGE);
  EXPECT_EQ(session_.Hash(), hash);
  EXPECT_EQ(session_.Step({batch_}, 1e-3).step, 1) << "the session goes on";
}

TEST_F(MisuseTest, FusedCannotTakeAnUpdateBack) {
  TestSession fused(model_, {{"gradients", "fused"}});
  fused.Begin(1e-3);
  EXPECT_EQ(fused.TryAbandon().status, QFT_OK);
  fused.Begin(1e-3);
  fused.Accumulate({batch_});
  EXPECT_EQ(fused.TryAbandon().status, QFT_ERROR_STATE);
  EXPECT_EQ(fused.TryAccumulate({batch_}).status, QFT_ERROR_STATE);
  EXPECT_EQ(fused.TryRead("model.norm.weight", QFT_TENSOR_GRADIENT).status, QFT_ERROR_STATE);
  EXPECT_EQ(fused.End().step, 1);
}

TEST_F(MisuseTest, SettingsThatDoNotGoTogether) {
  EXPECT_EQ(TryOpen(model_, {{"states", "fp32"}}).status, QFT_ERROR_UNSUPPORTED);
  EXPECT_EQ(TryOpen(model_, {{"gradients", "fused"}, {"accumulation", "horizontal"}}).status,
            QFT_ERROR_UNSUPPORTED);
}

TEST_F(MisuseTest, TensorsThatAreNotThere) {
  EXPECT_EQ(session_.TryRead("model.norm.weight", QFT_TENSOR_GRADIENT).status, QFT_ERROR_STATE);
  EXPECT_EQ(session_.TryRead("model.norm.weight", QFT_TENSOR_GRID).status, QFT_ERROR_STATE)
      << "norms have no grid";
  std::vector<float> values(32, 1.0f);
  values[5] = std::nanf("");
  EXPECT_THROW(session_.Write("model.norm.weight", values), std::runtime_error);
  EXPECT_EQ(session_.Read("model.norm.weight")[5],
            session_.Reference().weights.at("model.norm.weight")[5]);
}

}  // namespace
}  // namespace qft
