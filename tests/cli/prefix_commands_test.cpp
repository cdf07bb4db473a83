// What the commands do with a tokenizer whose texts begin with a token.
#include <gtest/gtest.h>
#include <stdlib.h>

#include "include/qft_data.h"
#include "tests/cli/program.h"

namespace qft::cli_test {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr char kToken[] = "<|end|>";  // the tests' tokenizer has no other special token
constexpr int kId = 256;

// As in the tokenizer.json of models whose texts begin with a token.
json BeginsWithToken() {
  return {{"type", "TemplateProcessing"},
          {"single", json::array({{{"SpecialToken", {{"id", kToken}, {"type_id", 0}}}},
                                  {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}})},
          {"pair", json::array()},
          {"special_tokens", {{kToken, {{"id", kToken}, {"ids", {kId}}, {"tokens", {kToken}}}}}}};
}

std::string Chat(const std::string& user, const std::string& assistant) {
  return json{{"messages", json::array({{{"role", "user"}, {"content", user}},
                                        {{"role", "assistant"}, {"content", assistant}}})}}
             .dump() +
         "\n";
}

class PrefixCommandsTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "qft_prefix_commands.XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
    plain_ = Path("plain");
    prefixed_ = Path("prefixed");
    MakeModel(plain_);
    fs::copy(plain_, prefixed_);
    json tokenizer = json::parse(ReadAll(prefixed_ + "/tokenizer.json"));
    tokenizer["post_processor"] = BeginsWithToken();
    WriteAll(prefixed_ + "/tokenizer.json", tokenizer.dump());
    json config = json::parse(ReadAll(prefixed_ + "/tokenizer_config.json"));
    config["bos_token"] = kToken;
    WriteAll(prefixed_ + "/tokenizer_config.json", config.dump());
  }
  void TearDown() override { fs::remove_all(folder_); }

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  static std::string Run(std::vector<std::string> arguments, const std::string& input = "") {
    for (const char* argument : {"--temperature", "1", "--max-tokens", "20"}) {
      arguments.emplace_back(argument);
    }
    const Result result = Qft(arguments, input);
    EXPECT_EQ(result.exit_code, 0) << result.error;
    return result.out;
  }
  // The examples of `qft data`.
  json Examples(const std::string& model, const std::string& chat_template,
                const std::string& lines) const {
    WriteAll(folder_ / "data.jsonl", lines);
    const Result result = Qft({"data", "--model", model, "--data", Path("data.jsonl"),
                               "--chat-template", chat_template, "--held-out", "0", "--json"});
    EXPECT_EQ(result.exit_code, 0) << result.error;
    return json::parse(result.out).at("examples");
  }

  fs::path folder_;
  std::string plain_;
  std::string prefixed_;
};

TEST_F(PrefixCommandsTest, GeneratePutsItBeforeThePromptOnce) {
  const auto generate = [](const std::string& model, const std::string& prompt) {
    return Run({"generate", "--model", model, "--prompt", prompt});
  };
  const std::string answer = generate(plain_, std::string(kToken) + "one two");
  EXPECT_EQ(generate(prefixed_, "one two"), answer);
  EXPECT_EQ(generate(prefixed_, std::string(kToken) + "one two"), answer);
  EXPECT_NE(generate(plain_, "one two"), answer);
}

TEST_F(PrefixCommandsTest, AConversationHasItWhereItsTemplateWritesIt) {
  const auto chat = [](const std::string& model, const std::string& name) {
    return Run({"chat", "--model", model, "--chat-template", name}, "hi\nmore\n");
  };
  EXPECT_EQ(chat(prefixed_, "zephyr"), chat(plain_, "zephyr"));
  const json zephyr = Examples(prefixed_, "zephyr", Chat("hi", "day"));
  EXPECT_NE(zephyr.at(0).at("token_ids").at(0), kId);
  EXPECT_EQ(zephyr, Examples(plain_, "zephyr", Chat("hi", "day")));
  const json mistral = Examples(prefixed_, "mistral-v3", Chat("hi", "day"));
  EXPECT_EQ(mistral.at(0).at("token_ids").at(0), kId);
  EXPECT_NE(mistral.at(0).at("token_ids").at(1), kId);
}

