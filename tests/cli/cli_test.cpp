#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include "tests/cli/program.h"

namespace qft::cli_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

// One model and data file for all tests; a folder for each.
class CliTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "qft_cli_test.XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    model_ = (folder_ / "model").string();
    data_ = (folder_ / "data.jsonl").string();
    MakeModel(model_);
    MakeData(data_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }

  std::vector<std::string> Finetune(const std::string& output, int steps) const {
    return {"finetune",
            "--model",
            model_,
            "--data",
            data_,
            "--output",
            Path(output),
            "--steps",
            std::to_string(steps),
            "--micro-batch-tokens",
            "256",
            "--sequence",
            "128",
            "--learning-rate",
            "1e-3",
            "--schedule",
            "linear",
            "--held-out",
            "0.1",
            "--threads",
            "2"};
  }

  // Waits until the run has made so many steps.
  void AwaitSteps(const std::string& output, size_t steps) const {
    const fs::path metrics = fs::path(Path(output)) / "metrics.jsonl";
    for (int i = 0; i < 60000; ++i) {
      const std::string text = ReadAll(metrics);
      size_t found = 0;
      for (size_t at = 0; (at = text.find("\"train\"", at)) != std::string::npos; ++at) ++found;
      if (found >= steps) return;
      usleep(1000);
    }
    FAIL() << "no " << steps << " steps within a minute";
  }

  std::string Weights(const std::string& output) const {
    return ReadAll(fs::path(Path(output)) / "export" / "model.safetensors");
  }

  fs::path folder_;
  std::string model_;
  std::string data_;
};

