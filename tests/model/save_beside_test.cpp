// Saves beside training: no bit of the training changes, and each checkpoint is that of a save for
// which training stands still.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/model/session_util.h"

namespace qft {
namespace {

constexpr int64_t kLongMs = 60000;

// As large as needed for its copy to take longer than the way to the first update.
LlamaShape Large() {
  LlamaShape shape;
  shape.vocabulary = 9000;
  shape.hidden = 384;
  shape.inner = 1024;
  shape.heads = 6;
  shape.kv_heads = 2;
  shape.head_dim = 64;
  shape.layers = 2;
  return shape;
}

LlamaShape LargeTied() {
  LlamaShape shape = Large();
  shape.tied = true;
  return shape;
}

std::vector<TestBatch> BatchesOf(const LlamaShape& shape, uint32_t step, size_t count) {
  std::vector<TestBatch> batches;
  for (uint32_t i = 0; i < count; ++i) {
    batches.push_back(RandomBatch(shape.vocabulary, {20, 30}, 10 * step + i));
  }
  return batches;
}

struct Kind {
  const char* name;
  Settings settings;
  size_t micro_batches;
};

std::vector<Kind> Kinds() {
  return {
      {"StackVertical", {{"gradients", "stack"}}, 2},
      {"StackHorizontal", {{"gradients", "stack"}, {"accumulation", "horizontal"}}, 2},
      {"FusedVertical", {{"gradients", "fused"}, {"clip_norm", "0.1"}}, 2},
      {"FusedHorizontal",
       {{"gradients", "fused"}, {"accumulation", "horizontal"}, {"micro_batches", "1"}},
       1},
      {"StackMomentumInHostMemory", {{"gradients", "stack"}, {"momentum", "host"}}, 2},
      {"FusedMomentumInHostMemory",
       {{"gradients", "fused"}, {"momentum", "host"}, {"boundaries", "host"}},
       2},
      {"PlainFused", kPlain + Settings{{"gradients", "fused"}}, 1},
  };
}

std::string Bytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

class SaveBesideTest : public testing::TestWithParam<Kind> {};

INSTANTIATE_TEST_SUITE_P(Kinds, SaveBesideTest, testing::ValuesIn(Kinds()),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_P(SaveBesideTest, SameBits) {
  const Kind& kind = GetParam();
  for (const LlamaShape& shape : {Large(), LargeTied()}) {
    const TestModel model(shape);
    TestSession quiet(model, kind.settings);
    TestSession saving(model, kind.settings + Settings{{"snapshot", "host"}});
    EXPECT_GT(saving.Metrics().snapshot_bytes, 0);
    EXPECT_EQ(saving.Metrics().total_bytes, quiet.Metrics().total_bytes);
    const TemporaryFolder folder;
    for (uint32_t step = 0; step < 3; ++step) {
      const std::vector<TestBatch> batches = BatchesOf(shape, step, kind.micro_batches);
      qft_event* event = saving.SaveBegin(folder.Path("beside"));
      const qft_step_result beside = saving.Step(batches, 2e-3);
      Must([&](qft_error** e) { return qft_event_wait(event, kLongMs, e); });
      qft_event_destroy(event);
      quiet.Save(folder.Path("quiet"));
      const qft_step_result alone = quiet.Step(batches, 2e-3);
      EXPECT_EQ(beside.loss, alone.loss);
      ASSERT_EQ(saving.Hash(), quiet.Hash()) << step;
      const std::string states = "/step_" + std::to_string(step) + "/states.safetensors";
      ASSERT_EQ(Bytes(folder.Path("beside") + states), Bytes(folder.Path("quiet") + states))
          << step;
    }
    TestSession resumed(model, kind.settings);
    EXPECT_EQ(resumed.Restore(folder.Path("beside")), "");
    resumed.Step(BatchesOf(shape, 2, kind.micro_batches), 2e-3);
    EXPECT_EQ(resumed.Hash(), quiet.Hash());
  }
}

}  // namespace
}  // namespace qft