TEST_F(PrefixCommandsTest, DataShowsIt) {
  const json examples = Examples(prefixed_, "zephyr", R"({"text": "one"})");
  const json pieces = {{{"text", kToken}, {"learnt", false}},
                       {{"text", std::string("one") + kToken}, {"learnt", true}}};
  EXPECT_EQ(examples.at(0).at("pieces"), pieces);
}

// A run of SentencePiece's tokens keeps the space that it begins with.
TEST_F(PrefixCommandsTest, DataShowsTheSpacesOfEachRun) {
  const json examples = Examples(QFT_SENTENCEPIECE, "llama-2",
                                 Chat("one", "two") + R"({"prompt": "a", "completion": "b"})");
  const json chat = {{{"text", "<s> [INST] one [/INST]"}, {"learnt", false}},
                     {{"text", " two </s>"}, {"learnt", true}}};
  EXPECT_EQ(examples.at(0).at("pieces"), chat);
  const json text = {{{"text", "<s> a"}, {"learnt", false}},
                     {{"text", " b</s>"}, {"learnt", true}}};
  EXPECT_EQ(examples.at(1).at("pieces"), text);
}

// A seed with which the model says `answer`, one token, after `prompt`.
uint64_t SeedOf(const std::string& folder, const std::string& prompt, const std::string& answer) {
  qft_error* error = nullptr;
  qft_tokenizer* tokenizer = nullptr;
  qft_model* model = nullptr;
  qft_config* config = nullptr;
  qft_session* session = nullptr;
  EXPECT_EQ(QFT_OK, qft_tokenizer_load(folder.data(), folder.size(), &tokenizer, &error));
  EXPECT_EQ(QFT_OK, qft_model_load(folder.data(), folder.size(), &model, &error));
  EXPECT_EQ(QFT_OK, qft_config_create(&config, &error));
  EXPECT_EQ(QFT_OK, qft_session_open(model, config, nullptr, &session, &error));
  qft_generate_options options = {};
  options.struct_size = sizeof(options);
  options.maximum_tokens = 1;
  options.temperature = 1;
  options.prompt_is_whole = 1;
  std::string said(8, '\0');
  for (size_t needed = 0; said.substr(0, needed) != answer && options.seed < 10000;) {
    ++options.seed;
    EXPECT_EQ(QFT_OK, qft_generate(session, tokenizer, prompt.data(), prompt.size(), &options,
                                   nullptr, nullptr, said.data(), said.size(), &needed, &error));
  }
  qft_session_destroy(session);
  qft_config_destroy(config);
  qft_model_destroy(model);
  qft_tokenizer_destroy(tokenizer);
  return options.seed;
}

// A space that comes before an answer is the template's where that writes one, otherwise the
// answer's: the next turn has it once.
TEST_F(PrefixCommandsTest, ChatHasTheSpaceBeforeAnAnswerOnce) {
  for (const auto& [name, open] : std::vector<std::pair<std::string, std::string>>{
           {"mistral-v1", " [INST] "}, {"mistral-v0", "[INST] "}}) {
    const std::string first = kToken + open + "hi [/INST]";
    const uint64_t seed = SeedOf(prefixed_, first, " ");
    const auto run = [this](std::vector<std::string> arguments, uint64_t with_seed,
                            const std::string& input) {
      for (const std::string& argument :
           std::vector<std::string>{"--model", prefixed_, "--seed", std::to_string(with_seed),
                                    "--temperature", "1", "--max-tokens", "1"}) {
        arguments.push_back(argument);
      }
      return Qft(arguments, input).out;
    };
    EXPECT_EQ(run({"generate", "--prompt", first}, seed, ""), " \n");
    const std::string second = first + " " + kToken + open + "more [/INST]";
    // The seed grows by the turns that there are.
    EXPECT_EQ(run({"chat", "--chat-template", name}, seed - 1, "hi\nmore\n"),
              " \n" + run({"generate", "--prompt", second}, seed + 2, ""))
        << name;
  }
}

}  // namespace
}  // namespace qft::cli_test
