// qft plan: what training would hold, from a shape alone.
#include <gtest/gtest.h>
#include <stdlib.h>

#include "tests/cli/program.h"

namespace qft::cli_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using Arguments = std::vector<std::string>;

class PlanCommandTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "qft_plan_command.XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }

  fs::path folder_;
};

Result Plan(const Arguments& options) {
  Arguments arguments = {"plan"};
  arguments.insert(arguments.end(), options.begin(), options.end());
  return Qft(arguments);
}

json PlanJson(Arguments options, int exit_code = 0) {
  options.push_back("--json");
  const Result result = Plan(options);
  EXPECT_EQ(result.exit_code, exit_code) << result.error;
  EXPECT_EQ(result.error, "");
  return json::parse(result.out);
}

int64_t TierBytes(const json& plan, const std::string& name) {
  for (const json& tier : plan.at("tiers")) {
    if (tier.at("tier") == name) return tier.at("bytes");
  }
  return -1;
}

TEST_F(PlanCommandTest, KnowsTheNamedShapes) {
  const std::vector<std::pair<const char*, int64_t>> shapes = {
      {"llama-7b", 6738415616},     {"llama-13b", 13015864320},  {"llama-33b", 32528943616},
      {"llama-65b", 65285660672},   {"llama-2-7b", 6738415616},  {"llama-2-13b", 13015864320},
      {"llama-2-70b", 68976648192}, {"llama-3-8b", 8030261248},  {"llama-3.1-8b", 8030261248},
      {"llama-3.2-1b", 1235814400}, {"mistral-7b", 7248023552},  {"qwen2.5-7b", 7615616512},
      {"qwen3-8b", 8190735360},     {"smollm2-135m", 134515008},
  };
  const std::string help = Plan({"--help"}).out;
  for (const auto& [name, parameters] : shapes) {
    EXPECT_NE(help.find(name), std::string::npos) << name;
    const Result result = Plan({"--model", name, "--device", "h100-80gb", "--json"});
    const json plan = json::parse(result.out);
    EXPECT_EQ(plan.at("parameters"), parameters) << name;
    EXPECT_EQ(result.exit_code, plan.at("fits").get<bool>() ? 0 : 1) << name;
  }
}

TEST_F(PlanCommandTest, TellsAPersonWhatIsPlannedAndWhy) {
  const Result result =
      Plan({"--model", "llama-2-7b", "--batch", "3", "--device", "h100-80gb",
            "--device-memory-limit", "30G", "--gradients", "fused", "--set", "residual_bits=0"});
  ASSERT_EQ(result.exit_code, 0) << result.error;
  EXPECT_EQ(result.out.rfind("model     llama-2-7b: 6.74 B parameters\n"
                             "device    cuda: NVIDIA H100 80GB HBM3, sm_90, 132 multiprocessors, "
                             "not present (h100-80gb, its memory and context measured)\n"
                             "step      1 micro-batches of 3 x 2048 tokens\n"
                             "gradients fused (asked for)\n"
                             "recompute of 32 blocks 0 recomputed, ",
                             0),
            0U)
      << result.out;
  for (const char* part :
       {"  device   weights ", "  device   momentum ", "  device   context ", "  device   in all ",
        " of 30.00 GB\n", "           left free ", "\nIt fits.\n"}) {
    EXPECT_NE(result.out.find(part), std::string::npos) << part << result.out;
  }
}

TEST_F(PlanCommandTest, WhatItSaysWouldFitDoes) {
  const Arguments asked = {"--model", "llama-13b", "--batch", "4", "--device", "4090-24gb"};
  const Result told = Plan(asked);
  EXPECT_EQ(told.exit_code, 1);
  EXPECT_NE(told.out.find("It does not fit."), std::string::npos) << told.out;
  const Arguments small = {"--model", "llama-2-7b", "--batch", "8", "--device", "4090-24gb"};
  const json plan = PlanJson(small, 1);
  ASSERT_FALSE(plan.at("would_fit").empty());
  for (const json& remedy : plan.at("would_fit")) {
    Arguments options = {"--model", "llama-2-7b", "--device", "4090-24gb"};
    int64_t tokens = 8 * 2048;
    for (const auto& [key, value] : remedy.at("settings").items()) {
      if (key == "micro_batch_tokens") {
        tokens = std::stoll(value.get<std::string>());
      } else {
        options.insert(options.end(), {"--set", key + "=" + value.get<std::string>()});
      }
    }
    options.insert(options.end(), {"--seq", std::to_string(tokens)});
    EXPECT_EQ(TierBytes(PlanJson(options), "device"), remedy.at("bytes").get<int64_t>()) << remedy;
  }
}