std::vector<std::string> operator+(std::vector<std::string> left,
                                   const std::vector<std::string>& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

// Whether a process has a handler for SIGINT, bit 1 of the mask that Linux shows.
bool CatchesInterrupts(pid_t pid) {
  const std::string status = ReadAll("/proc/" + std::to_string(pid) + "/status");
  const size_t at = status.find("SigCgt:");
  return at != std::string::npos && (strtoull(status.c_str() + at + 7, nullptr, 16) & 2) != 0;
}

// One line that starts with the program's name, then at most a pointer to the help.
void ExpectPlainError(const Result& result, int exit_code, const std::string& part) {
  EXPECT_EQ(result.exit_code, exit_code);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(result.error.rfind("qft: ", 0), 0U) << result.error;
  EXPECT_NE(result.error.find(part), std::string::npos) << result.error;
}

TEST_F(CliTest, FinetuneWritesItsRun) {
  const Result result = Qft(Finetune("run", 40) +
                            std::vector<std::string>{"--export", Path("run/export"), "--eval-every",
                                                     "20", "--sample", "repeat aa 1:"});
  ASSERT_EQ(result.exit_code, 0) << result.error;
  const json summary = json::parse(ReadAll(Path("run/summary.json")));
  EXPECT_LT(summary.at("eval_loss_after"), summary.at("eval_loss_before"));
  EXPECT_GT(summary.at("codes_changed"), 0.1);
  EXPECT_LE(summary.at("codes_changed"), 1.0);
  EXPECT_GT(summary.at("tokens_per_second"), 0);
  EXPECT_GT(summary.at("peak_rss_bytes"), 1000000);
  EXPECT_EQ(summary.at("parameters"),
            257 * 32 + 2 * (32 * 32 * 2 + 16 * 32 * 2 + 64 * 32 * 3) + 2 * 2 * 32 + 32);
  for (const char* state : {"weights", "momentum", "gradients"}) {
    EXPECT_GT(summary.at("state_bytes").at(state), 0) << state;
  }
  EXPECT_TRUE(summary.at("state_bytes").contains("critical"));
  EXPECT_EQ(summary.at("samples").size(), 1U);

  const std::vector<json> lines = ReadLines(Path("run/metrics.jsonl"));
  EXPECT_EQ(OfType(lines, "train").size(), 40U);
  double data_seconds = 0;
  for (const json& step : OfType(lines, "train"))
    data_seconds += step.at("data_seconds").get<double>();
  EXPECT_GT(data_seconds, 0);
  EXPECT_NEAR(summary.at("data_seconds"), data_seconds, 1e-6);
  EXPECT_EQ(summary.at("data_share"), summary.at("data_seconds").get<double>() /
                                          (summary.at("data_seconds").get<double>() +
                                           summary.at("training_seconds").get<double>()));
  EXPECT_EQ(OfType(lines, "eval").size(), 3U);
  EXPECT_EQ(OfType(lines, "start").size(), 1U);
  EXPECT_EQ(OfType(lines, "end").at(0).at("reason"), "done");
  EXPECT_EQ(json::parse(ReadAll(Path("run/config.json"))).at("steps"), 40);
  for (const auto& entry : fs::directory_iterator(Path("run"))) {
    EXPECT_EQ(entry.path().string().find("start_codes"), std::string::npos);
  }
}

TEST_F(CliTest, ExportAndCheckpointAgree) {
  ASSERT_EQ(Qft(Finetune("run", 10)).exit_code, 0);
  const Result exported = Qft({"export", "--checkpoint", Path("run"), "--output", Path("out")});
  ASSERT_EQ(exported.exit_code, 0) << exported.error;
  const Result tuned = Qft({"eval", "--checkpoint", Path("run"), "--json"});
  const Result loaded = Qft({"eval", "--model", Path("out"), "--data", data_, "--held-out", "0.1",
                             "--sequence", "128", "--json"});
  ASSERT_EQ(tuned.exit_code, 0) << tuned.error;
  ASSERT_EQ(loaded.exit_code, 0) << loaded.error;
  const json summary = json::parse(ReadAll(Path("run/summary.json")));
  const double loss = json::parse(tuned.out).at("loss");
  EXPECT_NEAR(loss, summary.at("eval_loss_after"), 1e-4);
  // bf16 and a new grid of codes lie between the two.
  EXPECT_NEAR(json::parse(loaded.out).at("loss"), loss, 0.01 * loss);
}

// Whatever stops a run, going on gives the bits of a run that nothing stopped.
TEST_F(CliTest, StoppedAndResumedEqualsUndisturbed) {
  const auto whole =
      Finetune("whole", 300) + std::vector<std::string>{"--export", Path("whole/export")};
  ASSERT_EQ(Qft(whole).exit_code, 0);
  for (const int signal : {SIGINT, SIGTERM, SIGKILL}) {
    const std::string name = "stopped" + std::to_string(signal);
    const char* snapshot = signal == SIGINT ? "snapshot=none" : "snapshot=host";
    Running run(QFT_PROGRAM, Finetune(name, 300) + std::vector<std::string>{
                                                       "--save-every", "7", "--export",
                                                       Path(name + "/export"), "--set", snapshot});
    AwaitSteps(name, 20);
    run.Send(signal);
    const Result stopped = run.Wait();
    EXPECT_EQ(stopped.exit_code, signal == SIGKILL ? 128 + SIGKILL : 130) << stopped.error;
    EXPECT_FALSE(fs::exists(Path(name + "/summary.json")));
    const Result resumed = Qft({"finetune", "--resume", Path(name)});
    ASSERT_EQ(resumed.exit_code, 0) << resumed.error;
    EXPECT_TRUE(Weights(name) == Weights("whole")) << "signal " << signal;
    const json summary = json::parse(ReadAll(Path(name + "/summary.json")));
    const json expected = json::parse(ReadAll(Path("whole/summary.json")));
    for (const char* key : {"eval_loss_before", "eval_loss_after", "codes_changed", "tokens"}) {
      EXPECT_EQ(summary.at(key), expected.at(key)) << key;
    }
  }
}

TEST_F(CliTest, SavedBesideTrainingIsTheSameRun) {
  for (const char* snapshot : {"none", "host"}) {
    const Result result = Qft(Finetune(snapshot, 12) +
                              std::vector<std::string>{"--save-every", "5", "--set",
                                                       std::string("snapshot=") + snapshot,
                                                       "--export", Path(snapshot) + "/export"});
    ASSERT_EQ(result.exit_code, 0) << result.error;
    EXPECT_TRUE(fs::exists(Path(snapshot) + "/checkpoints/step_10"));
  }
  EXPECT_EQ(Weights("host"), Weights("none"));
  for (const char* step : {"step_10", "step_12"}) {
    const std::string states = std::string("/checkpoints/") + step + "/states.safetensors";
    EXPECT_EQ(ReadAll(Path("host") + states), ReadAll(Path("none") + states)) << step;
  }
}

// Where the checkpoints were there is a file all of a sudden.
TEST_F(CliTest, AFailedSaveEndsTheRun) {
  Running run(QFT_PROGRAM,
              Finetune("run", 1000000) +
                  std::vector<std::string>{"--save-every", "1", "--set", "snapshot=host"});
  AwaitSteps("run", 5);
  fs::rename(Path("run/checkpoints"), Path("run/away"));
  WriteAll(Path("run/checkpoints"), "");
  const Result result = run.Wait();
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.error.find("checkpoints"), std::string::npos) << result.error;
}

