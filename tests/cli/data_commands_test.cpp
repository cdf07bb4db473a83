// What the command line does with data of all forms, conversations and names of models.
#include <gtest/gtest.h>
#include <stdlib.h>

#include "tests/cli/program.h"

namespace qft::cli_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string Lines(const std::vector<json>& records) {
  std::string lines;
  for (const json& record : records) lines += record.dump() + "\n";
  return lines;
}

json Conversation(const std::string& user, const std::string& assistant) {
  return {{"messages", json::array({{{"role", "user"}, {"content", user}},
                                    {{"role", "assistant"}, {"content", assistant}}})}};
}

class DataCommandsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "qft_data_commands.XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    model_ = Path("model");
    MakeModel(model_);
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  std::string Write(const std::string& name, const std::string& content) const {
    WriteAll(Path(name), content);
    return Path(name);
  }
  static void ExpectError(const Result& result, int exit_code, const std::string& part) {
    EXPECT_EQ(result.exit_code, exit_code);
    EXPECT_EQ(result.error.rfind("qft: ", 0), 0U) << result.error;
    EXPECT_NE(result.error.find(part), std::string::npos) << result.error;
  }

  fs::path folder_;
  std::string model_;
};

TEST_F(DataCommandsTest, DataShowsWhatIsLearntCutAndSkipped) {
  const std::string file =
      Write("data.jsonl", Lines({Conversation("hi", "good \x1b[31m day"),
                                 {{"wrong", 1}},
                                 {{"text", "0123456789012345678901234567890123456789"}}}));
  const std::vector<std::string> arguments = {
      "data",   "--model",    model_, "--data",     file, "--chat-template",
      "zephyr", "--sequence", "40",   "--held-out", "0",  "--micro-batch-tokens",
      "80"};
  ExpectError(Qft(arguments), 1, file + ":2: the record has no known form; it has \"wrong\"");
  std::vector<std::string> skipping = arguments;
  skipping.emplace_back("--skip-bad-records");
  const Result text = Qft(skipping);
  ASSERT_EQ(text.exit_code, 0) << text.error;
  EXPECT_NE(text.out.find("<|assistant|>\n\u27E6good \\x1b[31m day"), std::string::npos)
      << text.out;
  EXPECT_EQ(text.out.find('\x1b'), std::string::npos);
  EXPECT_NE(text.out.find(file + ":3  40 tokens, 40 learnt, 1 cut off\n"), std::string::npos);
  EXPECT_NE(text.out.find("skipped    1 records that are wrong\n  " + file + ":2: "),
            std::string::npos);

  skipping.emplace_back("--json");
  const json told = json::parse(Qft(skipping).out);
  const json& counts = told.at("files").at(0);
  EXPECT_EQ(counts.at("documents"), 2);
  EXPECT_EQ(counts.at("cut"), 2);
  EXPECT_EQ(told.at("epoch").at("tokens"), counts.at("tokens"));
  EXPECT_EQ(told.at("epoch").at("packing_efficiency"),
            counts.at("tokens").get<double>() / (80 * told.at("epoch").at("batches").get<int>()));
  EXPECT_EQ(told.at("skipped").at("records"), 1);
  int64_t learnt = 0;
  for (const json& example : told.at("examples")) {
    EXPECT_EQ(example.at("token_ids").size(), example.at("learnt").size());
    for (const int one : example.at("learnt")) learnt += one;
  }
  EXPECT_EQ(counts.at("learnt"), learnt);
}

TEST_F(DataCommandsTest, FilesAreMixedByWeightAndResumed) {
  std::vector<json> first;
  std::vector<json> second;
  for (int i = 0; i < 120; ++i) {
    first.push_back({{"text", "a" + std::to_string(i)}});
    second.push_back({{"prompt", "b"}, {"completion", std::to_string(i)}});
  }
  const std::string a = Write("a.jsonl", Lines(first));
  const std::string b = Write("b.jsonl", Lines(second));
  const std::vector<std::string> common = {"--model",    model_, "--held-out",           "0.05",
                                           "--sequence", "32",   "--micro-batch-tokens", "64"};
  const auto with = [&common](std::vector<std::string> arguments) {
    arguments.insert(arguments.end(), common.begin(), common.end());
    return arguments;
  };
  ExpectError(Qft(with({"data", "--data", a + "=0.7", "--data", b})), 1, "weights");
  ExpectError(Qft(with({"data", "--data", a + "=0"})), 2, "above 0");
  const json told =
      json::parse(Qft(with({"data", "--data", a + "=0.75", "--data", b + "=0.25", "--json"})).out);
  EXPECT_EQ(told.at("files").at(0).at("weight"), 0.75);
  EXPECT_EQ(told.at("files").at(1).at("path"), b);

  const auto finetune = [&](const std::string& output, const std::string& steps) {
    return Qft(with({"finetune", "--data", a + "=0.75", "--data", b + "=0.25", "--data-memory",
                     "256", "--output", Path(output), "--schedule", "constant", "--steps", steps,
                     "--threads", "1"}));
  };
  const Result whole = finetune("whole", "12");
  ASSERT_EQ(whole.exit_code, 0) << whole.error;
  EXPECT_NE(whole.error.find("estimate about "), std::string::npos) << whole.error;
  EXPECT_NE(whole.out.find("AdamW's would be 10 times as large, 0.0001\n"), std::string::npos);
  ASSERT_EQ(finetune("halves", "5").exit_code, 0);
  const Result resumed =
      Qft({"finetune", "--resume", Path("halves"), "--steps", "12", "--threads", "1"});
  ASSERT_EQ(resumed.exit_code, 0) << resumed.error;
  const auto losses = [this](const std::string& output) {
    std::vector<double> values;
    for (const json& line : OfType(ReadLines(Path(output) + "/metrics.jsonl"), "train")) {
      values.push_back(line.at("loss"));
    }
    return values;
  };
  EXPECT_EQ(losses("halves"), losses("whole"));
  EXPECT_EQ(losses("whole").size(), 12U);
  EXPECT_EQ(Qft({"eval", "--checkpoint", Path("whole")}).exit_code, 0);
}

