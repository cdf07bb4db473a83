// Which checkpoints stay, and that nothing goes before what stays is known to be whole.
#include "runtime/checkpoint_retention.h"

#include "tests/runtime/session/checkpoint_test.h"

namespace qft {
namespace {

class CheckpointRetentionTest : public CheckpointTest {
 protected:
  // Names that are left, in the order of their steps.
  std::vector<std::string> Pruned(const Retention& retention) {
    const auto report = PruneCheckpoints(fs_, folder_, retention);
    EXPECT_TRUE(report.ok()) << report.status();
    if (report.ok()) report_ = *report;
    return Names();
  }
  std::vector<std::string> Names() {
    std::vector<std::string> names;
    const auto found = ReportCheckpoints(fs_, folder_, CheckpointCheck::kSizes);
    EXPECT_TRUE(found.ok()) << found.status();
    if (!found.ok()) return names;
    for (const CheckpointEntry& entry : found->entries) names.push_back(entry.name);
    return names;
  }
  void Damage(const std::string& name) {
    std::filesystem::resize_file(Path(name + "/states.safetensors"), 100);
  }

  using Steps = std::vector<std::string>;
  PruneReport report_;
};

TEST_F(CheckpointRetentionTest, RemovesWhatTornSavesLeft) {
  for (const int step : {1, 2}) SaveAt(step);
  // A later one may be a save that is under way.
  for (const char* name : {"step_1.tmp", "step_2.tmp", "step_3.tmp"}) {
    std::filesystem::create_directory(Path(name));
    WriteFile(Path(std::string(name) + "/states.safetensors"), "half");
  }
  EXPECT_EQ(Pruned({.keep = 5}), Steps({"step_1", "step_2", "step_3.tmp"}));
  ExpectRestores(2);
}

TEST_F(CheckpointRetentionTest, KeepsTheNewest) {
  for (const int step : {1, 2, 3, 10}) SaveAt(step);
  WriteFile(Path("notes.txt"), "mine");
  std::filesystem::create_directory(Path("step_final"));
  const uint64_t bytes = std::filesystem::file_size(Path("step_1/manifest.json")) +
                         std::filesystem::file_size(Path("step_1/states.safetensors"));
  EXPECT_EQ(Pruned({.keep = 2, .dry_run = true}), Steps({"step_1", "step_2", "step_3", "step_10"}));
  ASSERT_EQ(report_.removed.size(), 2u);
  EXPECT_EQ(report_.removed[0].bytes, bytes);
  EXPECT_EQ(Pruned({.keep = 2}), Steps({"step_3", "step_10"}));
  EXPECT_EQ(report_.removed.size(), 2u);
  EXPECT_TRUE(Exists(Path("notes.txt")));
  EXPECT_TRUE(Exists(Path("step_final")));
  ExpectRestores(10);
}

TEST_F(CheckpointRetentionTest, RefusesToKeepNone) {
  SaveAt(1);
  EXPECT_EQ(CodeOf(PruneCheckpoints(fs_, folder_, {.keep = 0}).status()), ErrorCode::kOutOfRange);
  EXPECT_EQ(CodeOf(PruneCheckpoints(fs_, folder_, {.keep = 1, .keep_every = -1}).status()),
            ErrorCode::kOutOfRange);
  EXPECT_EQ(CodeOf(PruneCheckpoints(fs_, Path("step_1"), {}).status()),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf(PruneCheckpoints(fs_, Path("none"), {}).status()), ErrorCode::kNotFound);
  ExpectRestores(1);
}

// Saved every second step with one missed: 5 stands for 4, and stays a milestone whatever follows.
TEST_F(CheckpointRetentionTest, MilestonesStay) {
  const auto keep = Retention{.keep = 1, .keep_every = 4};
  std::vector<Steps> left;
  for (const int step : {2, 5, 6, 8, 10, 12}) {
    SaveAt(step);
    left.push_back(Pruned(keep));
  }
  EXPECT_EQ(left, (std::vector<Steps>{{"step_2"},
                                      {"step_5"},
                                      {"step_5", "step_6"},
                                      {"step_5", "step_8"},
                                      {"step_5", "step_8", "step_10"},
                                      {"step_5", "step_8", "step_12"}}));
  EXPECT_EQ(Pruned({.keep = 1}), Steps({"step_12"}));
}

// Otherwise nothing that can be loaded might be left.
TEST_F(CheckpointRetentionTest, RemovesNothingWhenTheNewestIsBroken) {
  for (const int step : {1, 2, 3}) SaveAt(step);
  const std::string path = Path("step_3/states.safetensors");
  std::string states = ReadFile(path);
  states.back() = static_cast<char>(states.back() ^ 1);  // the size is right
  WriteFile(path, states);
  const Status pruned = PruneCheckpoints(fs_, folder_, {.keep = 1}).status();
  EXPECT_EQ(CodeOf(pruned), ErrorCode::kCorrupt);
  EXPECT_NE(pruned.message().find("nothing was removed"), std::string::npos) << pruned;
  EXPECT_EQ(Names(), Steps({"step_1", "step_2", "step_3"}));
  ExpectRestores(2, "step_3");
}

// A broken one in between does not stand for a whole one.
TEST_F(CheckpointRetentionTest, BrokenOnesDoNotCount) {
  for (const int step : {1, 2, 3, 4, 5}) SaveAt(step);
  Damage("step_1");
  Damage("step_4");
  EXPECT_EQ(Pruned({.keep = 2}), Steps({"step_3", "step_4", "step_5"}));
  Damage("step_5");
  ExpectRestores(3, "step_4");
}

TEST_F(CheckpointRetentionTest, SupersededGoWhenAsked) {
  for (const int step : {1, 2, 3}) SaveAt(step);
  ASSERT_EQ(SetAsideLater(fs_, folder_, 2), absl::OkStatus());
  EXPECT_EQ(Pruned({.keep = 1}), Steps({"step_2", "step_3.superseded"}));
  EXPECT_EQ(Pruned({.keep = 1, .superseded = true}), Steps({"step_2"}));
}

TEST_F(CheckpointRetentionTest, AFolderWithoutCheckpointsStaysAsItIs) {
  std::filesystem::create_directory(Path("step_1.tmp"));
  EXPECT_EQ(Pruned({.keep = 1}), Steps({"step_1.tmp"}));
}

}  // namespace
}  // namespace qft