TEST_F(PlanCommandTest, CountsMicroBatchesOfAStep) {
  const Arguments shape = {"--model", "smollm2-135m", "--batch",  "2",
                           "--seq",   "512",          "--device", "4090-24gb"};
  for (const auto& [tokens, count] :
       std::vector<std::pair<const char*, int>>{{"1", 1}, {"1024", 1}, {"1025", 2}, {"8192", 8}}) {
    Arguments options = shape;
    options.insert(options.end(), {"--tokens-per-step", tokens});
    const json plan = PlanJson(options);
    EXPECT_EQ(plan.at("micro_batches"), count) << tokens;
    EXPECT_EQ(plan.at("micro_batch_tokens"), 1024);
  }
  Arguments both = shape;
  both.insert(both.end(), {"--tokens-per-step", "1", "--micro-batches", "2"});
  EXPECT_EQ(Plan(both).exit_code, 2);
}

TEST_F(PlanCommandTest, ReadsNothingOfAFolderButItsConfiguration) {
  MakeModel(Path("model"));
  const Arguments options = {"--model", Path("model"),           "--engine", "cpu", "--seq",
                             "64",      "--device-memory-limit", "1G"};
  const json whole = PlanJson(options);
  WriteAll(Path("model/model.safetensors"), "not a tensor in sight");
  EXPECT_EQ(PlanJson(options), whole);
  fs::remove(Path("model/model.safetensors"));
  EXPECT_EQ(PlanJson(options), whole);
}

TEST_F(PlanCommandTest, IsWhatBenchHolds) {
  MakeModel(Path("model"));
  for (const char* gradients : {"stack", "fused"}) {
    const Arguments shape = {"--model", Path("model"), "--batch",     "2",      "--seq",
                             "64",      "--json",      "--gradients", gradients};
    Arguments bench = {"bench", "--steps", "1"};
    bench.insert(bench.end(), shape.begin(), shape.end());
    const Result result = Qft(bench);
    ASSERT_EQ(result.exit_code, 0) << result.error;
    Arguments options = shape;
    options.insert(options.end(), {"--engine", "cpu"});
    const json plan = json::parse(Plan(options).out);
    const json told = json::parse(result.out);
    EXPECT_EQ(told.at("planned_device_bytes").get<int64_t>(), TierBytes(plan, "host"));
    EXPECT_EQ(told.at("planned_bytes"), plan.at("bytes"));
  }
}

TEST_F(PlanCommandTest, RefusesInPlainWords) {
  const auto refused = [](const Arguments& options, int exit_code, const std::string& part) {
    const Result result = Plan(options);
    EXPECT_EQ(result.exit_code, exit_code);
    EXPECT_EQ(result.out, "");
    EXPECT_EQ(result.error.rfind("qft: ", 0), 0U) << result.error;
    EXPECT_NE(result.error.find(part), std::string::npos) << result.error;
  };
  refused({}, 2, "--model");
  refused({"--model", Path("nowhere")}, 2, "llama-2-7b");
  refused({"--model", "llama-2-7b", "--device", "voodoo"}, 1, "h100-80gb");
  refused({"--model", "llama-2-7b", "--engine", "cpu", "--device", "h100-80gb"}, 1, "cpu engine");
  refused({"--model", "llama-2-7b", "--set", "nonsense=1"}, 2, "nonsense");
  fs::create_directory(Path("bad"));
  for (const char* text : {"", "{", "[]", "{}", R"({"model_type": "mamba"})",
                           R"({"model_type": "llama", "hidden_size": -1})"}) {
    WriteAll(Path("bad/config.json"), text);
    refused({"--model", Path("bad")}, 1, "config");
  }
}

}  // namespace
}  // namespace qft::cli_test
