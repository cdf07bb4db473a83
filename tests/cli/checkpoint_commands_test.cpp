// What a person does with a run's checkpoints: keeps some, looks at them, goes on from them.
#include <gtest/gtest.h>
#include <stdlib.h>

#include "tests/cli/program.h"

namespace qft::cli_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Names = std::vector<std::string>;

class CheckpointCommandsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "qft_checkpoint_commands.XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    MakeModel(Path("model"));
    MakeData(Path("data.jsonl"));
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  fs::path Checkpoint(const std::string& name) const {
    return folder_ / "run" / "checkpoints" / name;
  }

  void Finetune(const std::string& output, const Names& options) {
    Names arguments = {"finetune",
                       "--model",
                       Path("model"),
                       "--data",
                       Path("data.jsonl"),
                       "--output",
                       Path(output),
                       "--steps",
                       "12",
                       "--micro-batch-tokens",
                       "128",
                       "--sequence",
                       "64",
                       "--learning-rate",
                       "1e-3",
                       "--threads",
                       "1",
                       "--export",
                       Path(output + "/export")};
    arguments.insert(arguments.end(), options.begin(), options.end());
    const Result result = Qft(arguments);
    ASSERT_EQ(result.exit_code, 0) << result.error;
  }
  // The names of the run's checkpoints by step.
  Names List() const {
    const Result result = Qft({"checkpoint", "list", Path("run"), "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.error;
    Names names;
    const json report = json::parse(result.out);
    for (const json& entry : report.at("entries")) names.push_back(entry.at("name"));
    return names;
  }
  void CutOff(const std::string& name) const {
    const fs::path states = Checkpoint(name) / "states.safetensors";
    fs::resize_file(states, fs::file_size(states) - 1);
  }
  // Changes a bit in the last byte of the states.
  void Flip(const std::string& name) const {
    std::string states = ReadAll(Checkpoint(name) / "states.safetensors");
    states.back() = static_cast<char>(states.back() ^ 1);
    WriteAll(Checkpoint(name) / "states.safetensors", states);
  }
  std::string Weights(const std::string& output) const {
    return ReadAll(fs::path(Path(output)) / "export" / "model.safetensors");
  }
  // Resumes the run, which must end as the undisturbed one did.
  Result Resume(const Names& options = {}) const {
    fs::remove_all(Path("run/export"));
    Names arguments = {"finetune", "--resume", Path("run")};
    arguments.insert(arguments.end(), options.begin(), options.end());
    Result result = Qft(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.error;
    EXPECT_TRUE(Weights("run") == Weights("whole"));
    return result;
  }

  fs::path folder_;
};

bool Has(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_F(CheckpointCommandsTest, MilestonesStayBesideTheNewest) {
  Finetune("run", {"--save-every", "2", "--keep", "1", "--keep-every", "5"});
  EXPECT_EQ(List(), Names({"step_6", "step_10", "step_12"}));
  Finetune("other", {"--save-every", "5", "--keep", "0"});
  EXPECT_EQ(std::distance(fs::directory_iterator(Path("other/checkpoints")), {}), 3);
}

TEST_F(CheckpointCommandsTest, ListTellsWhatIsThere) {
  Finetune("run", {"--save-every", "4", "--keep", "0"});
  CutOff("step_12");
  Flip("step_4");
  fs::create_directory(Checkpoint("step_13.tmp"));
  fs::rename(Checkpoint("step_8"), Checkpoint("step_8.superseded"));
  const Result listed = Qft({"checkpoint", "list", Path("run")});
  EXPECT_EQ(listed.exit_code, 0) << listed.error;
  for (const char* part : {"step_4 ", "whole", "step_8.superseded", "set aside", "step_12 ",
                           "damaged: states.safetensors", "step_13.tmp", "torn"}) {
    EXPECT_TRUE(Has(listed.out, part)) << part << "\n" << listed.out;
  }
  const json entry = json::parse(Qft({"checkpoint", "list", Path("run/checkpoints"), "--json"}).out)
                         .at("entries")
                         .at(0);
  EXPECT_EQ(entry.at("step"), 4);
  EXPECT_EQ(entry.at("whole"), true);  // as far as a glance tells
  EXPECT_GT(entry.at("bytes"), fs::file_size(Checkpoint("step_4") / "states.safetensors"));
  EXPECT_EQ(entry.at("saved").get<std::string>().size(), 19U);
}

TEST_F(CheckpointCommandsTest, VerifyFindsTheTensorAndTheBytes) {
  Finetune("run", {"--save-every", "4", "--keep", "0"});
  EXPECT_EQ(Qft({"checkpoint", "verify", Path("run")}).exit_code, 0);
  const uint64_t size = fs::file_size(Checkpoint("step_12") / "states.safetensors");
  Flip("step_12");
  const Result result = Qft({"checkpoint", "verify", Path("run")});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_TRUE(Has(result.out, "model.layers.1.mlp.down_proj.weight.momentum, bytes " +
                                  std::to_string(size - 64 * 32) + " to " + std::to_string(size)))
      << result.out;
  EXPECT_TRUE(Has(result.out, "rm -r " + Checkpoint("step_12").string())) << result.out;
  EXPECT_TRUE(Has(result.out, "a resume takes step_8")) << result.out;
  const Result one = Qft({"checkpoint", "verify", Checkpoint("step_8").string(), "--json"});
  EXPECT_EQ(one.exit_code, 0);
  EXPECT_EQ(json::parse(one.out).at("entries").size(), 1U);
  EXPECT_EQ(Qft({"checkpoint", "verify", Checkpoint("step_12").string()}).exit_code, 1);
  fs::remove_all(Checkpoint(""));
  fs::create_directory(Checkpoint(""));
  EXPECT_EQ(Qft({"checkpoint", "verify", Path("run")}).exit_code, 1);
}

TEST_F(CheckpointCommandsTest, PruneRemovesWhatItSaid) {
  Finetune("run", {"--save-every", "2", "--keep", "0"});
  const Names prune = {"checkpoint", "prune", Path("run"), "--keep", "2", "--keep-every", "4"};
  Names dry_run = prune;
  dry_run.insert(dry_run.end(), {"--dry-run", "--json"});
  const json told = json::parse(Qft(dry_run).out);
  EXPECT_EQ(List().size(), 6U);
  const Result pruned = Qft(prune);
  EXPECT_EQ(pruned.exit_code, 0) << pruned.error;
  EXPECT_EQ(List(), Names({"step_4", "step_8", "step_10", "step_12"}));
  ASSERT_EQ(told.at("removed").size(), 2U);
  for (const json& entry : told.at("removed")) {
    EXPECT_TRUE(Has(pruned.out, entry.at("name").get<std::string>())) << pruned.out;
  }
  EXPECT_EQ(told.at("freed_bytes"), told.at("removed").at(0).at("bytes").get<int64_t>() +
                                        told.at("removed").at(1).at("bytes").get<int64_t>());

  Flip("step_12");
  const Result refused = Qft({"checkpoint", "prune", Path("run"), "--keep", "1"});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_TRUE(Has(refused.error, "nothing was removed")) << refused.error;
  EXPECT_EQ(List().size(), 4U);
  EXPECT_EQ(Qft({"checkpoint", "prune", Path("run")}).exit_code, 2);
  EXPECT_EQ(Qft({"checkpoint", "prune", Path("run"), "--keep", "0"}).exit_code, 2);
}

// The newest is damaged: the one before it is used, which is said, and the end is the same.
TEST_F(CheckpointCommandsTest, ResumePassesOverADamagedOne) {
  Finetune("whole", {});
  Finetune("run", {"--save-every", "4", "--keep", "0"});
  CutOff("step_12");
  const Result resumed = Resume();
  EXPECT_TRUE(Has(resumed.error, "step_12 passed over")) << resumed.error;
  EXPECT_TRUE(Has(resumed.error, "qft checkpoint verify")) << resumed.error;
  EXPECT_EQ(Qft({"checkpoint", "verify", Path("run")}).exit_code, 0);

  // Two of them, and the run saves at other steps now: what is left behind is set aside.
  Flip("step_12");
  Flip("step_8");
  Resume({"--save-every", "7"});
  EXPECT_EQ(List(),
            Names({"step_4", "step_7", "step_8.superseded", "step_12", "step_12.superseded"}));
  EXPECT_EQ(Qft({"checkpoint", "verify", Path("run")}).exit_code, 0);
  const Result pruned = Qft({"checkpoint", "prune", Path("run"), "--keep", "3", "--superseded"});
  EXPECT_EQ(pruned.exit_code, 0) << pruned.error;
  EXPECT_EQ(List(), Names({"step_4", "step_7", "step_12"}));
}

TEST_F(CheckpointCommandsTest, ResumeFromANamedOneSetsLaterOnesAside) {
  Finetune("whole", {});
  Finetune("run", {"--save-every", "5", "--keep", "0"});
  fs::remove_all(Path("run/export"));
  const Result result =
      Qft({"finetune", "--resume", Checkpoint("step_5").string(), "--save-every", "9"});
  EXPECT_EQ(result.exit_code, 0) << result.error;
  EXPECT_TRUE(Weights("run") == Weights("whole"));
  EXPECT_EQ(List(),
            Names({"step_5", "step_9", "step_10.superseded", "step_12", "step_12.superseded"}));
}

TEST_F(CheckpointCommandsTest, ResumeWithNothingWholeSaysWhy) {
  Finetune("run", {"--save-every", "6", "--keep", "0"});
  CutOff("step_6");
  fs::remove(Checkpoint("step_12") / "manifest.json");
  fs::remove_all(Path("run/export"));
  const Result result = Qft({"finetune", "--resume", Path("run")});
  EXPECT_EQ(result.exit_code, 1);
  for (const char* part : {"no whole checkpoint", "step_12", "step_6"}) {
    EXPECT_TRUE(Has(result.error, part)) << result.error;
  }
}

}  // namespace
}  // namespace qft::cli_test
