// A checkpoint is loaded by sessions that hold, order and compute in other ways than the one that
// saved it, and they go on with the bits of the one that was never interrupted.
#include <gtest/gtest.h>

#include "tests/model/session_util.h"

namespace qft {
namespace {

struct Way {
  const char* name;
  Settings settings;
};

// What may change between two sessions of one run, and does not matter to a new one.
std::vector<Way> Ways() {
  return {
      {"stack", {{"gradients", "stack"}, {"recompute", "never"}, {"threads", "1"}}},
      {"fused", {{"gradients", "fused"}, {"recompute", "never"}, {"threads", "3"}}},
      {"recomputed", {{"gradients", "stack"}, {"recompute", "always"}}},
      {"fused and recomputed", {{"gradients", "fused"}, {"recompute", "always"}}},
  };
}

// A new session chooses critical features by micro_batch_tokens tokens, and has the seed it was
// given; one that loads takes both from the checkpoint.
std::vector<Way> WaysToGoOn() {
  std::vector<Way> ways = Ways();
  ways.push_back(
      {"larger plan", {{"micro_batch_tokens", "200"}, {"micro_batches", "7"}, {"seed", "9"}}});
  return ways;
}

LlamaShape Tied() {
  LlamaShape shape;
  shape.tied = true;
  return shape;
}

std::vector<std::string> Train(TestSession& session, uint32_t begin, uint32_t end) {
  std::vector<std::string> hashes;
  const int vocabulary = session.model().shape().vocabulary;
  for (uint32_t step = begin; step < end; ++step) {
    session.Step(
        {RandomBatch(vocabulary, {20, 30}, step), RandomBatch(vocabulary, {40}, 50 + step)}, 2e-3);
    hashes.push_back(session.Hash());
  }
  return hashes;
}

class CheckpointWaysTest : public testing::TestWithParam<Settings> {};

INSTANTIATE_TEST_SUITE_P(States, CheckpointWaysTest,
                         testing::Values(Settings{}, kPlain,
                                         Settings{{"residual_bits", "0"},
                                                  {"critical_features", "0"}}));

TEST_P(CheckpointWaysTest, AnyWayGoesOnFromAnyOther) {
  for (const LlamaShape& shape : {LlamaShape(), Tied()}) {
    const TestModel model(shape);
    const TestModel other(shape, 2);
    // Fused clips by the norm of the step before: without clipping it has the bits of the stack.
    const Settings kind = GetParam() + Settings{{"clip_norm", "0"}};
    TestSession uninterrupted(model, kind);
    uninterrupted.Randomise(1);
    const std::vector<std::string> expected = Train(uninterrupted, 0, 4);
    for (const Way& saver : Ways()) {
      const TemporaryFolder folder;
      {
        TestSession session(model, kind + saver.settings);
        session.Randomise(1);
        ASSERT_EQ(Train(session, 0, 2).back(), expected[1]) << saver.name;
        session.Save(folder.Path());
      }
      for (const Way& loader : WaysToGoOn()) {
        TestSession session(other, kind + loader.settings);
        EXPECT_EQ(session.Restore(folder.Path()), "");
        EXPECT_EQ(session.Hash(), expected[1]) << saver.name << ", then " << loader.name;
        EXPECT_EQ(Train(session, 2, 4), (std::vector<std::string>{expected[2], expected[3]}))
            << saver.name << ", then " << loader.name;
      }
    }
  }
}

// The norm that fused clips by comes from the stack's last step.
TEST(CheckpointClipping, FusedGoesOnWithTheNormOfTheStack) {
  const TestModel model{LlamaShape()};
  const TemporaryFolder folder;
  const TestBatch batch = RandomBatch(96, {40}, 1);
  double norm = 0;
  {
    TestSession stack(model, {{"gradients", "stack"}});
    stack.Randomise(1);
    norm = stack.Step({batch}, 1e-3).gradient_norm;
    stack.Save(folder.Path());
  }
  TestSession fused(model, {{"gradients", "fused"}, {"clip_norm", std::to_string(norm / 4)}});
  fused.Restore(folder.Path());
  EXPECT_NEAR(fused.Step({batch}, 1e-3).clip_factor, 0.25, 1e-4);
}

// The states of one engine are those of the other; where there is only one, nothing can be
// compared.
TEST(CheckpointEngines, EachLoadsWhatTheOtherSaved) {
  if (!OnGpu()) GTEST_SKIP() << "needs QFT_TEST_ENGINE=cuda";
  const TestModel model{LlamaShape()};
  const TestModel other(LlamaShape(), 2);
  const char* engines[] = {"cpu", "cuda"};
  for (const Settings& kind :
       {Settings(), kPlain, Settings{{"residual_bits", "0"}, {"critical_features", "0"}}}) {
    for (const int from : {0, 1}) {
      const TemporaryFolder folder;
      TestSession saver(model, kind + Settings{{"engine", engines[from]}});
      saver.Randomise(1);
      Train(saver, 0, 2);
      saver.Save(folder.Path());
      TestSession loader(other, kind + Settings{{"engine", engines[1 - from]}});
      EXPECT_EQ(loader.Restore(folder.Path()), "");
      EXPECT_EQ(loader.Hash(), saver.Hash()) << engines[from];
      for (const TensorEntry& tensor : model.tensors()) {
        for (const int32_t what : {QFT_TENSOR_WEIGHT, QFT_TENSOR_MOMENTUM}) {
          EXPECT_EQ(loader.Read(tensor.name, what), saver.Read(tensor.name, what)) << tensor.name;
        }
      }
    }
  }
}

}  // namespace
}  // namespace qft