TEST_F(CliTest, InterruptedAtOnceKeepsACheckpointOrNothing) {
  Running run(QFT_PROGRAM, Finetune("run", 1000000));
  while (!CatchesInterrupts(run.pid())) usleep(100);
  run.Send(SIGINT);
  const Result result = run.Wait();
  EXPECT_EQ(result.exit_code, 130) << result.error;
  // Nearly always the first step had not been made.
  if (fs::exists(Path("run"))) {
    EXPECT_EQ(Qft({"inspect", Path("run")}).exit_code, 0);
  }
}

TEST_F(CliTest, SignalToProgramAndGroupIsOneInterrupt) {
  Running twice(QFT_PROGRAM, Finetune("twice", 1000000));
  AwaitSteps("twice", 3);
  twice.Send(SIGINT);
  twice.Send(SIGTERM);
  EXPECT_EQ(twice.Wait().exit_code, 130);
  EXPECT_EQ(Qft({"inspect", Path("twice")}).exit_code, 0);
}

TEST_F(CliTest, ResumeKeepsMetricsAndDropsOnlyAHalfWrittenLine) {
  ASSERT_EQ(Qft(Finetune("run", 6)).exit_code, 0);
  const std::string before = ReadAll(Path("run/metrics.jsonl"));
  WriteAll(Path("run/metrics.jsonl"), before + "{\"type\":\"tra");
  const Result resumed = Qft({"finetune", "--resume", Path("run"), "--steps", "9"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.error;
  EXPECT_EQ(ReadAll(Path("run/metrics.jsonl")).rfind(before, 0), 0U);
  const auto train = OfType(ReadLines(Path("run/metrics.jsonl")), "train");
  ASSERT_EQ(train.size(), 9U);
  EXPECT_EQ(train.back().at("step"), 9);
}

TEST_F(CliTest, ResumeRefusesOtherDataAndKeepsTheRun) {
  ASSERT_EQ(Qft(Finetune("run", 6)).exit_code, 0);
  const std::string config = ReadAll(Path("run/config.json"));
  WriteAll(Path("other.jsonl"), "{\"text\":\"one\"}\n{\"text\":\"two\"}\n{\"text\":\"three\"}\n");
  const Result result = Qft({"finetune", "--resume", Path("run"), "--data", Path("other.jsonl"),
                             "--steps", "9", "--held-out", "0"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(ReadAll(Path("run/config.json")), config);
}

TEST_F(CliTest, TimeLimitStopsInOrder) {
  const Result result =
      Qft(Finetune("run", 1000000) + std::vector<std::string>{"--max-minutes", "0.03"});
  ASSERT_EQ(result.exit_code, 0) << result.error;
  const json summary = json::parse(ReadAll(Path("run/summary.json")));
  EXPECT_EQ(summary.at("stopped_by"), "time limit");
  EXPECT_LT(summary.at("steps"), 1000000);
  EXPECT_FALSE(summary.at("eval_loss_after").is_null());
}

TEST_F(CliTest, ConfigurationFileGivesWayToTheCommandLine) {
  const json config = {{"model", model_},           {"data", data_},   {"steps", 50},
                       {"micro-batch-tokens", 256}, {"sequence", 128}, {"learning-rate", 1e-3},
                       {"set", {"beta1=0.8"}}};
  WriteAll(Path("config.json"), config.dump());
  const Result result =
      Qft({"finetune", "--config", Path("config.json"), "--steps", "3", "--output", Path("run")});
  ASSERT_EQ(result.exit_code, 0) << result.error;
  const json effective = json::parse(ReadAll(Path("run/config.json")));
  EXPECT_EQ(effective.at("steps"), 3);
  EXPECT_EQ(effective.at("learning-rate"), 1e-3);
  EXPECT_EQ(effective.at("set").at(0), "beta1=0.8");
  EXPECT_EQ(OfType(ReadLines(Path("run/metrics.jsonl")), "train").size(), 3U);
}

TEST_F(CliTest, FreezeAndGroupSetTensorsApart) {
  const auto changed = [&](const std::string& name, const std::vector<std::string>& options) {
    const Result result = Qft(Finetune(name, 5) + options);
    EXPECT_EQ(result.exit_code, 0) << result.error;
    return json::parse(ReadAll(Path(name + "/summary.json"))).at("codes_changed").get<double>();
  };
  EXPECT_EQ(changed("frozen", {"--freeze", "*"}), 0.0);
  EXPECT_EQ(changed("still", {"--group", "*:0"}), 0.0);
  // Only the embedding trains, 8224 of 26656 codes.
  const double embedding = changed("embedding", {"--freeze", "model.layers.*"});
  EXPECT_GT(embedding, 0.0);
  EXPECT_LT(embedding, 8224.0 / 26656.0);
  ExpectPlainError(Qft(Finetune("none", 5) + std::vector<std::string>{"--freeze", "nosuch*"}), 1,
                   "nosuch*");
}

TEST_F(CliTest, DryRunLeavesNothing) {
  const Result result = Qft(Finetune("run", 5) + std::vector<std::string>{"--dry-run"});
  EXPECT_EQ(result.exit_code, 0) << result.error;
  EXPECT_NE(result.out.find("memory"), std::string::npos);
  EXPECT_FALSE(fs::exists(Path("run")));
}

TEST_F(CliTest, LearningRateThatMovesNothingIsRefused) {
  const Result result =
      Qft(Finetune("run", 5) +
          std::vector<std::string>{"--set", "rounding=nearest", "--learning-rate", "1e-9"});
  ExpectPlainError(result, 1, "rate");
  EXPECT_FALSE(fs::exists(Path("run")));
}

TEST_F(CliTest, BadUsageIsTwoAndSaysWhat) {
  ExpectPlainError(Qft({}), 2, "");
  ExpectPlainError(Qft({"nosuch"}), 2, "nosuch");
  ExpectPlainError(Qft({"finetune", "--data", data_}), 2, "--model");
  ExpectPlainError(Qft(Finetune("run", 5) + std::vector<std::string>{"--foo"}), 2, "--foo");
  ExpectPlainError(Qft(Finetune("run", 5) + std::vector<std::string>{"--set", "nokey=1"}), 2,
                   "nokey");
  ExpectPlainError(Qft(Finetune("run", 5) + std::vector<std::string>{"--set", "seed=1"}), 2,
                   "--seed");
  ExpectPlainError(Qft(Finetune("run", 5) + std::vector<std::string>{"--group", "*:fast"}), 2,
                   "fast");
  ExpectPlainError(Qft(Finetune("run", 5) + std::vector<std::string>{"--learning-rate", "0"}), 2,
                   "--learning-rate");
  ExpectPlainError(Qft(Finetune("model", 5)), 2, "new or an empty folder");
  WriteAll(Path("config.json"), "{\"stepz\": 3}");
  ExpectPlainError(Qft({"finetune", "--config", Path("config.json")}), 2, "stepz");
  ExpectPlainError(Qft({"generate", "--model", model_}), 2, "--prompt");
}

TEST_F(CliTest, MissingAndBrokenFilesAreOneLine) {
  const std::string missing = Path("missing");
  ExpectPlainError(Qft({"inspect", missing}), 1, missing);
  ExpectPlainError(Qft({"eval", "--checkpoint", missing}), 1, missing);
  ExpectPlainError(Qft({"eval", "--model", model_, "--data", missing}), 1, missing);
  ExpectPlainError(Qft({"finetune", "--resume", missing}), 1, missing);
  WriteAll(data_, "{\"text\": \"fine\"}\nnot json\n");
  ExpectPlainError(Qft(Finetune("run", 5)), 1, "2");
  WriteAll(fs::path(model_) / "config.json", "{");
  ExpectPlainError(Qft({"inspect", model_}), 1, "");
}

TEST_F(CliTest, EveryCommandHelpsWithAnExample) {
  EXPECT_EQ(Qft({"--help"}).exit_code, 0);
  EXPECT_EQ(Qft({"--version"}).out, std::string("qft ") + QFT_VERSION + "\n");
  for (const char* command : {"finetune", "data", "eval", "generate", "chat", "export", "inspect",
                              "checkpoint", "create", "plan", "bench", "doctor"}) {
    const Result result = Qft({command, "--help"});
    EXPECT_EQ(result.exit_code, 0);
    EXPECT_NE(result.out.find(std::string("Example:\n  qft ") + command), std::string::npos);
  }
}

TEST_F(CliTest, BenchTellsSpeedAndMemory) {
  const Result result = Qft({"bench", "--model", model_, "--batch", "2", "--seq", "64", "--steps",
                             "2", "--gradients", "fused", "--device-memory-limit", "1G", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.error;
  const json told = json::parse(result.out);
  EXPECT_EQ(told.at("model"), model_);
  EXPECT_EQ(told.at("batch"), 2);
  EXPECT_EQ(told.at("seq"), 64);
  EXPECT_EQ(told.at("gradients"), "fused");
  const double seconds = told.at("seconds_per_step");
  EXPECT_NEAR(told.at("tokens_per_second"), 128 / seconds, 1e-6 / seconds);
  EXPECT_GT(told.at("peak_device_bytes"), told.at("planned_bytes").at("total"));
  EXPECT_FALSE(told.contains("save"));
  ExpectPlainError(Qft({"bench", "--model", Path("nosuch")}), 2, "llama-2-7b");
  ExpectPlainError(Qft({"bench", "--model", "llama-2-7b", "--device-memory-limit", "1M"}), 1,
                   "the limit is");
}

TEST_F(CliTest, BenchMeasuresSaves) {
  for (const char* snapshot : {"none", "host"}) {
    const Result result =
        Qft({"bench", "--model", model_, "--batch", "1", "--seq", "64", "--steps", "3", "--save",
             Path(snapshot), "--set", std::string("snapshot=") + snapshot, "--json"});
    ASSERT_EQ(result.exit_code, 0) << result.error;
    const json told = json::parse(result.out);
    const json& save = told.at("save");
    EXPECT_EQ(told.at("snapshot_bytes") > 0, std::string(snapshot) == "host");
    EXPECT_GE(save.at("steps_during"), 3);
    EXPECT_EQ(save.at("steps_quiet"), 3);
    const double during = save.at("step_seconds_during");
    EXPECT_GE(during, save.at("begin_seconds"));
    EXPECT_GE(save.at("step_seconds_slowest"), during);
    EXPECT_GE(save.at("save_seconds"), save.at("begin_seconds"));
    const double quiet = save.at("step_seconds_quiet");
    EXPECT_NEAR(save.at("step_ratio"), during / quiet, 1e-9);
    int64_t bytes = 0;
    for (const auto& entry : fs::recursive_directory_iterator(Path(snapshot))) {
      if (entry.is_regular_file()) bytes += static_cast<int64_t>(entry.file_size());
    }
    EXPECT_EQ(save.at("checkpoint_bytes"), bytes);
  }
}

TEST_F(CliTest, DoctorNamesEveryPart) {
  const Result result = Qft({"doctor"});
  EXPECT_EQ(result.exit_code, 0) << result.error;
  EXPECT_EQ(result.out.rfind("ok       cpu engine", 0), 0U) << result.out;
  for (const char* subject : {"cuda engine", "locked memory", "io_uring"}) {
    EXPECT_NE(result.out.find(subject), std::string::npos) << result.out;
  }
}

TEST_F(CliTest, GenerateIsDeterministic) {
  const std::vector<std::string> arguments = {
      "generate", "--model",       model_, "--prompt",     "repeat a 1:", "--seed",
      "3",        "--temperature", "0.9",  "--max-tokens", "12"};
  const Result first = Qft(arguments);
  ASSERT_EQ(first.exit_code, 0) << first.error;
  EXPECT_GT(first.out.size(), 1U);
  EXPECT_EQ(Qft(arguments).out, first.out);
}

TEST_F(CliTest, InspectShowsModelAndCheckpoint) {
  const Result model = Qft({"inspect", model_, "--json"});
  ASSERT_EQ(model.exit_code, 0) << model.error;
  const json description = json::parse(model.out);
  EXPECT_EQ(description.at("tensors").at("layers.*.mlp.up_proj.weight").at("tensors"), 2);
  ASSERT_EQ(
      Qft(Finetune("run", 3) + std::vector<std::string>{"--set", "critical_features=0"}).exit_code,
      0);
  const Result checkpoint = Qft({"inspect", Path("run")});
  EXPECT_EQ(checkpoint.exit_code, 0) << checkpoint.error;
  EXPECT_NE(checkpoint.out.find("step 3"), std::string::npos) << checkpoint.out;
  // What inspect foretells is what the run had, but for the alignment of a tensor's arrays, three
  // at most.
  constexpr int64_t kAlignment = 256;
  const int64_t slack = 3 * kAlignment * 20;
  const json bytes = json::parse(ReadAll(Path("run/summary.json"))).at("state_bytes");
  for (const char* state : {"weights", "residual", "momentum", "gradients"}) {
    const int64_t foretold = description.at("int8_bytes").at(state);
    const int64_t had = bytes.at(state);
    EXPECT_LE(foretold, had) << state;
    EXPECT_LE(had, foretold + slack) << state;
  }
}

TEST_F(CliTest, DumpedBatchesHoldWhatWasEvaluated) {
  const Result result = Qft({"eval", "--model", model_, "--data", data_, "--all", "--json",
                             "--dump-batches", Path("batches.jsonl")});
  ASSERT_EQ(result.exit_code, 0) << result.error;
  const json loss = json::parse(result.out);
  size_t tokens = 0;
  double weight = 0;
  for (const json& batch : ReadLines(Path("batches.jsonl"))) {
    tokens += batch.at("token_ids").size();
    ASSERT_EQ(batch.at("targets").size(), batch.at("token_ids").size());
    for (const double one : batch.at("loss_weights")) weight += one;
  }
  EXPECT_EQ(loss.at("documents"), 300);
  EXPECT_EQ(loss.at("tokens"), tokens);
  EXPECT_EQ(loss.at("loss_weight"), weight);
}

TEST_F(CliTest, ExampleInCTrainsSavesAndExports) {
  const Result result = RunProgram(QFT_EXAMPLE, {model_, data_, Path("example"), "4"});
  ASSERT_EQ(result.exit_code, 0) << result.error;
  EXPECT_NE(result.out.find("step 4: loss"), std::string::npos) << result.out;
  EXPECT_NE(result.out.find("held-out loss after"), std::string::npos);
  EXPECT_TRUE(fs::exists(Path("example/export/model.safetensors")));
  EXPECT_EQ(Qft({"inspect", Path("example")}).exit_code, 0);
  const Result failed = RunProgram(QFT_EXAMPLE, {Path("missing"), data_, Path("example2")});
  EXPECT_EQ(failed.exit_code, 1);
  EXPECT_NE(failed.error.find("QFT_ERROR_FILE_NOT_FOUND"), std::string::npos) << failed.error;
}

}  // namespace
}  // namespace qft::cli_test
