// What must not change a bit: threads, recompute, repetition, interruption, where gradients wait,
// where momentum lives and the order of a single micro-batch. Compared are all states, by their
// hash, and the losses.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "tests/model/compare.h"
#include "tests/model/session_util.h"

namespace qft {
namespace {

std::vector<TestBatch> BatchesOf(int vocabulary, uint32_t step) {
  TestBatch weighted = RandomBatch(vocabulary, {25, 12}, 100 + step);
  weighted.weights.assign(weighted.tokens.size(), 0.5f);
  return {RandomBatch(vocabulary, {20, 30, 14}, step), weighted,
          RandomBatch(vocabulary, {33}, 200 + step)};
}

struct Trace {
  std::vector<std::string> hashes;
  std::vector<double> losses;
  std::vector<double> norms;
  bool operator==(const Trace&) const = default;
};

// Looking at states makes updates that wait for the next step's forward pass happen: kAtTheEnd lets
// them wait.
enum class Look { kAfterEachStep, kAtTheEnd };

Trace Train(TestSession& session, uint32_t begin, uint32_t end, size_t micro_batches = 3,
            Look look = Look::kAfterEachStep) {
  Trace trace;
  for (uint32_t step = begin; step < end; ++step) {
    std::vector<TestBatch> batches = BatchesOf(session.model().shape().vocabulary, step);
    batches.resize(micro_batches);
    const qft_step_result result = session.Step(batches, 2e-3);
    if (look == Look::kAfterEachStep || step + 1 == end) trace.hashes.push_back(session.Hash());
    trace.losses.push_back(result.loss);
    trace.norms.push_back(result.gradient_norm);
  }
  return trace;
}

Trace TrainNew(const TestModel& model, const Settings& settings, size_t micro_batches = 3,
               Look look = Look::kAfterEachStep) {
  TestSession session(model, settings);
  session.Randomise(1);
  return Train(session, 0, 3, micro_batches, look);
}

LlamaShape TwoChunks() {
  LlamaShape shape;
  shape.vocabulary = 8200;
  shape.hidden = 16;
  shape.layers = 1;
  shape.tied = true;
  return shape;
}

LlamaShape Tied() {
  LlamaShape shape;
  shape.tied = true;
  return shape;
}

// Wide enough for two critical features in each operand.
LlamaShape Wide() {
  LlamaShape shape;
  shape.hidden = 64;
  shape.inner = 80;
  shape.head_dim = 16;
  return shape;
}

std::vector<LlamaShape> Shapes() {
  return {LlamaShape(), Tied(),        TwoChunks(),    Wide(),          Qwen2Shape(),
          Qwen3Shape(), BiasedShape(), SmolLm3Shape(), HeadDim10Shape()};
}

class SameBitsTest : public testing::TestWithParam<size_t> {
 protected:
  SameBitsTest() : model_(Shapes()[GetParam()]) {}
  TestModel model_;
};

INSTANTIATE_TEST_SUITE_P(Shapes, SameBitsTest, testing::Range<size_t>(0, Shapes().size()));

TEST_P(SameBitsTest, StepsChangeEverythingTheyShould) {
  const Trace trace = TrainNew(model_, {});
  EXPECT_NE(trace.hashes[0], trace.hashes[1]);
  EXPECT_NE(trace.hashes[1], trace.hashes[2]);
}

TEST_P(SameBitsTest, AnyNumberOfThreads) {
  for (const Settings& kind : {Settings(), kPlain}) {
    const Trace one = TrainNew(model_, kind + Settings{{"threads", "1"}});
    for (const char* threads : {"2", "3"}) {
      EXPECT_EQ(TrainNew(model_, kind + Settings{{"threads", threads}}), one) << threads;
    }
  }
}

// All blocks, and what a memory limit asks for.
TEST_P(SameBitsTest, Recomputed) {
  for (const char* accumulation : {"vertical", "horizontal"}) {
    const Settings order = {{"accumulation", accumulation}, {"gradients", "stack"}};
    const auto total = [&](const char* recompute) {
      return TestSession(model_, order + Settings{{"recompute", recompute}}).Metrics().total_bytes;
    };
    const int64_t most = total("never");
    const int64_t least = total("always");
    const Trace kept = TrainNew(model_, order + Settings{{"recompute", "never"}});
    EXPECT_EQ(TrainNew(model_, order + Settings{{"recompute", "always"}}), kept) << accumulation;
    if (OnGpu()) continue;  // a device's limit counts what others have of it
    for (const int64_t limit : {std::max(most - 1, least), least + (most - least) * 3 / 4,
                                (most + least) / 2, least + (most - least) / 4, least}) {
      EXPECT_EQ(TrainNew(model_, order + Settings{{"memory_limit", std::to_string(limit)}}), kept)
          << accumulation << ", " << limit;
    }
  }
}

TEST_P(SameBitsTest, Repeated) {
  for (const char* accumulation : {"vertical", "horizontal"}) {
    const Settings settings = {{"accumulation", accumulation}};
    EXPECT_EQ(TrainNew(model_, settings), TrainNew(model_, settings));
  }
}

TEST_P(SameBitsTest, StackAndFusedWithoutClipping) {
  for (const Settings& kind : {Settings(), kPlain, Settings{{"recompute", "always"}}}) {
    const Settings settings = kind + Settings{{"clip_norm", "0"}};
    const Trace stack = TrainNew(model_, settings + Settings{{"gradients", "stack"}});
    const Trace fused = TrainNew(model_, settings + Settings{{"gradients", "fused"}});
    EXPECT_EQ(stack.hashes, fused.hashes);
    EXPECT_EQ(stack.losses, fused.losses);
    for (size_t i = 0; i < stack.norms.size(); ++i) {
      EXPECT_NEAR(stack.norms[i], fused.norms[i], 1e-9 * stack.norms[i]);
    }
  }
}

TEST_P(SameBitsTest, OneMicroBatchInEitherOrder) {
  if (OnGpu()) GTEST_SKIP() << "gradients are bf16 where no micro-batches are summed in memory";
  EXPECT_EQ(TrainNew(model_, {{"accumulation", "vertical"}}, 1),
            TrainNew(model_, {{"accumulation", "horizontal"}}, 1));
}

// staging: room for what one update takes, or for all.
std::vector<Settings> MomentumPlaces(const std::string& folder) {
  const Settings nvme = {{"momentum", "nvme"}, {"nvme_folders", folder}};
  return {{{"momentum", "host"}},
          {{"momentum", "host"}, {"staging", "0"}, {"boundaries", "host"}},
          nvme,
          nvme + Settings{{"staging", "0"}, {"nvme_staging", "0"}, {"nvme_backend", "threads"}}};
}

TEST_P(SameBitsTest, WhereverMomentumLives) {
  const TemporaryFolder folder;
  for (const char* gradients : {"stack", "fused"}) {
    for (const char* accumulation : {"vertical", "horizontal"}) {
      const Settings order = {{"gradients", gradients},
                              {"accumulation", accumulation},
                              {"micro_batches", accumulation[0] == 'v' ? "3" : "1"}};
      const size_t micro_batches = accumulation[0] == 'v' ? 3 : 1;
      for (const Look look : {Look::kAfterEachStep, Look::kAtTheEnd}) {
        // Fused updates never wait.
        if (look == Look::kAtTheEnd && gradients[0] == 'f') continue;
        const Trace expected = TrainNew(model_, order, micro_batches, look);
        for (const Settings& place : MomentumPlaces(folder.Path())) {
          EXPECT_EQ(TrainNew(model_, order + place, micro_batches, look), expected)
              << gradients << ", " << accumulation << ", " << place[0].second;
        }
      }
    }
  }
}

TEST_P(SameBitsTest, WhereverBoundariesWait) {
  for (const char* accumulation : {"vertical", "horizontal"}) {
    for (const char* recompute : {"never", "always"}) {
      const Settings order = {{"accumulation", accumulation}, {"recompute", recompute}};
      EXPECT_EQ(TrainNew(model_, order + Settings{{"boundaries", "host"}}), TrainNew(model_, order))
          << accumulation << ", " << recompute;
    }
  }
}

TEST(MomentumPlaceTest, FiftySteps) {
  const TemporaryFolder folder;
  const TestModel model(Wide());
  TestSession device(model);
  device.Randomise(1);
  const Trace expected = Train(device, 0, 50, 3, Look::kAtTheEnd);
  for (const Settings& place : MomentumPlaces(folder.Path())) {
    TestSession session(model, place);
    session.Randomise(1);
    EXPECT_EQ(Train(session, 0, 50, 3, Look::kAtTheEnd), expected) << place[0].second;
  }
}

// A checkpoint says nothing of where momentum lived.
TEST(MomentumPlaceTest, ChangedByACheckpoint) {
  const TemporaryFolder folder;
  const TestModel model(Wide());
  std::vector<Settings> places = MomentumPlaces(folder.Path());
  places.push_back({{"momentum", "device"}});
  TestSession uninterrupted(model);
  uninterrupted.Randomise(1);
  Train(uninterrupted, 0, 3);
  const Trace expected = Train(uninterrupted, 3, 6);
  for (size_t i = 0; i < places.size(); ++i) {
    const std::string saved = folder.Path("from" + std::to_string(i));
    {
      TestSession first(model, places[i]);
      first.Randomise(1);
      Train(first, 0, 3);
      first.Save(saved);
    }
    for (const Settings& place : places) {
      TestSession second(model, place);
      EXPECT_EQ(second.Restore(saved), "");
      EXPECT_EQ(Train(second, 3, 6), expected) << i << ", " << place[0].second;
    }
  }
}

TEST(MomentumPlaceTest, ReadsAndWritesReachIt) {
  const TemporaryFolder folder;
  const TestModel model(Wide());
  const std::string name = "model.layers.0.mlp.gate_proj.weight";
  TestSession device(model);
  device.Randomise(1);
  Train(device, 0, 2);
  const std::vector<float> momentum = device.Read(name, QFT_TENSOR_MOMENTUM);
  std::vector<float> doubled = momentum;
  for (float& value : doubled) value *= 2;
  device.Write(name, doubled, QFT_TENSOR_MOMENTUM);
  const Trace expected = Train(device, 2, 4);
  for (const Settings& place : MomentumPlaces(folder.Path())) {
    TestSession session(model, place);
    session.Randomise(1);
    Train(session, 0, 2);
    EXPECT_EQ(session.Read(name, QFT_TENSOR_MOMENTUM), momentum);
    session.Write(name, doubled, QFT_TENSOR_MOMENTUM);
    EXPECT_EQ(Train(session, 2, 4), expected) << place[0].second;
  }
}

// Its momentum may be on the way still.
TEST(MomentumPlaceTest, WritesAfterAnAbandonedStepReachIt) {
  const TemporaryFolder folder;
  const TestModel model(Wide());
  const std::string name = "model.layers.0.mlp.gate_proj.weight";
  const auto train = [&](TestSession& session) {
    session.Randomise(1);
    Train(session, 0, 2);
    std::vector<float> values = session.Read(name, QFT_TENSOR_MOMENTUM);
    for (float& value : values) value *= 2;
    session.Begin(2e-3);
    EXPECT_EQ(session.TryAbandon().status, QFT_OK);
    session.Write(name, values, QFT_TENSOR_MOMENTUM);
    return Train(session, 2, 4);
  };
  TestSession device(model);
  const Trace expected = train(device);
  for (const Settings& place : MomentumPlaces(folder.Path())) {
    TestSession session(model, place);
    EXPECT_EQ(train(session), expected) << place[0].second;
  }
}

TEST(MomentumPlaceTest, AnAbandonedStepLeavesNoTrace) {
  const TemporaryFolder folder;
  const TestModel model(Wide());
  const Trace expected = TrainNew(model, {});
  for (const Settings& place : MomentumPlaces(folder.Path())) {
    TestSession session(model, place);
    session.Randomise(1);
    session.Begin(1e-2);
    session.Accumulate(BatchesOf(model.shape().vocabulary, 60));
    ASSERT_EQ(session.TryAbandon().status, QFT_OK);
    EXPECT_EQ(Train(session, 0, 3), expected) << place[0].second;
  }
}

// Everything but a step finds the updates done that still waited for one.
TEST(LateUpdatesTest, WhateverLooksAtStatesFindsThem) {
  const TemporaryFolder folder;
  const TestModel model(Wide());
  const std::string name = "model.layers.0.mlp.gate_proj.weight";
  const std::vector<TestBatch> batches = BatchesOf(model.shape().vocabulary, 90);
  const auto look = [&](TestSession& session, const std::string& saved) {
    std::vector<std::vector<float>> seen;
    session.Step(BatchesOf(model.shape().vocabulary, 0), 2e-3);
    seen.push_back({static_cast<float>(session.Evaluate(batches).loss)});
    session.Step(BatchesOf(model.shape().vocabulary, 1), 2e-3);
    seen.push_back(session.Forward(batches[0]));
    session.Step(BatchesOf(model.shape().vocabulary, 2), 2e-3);
    seen.push_back(session.Read(name, QFT_TENSOR_WEIGHT));
    session.Step(BatchesOf(model.shape().vocabulary, 3), 2e-3);
    session.Begin(1e-3);
    seen.push_back(session.Read(name, QFT_TENSOR_MOMENTUM));
    EXPECT_EQ(session.TryAbandon().status, QFT_OK);
    session.Step(BatchesOf(model.shape().vocabulary, 4), 2e-3);
    session.Begin(1e-3);
    EXPECT_EQ(session.TryAbandon().status, QFT_OK);
    session.Step(BatchesOf(model.shape().vocabulary, 5), 2e-3);
    session.Begin(1e-3);
    session.Accumulate(BatchesOf(model.shape().vocabulary, 6));
    EXPECT_EQ(session.TryAbandon().status, QFT_OK);
    session.Step(BatchesOf(model.shape().vocabulary, 7), 2e-3);
    session.Save(saved);
    TestSession resumed(model);
    EXPECT_EQ(resumed.Restore(saved), "");
    session.Step(BatchesOf(model.shape().vocabulary, 8), 2e-3);
    resumed.Step(BatchesOf(model.shape().vocabulary, 8), 2e-3);
    EXPECT_EQ(session.Hash(), resumed.Hash());
    return seen;
  };
  TestSession device(model);
  device.Randomise(1);
  const auto expected = look(device, folder.Path("device"));
  for (const Settings& place : MomentumPlaces(folder.Path())) {
    TestSession session(model, place);
    session.Randomise(1);
    EXPECT_EQ(look(session, folder.Path(place[0].second)), expected) << place[0].second;
    EXPECT_EQ(session.Hash(), device.Hash());
  }
}

// Of the updates that a step finds done, and none is counted twice.
TEST(LateUpdatesTest, CountsComeWithTheNextResult) {
  const TestModel model(Wide());
  const auto counts = [&](const Settings& settings) {
    TestSession session(model, settings);
    session.Randomise(1);
    std::vector<std::array<double, 3>> found;
    for (uint32_t step = 0; step < 6; ++step) {
      const qft_step_result result = session.Step(BatchesOf(model.shape().vocabulary, step), 2e-3);
      found.push_back({static_cast<double>(result.codes_changed),
                       static_cast<double>(result.rows_grown), result.rounding_walk});
      if (step == 2) session.Hash();
    }
    return found;
  };
  const auto at_once = counts({});
  const auto late = counts({{"momentum", "host"}, {"gradients", "stack"}});
  EXPECT_EQ(late[0], (std::array<double, 3>{}));
  for (size_t step = 1; step < late.size(); ++step) EXPECT_EQ(late[step], at_once[step - 1]);
  EXPECT_GT(at_once[0][0], 0);
}

TEST(MomentumPlaceTest, WhatCannotBeIsSaid) {
  const TemporaryFolder folder;
  const TestModel model(Wide());
  const Settings nvme = {{"momentum", "nvme"}, {"nvme_folders", folder.Path()}};
  EXPECT_EQ(TryOpen(model, {{"momentum", "nvme"}}).status, QFT_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(TryOpen(model, kPlain + Settings{{"momentum", "host"}}).status, QFT_ERROR_UNSUPPORTED);
  EXPECT_EQ(TryOpen(model, nvme + Settings{{"snapshot", "host"}}).status, QFT_ERROR_UNSUPPORTED);
  const Outcome absent =
      TryOpen(model, {{"momentum", "nvme"}, {"nvme_folders", folder.Path("none")}});
  EXPECT_EQ(absent.status, QFT_ERROR_FILE_NOT_FOUND) << absent.message;
  EXPECT_NE(absent.message.find("none"), std::string::npos) << absent.message;
}

TEST_P(SameBitsTest, InterruptedByACheckpoint) {
  for (const char* gradients : {"stack", "fused"}) {
    // Clipped, so that the norm of the step before, which fused uses, must survive too.
    const Settings settings = {{"gradients", gradients}, {"clip_norm", "0.1"}};
    TestSession uninterrupted(model_, settings);
    uninterrupted.Randomise(1);
    Train(uninterrupted, 0, 3);
    const Trace expected = Train(uninterrupted, 3, 6);

    const TemporaryFolder folder;
    {
      TestSession first(model_, settings);
      first.Randomise(1);
      Train(first, 0, 3);
      first.Save(folder.Path());
    }
    // All comes from the checkpoint: weights, what is critical, and the seed.
    const TestModel other(model_.shape(), 2);
    TestSession second(other, settings + Settings{{"seed", "77"}, {"threads", "1"}});
    EXPECT_EQ(second.Restore(folder.Path()), "");
    EXPECT_EQ(second.Metrics().step, 3);
    EXPECT_EQ(Train(second, 3, 6), expected) << gradients;
  }
}

TEST_P(SameBitsTest, AnAbandonedStepAndAnEvaluationLeaveNoTrace) {
  const Trace expected = TrainNew(model_, {});
  TestSession session(model_);
  session.Randomise(1);
  session.Evaluate(BatchesOf(model_.shape().vocabulary, 50));
  Train(session, 0, 1);
  const std::string hash = session.Hash();
  session.Begin(1e-2);
  session.Accumulate(BatchesOf(model_.shape().vocabulary, 60));
  ASSERT_EQ(session.TryAbandon().status, QFT_OK);
  session.Begin(1e-2);
  ASSERT_EQ(session.TryAbandon().status, QFT_OK);
  session.Forward(BatchesOf(model_.shape().vocabulary, 70)[0]);
  EXPECT_EQ(session.Hash(), hash);
  EXPECT_EQ(Train(session, 1, 3).hashes,
            std::vector<std::string>(expected.hashes.begin() + 1, expected.hashes.end()));
}

TEST(DifferentBitsTest, AnotherSeed) {
  const TestModel model{LlamaShape()};
  const Trace zero = TrainNew(model, {});
  const Trace one = TrainNew(model, {{"seed", "1"}});
  EXPECT_NE(zero.hashes[0], one.hashes[0]);
  EXPECT_EQ(zero.losses[0], one.losses[0]);
  EXPECT_NE(zero.losses[2], one.losses[2]);
}

// The same documents cut into micro-batches at other places: the same gradient but for rounding.
TEST(SplitTest, ChangesOnlyRounding) {
  const TestModel model{LlamaShape()};
  const std::vector<TestBatch> documents = {RandomBatch(96, {21}, 1), RandomBatch(96, {19}, 2),
                                            RandomBatch(96, {24}, 3)};
  TestBatch together;
  for (size_t d = 0; d < documents.size(); ++d) {
    const std::vector<int32_t>& tokens = documents[d].tokens;
    together.tokens.insert(together.tokens.end(), tokens.begin(), tokens.end());
    together.documents.insert(together.documents.end(), tokens.size(), static_cast<int32_t>(d));
  }
  for (const auto& [kind, tolerance] :
       {std::pair<Settings, double>{kPlain, 1e-5}, std::pair<Settings, double>{{}, 0.08}}) {
    TestSession apart(model, kind), whole(model, kind);
    apart.Randomise(1);
    whole.Randomise(1);
    EXPECT_NEAR(apart.Evaluate(documents).loss, whole.Evaluate({together}).loss, 1e-4);
    const auto expected = apart.Gradients(documents);
    for (const auto& [name, gradient] : whole.Gradients({together})) {
      EXPECT_LT(RelativeError(gradient, expected.at(name)), tolerance) << name;
    }
    for (int step = 0; step < 5; ++step) {
      const qft_step_result a = apart.Step(documents, 1e-3);
      const qft_step_result b = whole.Step({together}, 1e-3);
      EXPECT_NEAR(a.loss, b.loss, 0.02 * a.loss);
    }
  }
}

// Documents in one batch, as a data set packs them, some of their tokens not learnt: each token's
// loss has the bits it has when its document is alone, and the gradients are those of the documents
// one after the other, but for the order of sums.
TEST(PackingTest, PackedDocumentsAreAsAlone) {
  const TestModel model{LlamaShape()};
  TestBatch packed = RandomBatch(96, {21, 2, 24, 17}, 9);
  for (size_t t = 0; t < packed.tokens.size(); ++t) {
    packed.weights.push_back(t % 5 < 2 ? 0.0f : 1.0f);
  }
  std::vector<TestBatch> alone(4);
  for (size_t t = 0; t < packed.tokens.size(); ++t) {
    TestBatch& document = alone[static_cast<size_t>(packed.documents[t])];
    document.tokens.push_back(packed.tokens[t]);
    document.weights.push_back(packed.weights[t]);
  }
  for (const auto& [kind, tolerance] :
       {std::pair<Settings, double>{kPlain, 1e-5}, std::pair<Settings, double>{{}, 0.08}}) {
    TestSession apart(model, kind), together(model, kind);
    apart.Randomise(1);
    together.Randomise(1);
    std::vector<float> expected_losses;
    std::vector<float> losses;
    const qft_eval_result expected = apart.Evaluate(alone, &expected_losses);
    const qft_eval_result result = together.Evaluate({packed}, &losses);
    EXPECT_EQ(losses, expected_losses);
    EXPECT_EQ(result.loss_weight, expected.loss_weight);
    EXPECT_NEAR(result.loss, expected.loss, 1e-12 * expected.loss);
    const auto gradients = apart.Gradients(alone);
    for (const auto& [name, gradient] : together.Gradients({packed})) {
      EXPECT_LT(RelativeError(gradient, gradients.at(name)), tolerance) << name;
    }
  }
}

}  // namespace
}  // namespace qft