TEST_F(DataCommandsTest, ChatRendersStreamsAndRemembers) {
  const std::vector<std::string> sampling = {"--temperature", "1", "--max-tokens", "30"};
  const auto run = [&sampling](std::vector<std::string> arguments, const std::string& input) {
    arguments.insert(arguments.end(), sampling.begin(), sampling.end());
    const Result result = Qft(arguments, input);
    EXPECT_EQ(result.exit_code, 0) << result.error;
    return result.out;
  };
  const auto generate = [&](const std::string& prompt, const std::string& seed) {
    return run({"generate", "--model", model_, "--prompt", prompt, "--seed", seed}, "");
  };
  const std::vector<std::string> chat = {"chat",   "--model",  model_, "--chat-template",
                                         "zephyr", "--system", "short"};
  // The tokenizer's end token, which ends each turn of this template.
  const std::string end = "<|end|>";
  const std::string start =
      "<|system|>\nshort" + end + "\n<|user|>\nhi" + end + "\n<|assistant|>\n";
  std::string first = generate(start, "2");
  EXPECT_EQ(run(chat, "hi\n"), first);
  EXPECT_EQ(run(chat, "\nhi\r\n/reset\nhi\n/exit\nhi\n"), first + first);
  first.pop_back();
  const std::string second =
      generate(start + first + end + "\n<|user|>\nmore" + end + "\n<|assistant|>\n", "4");
  EXPECT_EQ(run(chat, "hi\nmore"), first + "\n" + second);
}

TEST_F(DataCommandsTest, ChatNeedsATemplateItKnows) {
  ExpectError(Qft({"chat", "--model", model_}), 1, "--chat-template names one");
  ExpectError(Qft({"chat", "--model", model_, "--chat-template", "chatml"}), 1,
              "the tokenizer has no token '<|im_end|>'");
  ExpectError(Qft({"chat", "--model", model_, "--chat-template", "nosuch"}), 1, "zephyr");
}

TEST_F(DataCommandsTest, ModelsAreFoundInTheLocalCache) {
  const fs::path entry = folder_ / "cache/hub/models--some-org--tiny.model-1";
  fs::create_directories(entry / "snapshots");
  fs::create_directories(entry / "refs");
  fs::create_directory_symlink(model_, entry / "snapshots/0123abc");
  setenv("HF_HOME", Path("cache").c_str(), 1);
  unsetenv("HF_HUB_CACHE");
  const std::vector<std::string> inspect = {"inspect", "some-org/tiny.model-1", "--json"};
  ExpectError(Qft(inspect), 1, "refs/main");
  WriteAll(entry / "refs/main", "0123abc");
  EXPECT_EQ(json::parse(Qft(inspect).out).at("model"), (entry / "snapshots/0123abc").string());
  EXPECT_EQ(Qft({"generate", "--model", "some-org/tiny.model-1", "--prompt", "a"}).exit_code, 0);
  ExpectError(Qft({"inspect", "some-org/other"}), 1,
              "not in the cache " + Path("cache/hub") + ", which holds some-org/tiny.model-1");
  WriteAll(entry / "refs/main", "fedc");
  ExpectError(Qft(inspect), 1, "snapshots/fedc");
  WriteAll(entry / "refs/main", "");
  ExpectError(Qft(inspect), 1, "snapshots");
  setenv("HF_HUB_CACHE", Path("nowhere").c_str(), 1);
  ExpectError(Qft(inspect), 1, Path("nowhere") + ", which holds nothing");
  unsetenv("HF_HUB_CACHE");
  unsetenv("HF_HOME");
  // Paths are paths, whatever they look like.
  ExpectError(Qft({"inspect", "../missing"}), 1, "../missing");
}

}  // namespace
}  // namespace qft::cli_test
