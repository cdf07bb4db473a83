// What a training run does: it learns, refuses what cannot work, survives numbers that overflow and
// keeps to its memory limit.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/model/compare.h"
#include "tests/model/session_util.h"

namespace qft {
namespace {

std::vector<TestBatch> Task() {
  return {RandomBatch(96, {40, 24}, 1), RandomBatch(96, {33, 31}, 2)};
}

std::vector<double> Losses(const TestModel& model, const Settings& settings, int steps,
                           double learning_rate) {
  TestSession session(model, settings);
  std::vector<double> losses;
  losses.reserve(static_cast<size_t>(steps) + 1);
  for (int step = 0; step < steps; ++step) {
    losses.push_back(session.Step(Task(), learning_rate).loss);
  }
  losses.push_back(session.Evaluate(Task()).loss);
  return losses;
}

TEST(TrainingTest, LearnsByHeartAndStaysNearFp32) {
  LlamaShape tied;
  tied.tied = true;
  for (const LlamaShape& shape : {LlamaShape(), tied, Qwen2Shape(), Qwen3Shape(), BiasedShape()}) {
    const TestModel model(shape);
    const std::vector<double> plain = Losses(model, kPlain, 100, 2e-3);
    EXPECT_NEAR(plain.front(), std::log(96.0), 0.05);
    EXPECT_LT(plain.back(), 0.5 * plain.front());
    for (const Settings& settings :
         {Settings(), Settings{{"gradients", "fused"}}, Settings{{"accumulation", "horizontal"}},
          Settings{{"arithmetic", "float"}}}) {
      const std::vector<double> losses = Losses(model, settings, 100, 2e-3);
      EXPECT_LT(losses.back(), 0.5 * losses.front());
      // Half way down, where both still learn.
      EXPECT_NEAR(losses[40], plain[40], 0.05 * plain[40]);
      EXPECT_NEAR(losses.back(), plain.back(), 0.05 * plain.front());
    }
  }
}

TEST(RoundingTest, NearestFreezesWhatStochasticMoves) {
  const TestModel model{LlamaShape()};
  constexpr double kSmall = 1e-5;
  const Settings coarse = {{"residual_bits", "0"}, {"critical_features", "0"}};
  TestSession nearest(model, coarse + Settings{{"rounding", "nearest"}});
  TestSession stochastic(model, coarse);
  const auto check = [](TestSession& session, double learning_rate) {
    return Try([&](qft_error** e) {
      return qft_session_check_learning_rate(session.handle(), learning_rate, e);
    });
  };
  const Outcome refused = check(nearest, kSmall);
  EXPECT_EQ(refused.status, QFT_ERROR_OUT_OF_RANGE);
  EXPECT_NE(refused.message.find("stochastic"), std::string::npos) << refused.message;
  EXPECT_EQ(check(nearest, 1e-2).status, QFT_OK);
  EXPECT_EQ(check(stochastic, kSmall).status, QFT_OK);

  int64_t parameters = 0;
  for (const TensorEntry& tensor : model.tensors()) {
    if (tensor.quantised) parameters += tensor.rows * tensor.cols;
  }
  const qft_step_result frozen = nearest.Step(Task(), kSmall);
  EXPECT_EQ(frozen.codes_changed, 0);
  EXPECT_EQ(frozen.codes_total, parameters);
  EXPECT_GT(frozen.updates_lost, parameters / 2);
  const qft_step_result moved = stochastic.Step(Task(), kSmall);
  EXPECT_GT(moved.codes_changed, parameters / 100);
  EXPECT_LT(moved.codes_changed, parameters / 5);
  EXPECT_EQ(moved.updates_lost, 0);
}

// The published recipe: only critical features and norms move, and the lost updates are counted.
TEST(RoundingTest, PaperPresetTrainsWhatIsNotRounded) {
  const TestModel model{LlamaShape()};
  constexpr double kSmall = 1e-5;
  TestSession paper(model, {{"preset", "paper"}});
  EXPECT_EQ(Try([&](qft_error** e) {
              return qft_session_check_learning_rate(paper.handle(), kSmall, e);
            }).status,
            QFT_OK);
  const qft_step_result first = paper.Step(Task(), kSmall);
  EXPECT_EQ(first.codes_changed, 0);
  EXPECT_GT(first.updates_lost, first.codes_total / 2);
  double loss = first.loss;
  for (int step = 0; step < 20; ++step) loss = paper.Step(Task(), kSmall).loss;
  EXPECT_LT(loss, first.loss);
}

// The same step on a grid sixteen times finer: nearest needs a sixteenth of the rate, and rounding
// stochastically walks a quarter as far.
TEST(RoundingTest, ResidualPlaneMakesRoundingFiner) {
  const TestModel model{LlamaShape()};
  double needed[2] = {};
  double walked[2] = {};
  for (const int fine : {0, 1}) {
    const char* bits = fine == 0 ? "0" : "4";
    TestSession nearest(model, {{"rounding", "nearest"}, {"residual_bits", bits}});
    for (double rate = 1e-7; needed[fine] == 0; rate *= 1.02) {
      const Outcome outcome = Try([&](qft_error** e) {
        return qft_session_check_learning_rate(nearest.handle(), rate, e);
      });
      if (outcome.status == QFT_OK) needed[fine] = rate;
    }
    TestSession stochastic(model, {{"residual_bits", bits}});
    double before = 0;
    for (int step = 0; step < 20; ++step) {
      walked[fine] = stochastic.Step(Task(), 1e-7).rounding_walk;
      EXPECT_GT(walked[fine], before);
      before = walked[fine];
    }
  }
  EXPECT_NEAR(needed[0] / needed[1], 16, 1);
  // p (1 - p) with p = rate / step, small: 16 times as often, 1/16 as far.
  EXPECT_NEAR(walked[0] / walked[1], 4, 0.4);
}

TEST(CriticalTest, StartWhereTheyAreWidest) {
  LlamaShape shape;
  shape.hidden = 64;
  shape.inner = 96;
  shape.head_dim = 16;
  const TestModel model(shape);
  for (const char* count : {"0", "4"}) {
    TestSession session(model, {{"critical_features", count}});
    const auto overlap = [&] {
      double share = -1;
      EXPECT_EQ(Try([&](qft_error** e) {
                  return qft_session_get_critical_overlap(session.handle(), &share, e);
                }).status,
                QFT_OK);
      return share;
    };
    if (count[0] == '0') {
      EXPECT_EQ(overlap(), 1.0);
      continue;
    }
    // Chosen without features kept apart, looked at with them.
    EXPECT_GT(overlap(), 0.9);
    session.Randomise(5);
    EXPECT_LT(overlap(), 0.5);
  }
}

// At rate lr on a grid of step s a code moves with probability lr/s.
TEST(RoundingTest, StochasticMovesAsManyCodesAsItShould) {
  const TestModel model{LlamaShape()};
  TestSession session(model, {{"clip_norm", "0"}});
  const std::string name = "model.layers.0.mlp.down_proj.weight";
  const std::vector<int8_t> before = session.ReadCodes(name);
  const std::vector<float> grid = session.Read(name, QFT_TENSOR_GRID);
  constexpr double kRate = 1e-4;
  session.Step(Task(), kRate);
  const std::vector<int8_t> after = session.ReadCodes(name);
  double expected = 0;
  double changed = 0;
  for (size_t i = 0; i < before.size(); ++i) {
    expected += kRate / static_cast<double>(grid[i / 48]);
    changed += before[i] != after[i] ? 1 : 0;
  }
  EXPECT_NEAR(changed, expected, 5 * std::sqrt(expected));
  EXPECT_GT(expected, 200);
}

TEST(NonFiniteTest, StackSkipsTheStep) {
  for (const Settings& settings : {Settings(), kPlain}) {
    const TestModel model{LlamaShape()};
    TestSession session(model, settings + Settings{{"gradients", "stack"}});
    session.Randomise(1);
    session.Step(Task(), 1e-3);
    const std::string hash = session.Hash();
    std::vector<TestBatch> overflowing = Task();
    for (TestBatch& batch : overflowing) batch.weights.assign(64, 3e38f);
    const qft_step_result result = session.Step(overflowing, 1e-3);
    EXPECT_EQ(result.skipped, 1);
    EXPECT_EQ(result.codes_changed, 0);
    EXPECT_EQ(session.Hash(), hash);
    EXPECT_EQ(result.step, 2);
    const qft_step_result next = session.Step(Task(), 1e-3);
    EXPECT_EQ(next.skipped, 0);
    EXPECT_TRUE(std::isfinite(next.loss));
    EXPECT_NE(session.Hash(), hash);
  }
}

TEST(NonFiniteTest, FusedPoisonsTheSession) {
  const TestModel model{LlamaShape()};
  const TemporaryFolder folder;
  TestSession session(model, {{"gradients", "fused"}});
  session.Randomise(1);
  session.Step(Task(), 1e-3);
  session.Save(folder.Path());
  const std::string hash = session.Hash();
  std::vector<TestBatch> overflowing = Task();
  for (TestBatch& batch : overflowing) batch.weights.assign(64, 3e38f);
  EXPECT_EQ(session.TryStep(overflowing, 1e-3).status, QFT_ERROR_NON_FINITE);
  EXPECT_EQ(session.TryStep(Task(), 1e-3).status, QFT_ERROR_POISONED);
  EXPECT_EQ(session.TryEvaluate(Task()).status, QFT_ERROR_POISONED);
  EXPECT_EQ(session.TryRead("model.norm.weight", QFT_TENSOR_WEIGHT).status, QFT_ERROR_POISONED);

  TestSession next(model, {{"gradients", "fused"}});
  next.Restore(folder.Path());
  EXPECT_EQ(next.Hash(), hash);
  EXPECT_EQ(next.TryStep(Task(), 1e-3).status, QFT_OK);
}

// Weights so large that the logits overflow.
TEST(NonFiniteTest, OverflowingWeights) {
  const TestModel model{LlamaShape()};
  TestSession session(model, {{"gradients", "stack"}});
  session.Write("lm_head.weight", std::vector<float>(96 * 32, 3e38f));
  session.Write("model.norm.weight", std::vector<float>(32, 1e30f));
  const std::string hash = session.Hash();
  EXPECT_EQ(session.Step(Task(), 1e-3).skipped, 1);
  EXPECT_EQ(session.Hash(), hash);
}

TEST(MemoryTest, LimitTooSmallNamesTheNeed) {
  const TestModel model{LlamaShape()};
  const Outcome outcome = TryOpen(model, {{"memory_limit", "100000"}});
  EXPECT_EQ(outcome.status, QFT_ERROR_OUT_OF_MEMORY);
  EXPECT_NE(outcome.message.find("needs"), std::string::npos) << outcome.message;
  EXPECT_NE(outcome.message.find("GB"), std::string::npos) << outcome.message;
}

TEST(MemoryTest, AutoGivesUpTheStackBeforeTheSession) {
  if (OnGpu()) GTEST_SKIP() << "a device's limit counts what others have of it";
  const TestModel model{LlamaShape()};
  const auto total = [&](const Settings& settings) {
    return TestSession(model, settings).Metrics().total_bytes;
  };
  const Settings kept = {{"recompute", "never"}};
  const int64_t stack = total(kept + Settings{{"gradients", "stack"}});
  const int64_t fused = total(kept + Settings{{"gradients", "fused"}});
  ASSERT_LT(fused, stack);
  const auto planned = [&](int64_t limit) {
    const Settings limited = {{"memory_limit", std::to_string(limit)}};
    return TestSession(model, kept + limited).PlanJson();
  };
  EXPECT_NE(planned(stack).find(R"("gradients":"stack")"), std::string::npos);
  EXPECT_NE(planned(stack - 1).find(R"("gradients":"fused")"), std::string::npos);
  EXPECT_NE(planned(fused).find(R"("gradients":"fused")"), std::string::npos);
  const Outcome outcome =
      TryOpen(model, kept + Settings{{"memory_limit", std::to_string(fused - 1)}});
  EXPECT_EQ(outcome.status, QFT_ERROR_OUT_OF_MEMORY);
}

TEST(MemoryTest, AutoGivesUpAsFewActivationsAsMemoryRequires) {
  if (OnGpu()) GTEST_SKIP() << "a device's limit counts what others have of it";
  LlamaShape shape;
  shape.layers = 6;
  const TestModel model(shape);
  const Settings one = {{"micro_batches", "1"}, {"gradients", "fused"}};
  const int64_t kept =
      TestSession(model, one + Settings{{"recompute", "never"}}).Metrics().total_bytes;
  const int64_t least =
      TestSession(model, one + Settings{{"recompute", "always"}}).Metrics().total_bytes;
  int64_t before = 0;
  for (const double share : {1.0, 0.999, 0.8, 0.6, 0.4, 0.2, 0.0}) {
    const auto limit = least + static_cast<int64_t>(share * static_cast<double>(kept - least));
    TestSession session(model, one + Settings{{"memory_limit", std::to_string(limit)}});
    const std::string plan = session.PlanJson();
    const auto blocks = [&](const std::string& kind) {
      const std::string key = "\"" + kind + "_blocks\":";
      const size_t at = plan.find(key);
      return at == std::string::npos ? -1 : std::stoll(plan.substr(at + key.size()));
    };
    EXPECT_LE(session.Metrics().total_bytes, limit);
    const int64_t given_up = 3 * blocks("recomputed") + 2 * blocks("regated") + blocks("renewed");
    EXPECT_EQ(given_up == 0, share == 1.0) << share;
    EXPECT_GE(given_up, before) << "less memory, no more kept";
    EXPECT_TRUE(blocks("recomputed") == 0 ||
                blocks("recomputed") + blocks("regated") == shape.layers)
        << "what is cheap to make again goes first";
    EXPECT_TRUE(blocks("regated") == 0 ||
                blocks("recomputed") + blocks("regated") + blocks("renewed") == shape.layers)
        << "what is cheap to make again goes first";
    before = given_up;
  }
  EXPECT_EQ(before, 3 * shape.layers);
  EXPECT_EQ(TryOpen(model, one + Settings{{"memory_limit", std::to_string(least - 1)}}).status,
            QFT_ERROR_OUT_OF_MEMORY);
}

}  // namespace
}  // namespace qft
