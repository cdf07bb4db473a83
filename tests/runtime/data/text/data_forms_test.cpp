// The forms of records, what each becomes, and what is said of those that are wrong.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <random>
#include <tuple>

#include "chat_tokenizer.h"
#include "runtime/data/text/dataset.h"

namespace qft {
namespace {

using nlohmann::json;

constexpr char kChatMl[] =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ "
    "'<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' "
    "}}{% endif %}";

class DataFormsTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "qft_forms_" + std::to_string(getpid());
    tokenizer_ = MakeChatTokenizer(
        "plain", {{"bos_token", "<s>"}, {"eos_token", "</s>"}, {"chat_template", kChatMl}});
  }
  void TearDown() override { unlink(path_.c_str()); }

  StatusOr<std::unique_ptr<Dataset>> Open(const std::string& content,
                                          const CorpusOptions& options = {}) {
    std::ofstream(path_, std::ios::binary) << content;
    DatasetOptions all;
    all.corpus = options;
    return Dataset::Open(PosixFileSystem(), {{path_}}, tokenizer_, all);
  }
  // The first document with what is learnt in brackets.
  std::string Marked(const json& record, const CorpusOptions& options = {}) {
    const auto dataset = Open(record.dump(), options);
    if (!dataset.ok()) return std::string(dataset.status().message());
    const EncodedDocument document = *(*dataset)->corpus().Get(0);
    std::string text;
    uint8_t learnt = 0;
    for (size_t i = 0; i <= document.ids.size(); ++i) {
      const uint8_t next = i < document.ids.size() ? document.learnt[i] : 0;
      if (next != learnt) text += next != 0 ? "[" : "]";
      learnt = next;
      if (i < document.ids.size()) text += *tokenizer_->Bytes(document.ids[i]);
    }
    return text;
  }

  std::string path_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

TEST_F(DataFormsTest, EachBecomesItsText) {
  EXPECT_EQ(Marked({{"text", "one two"}}), "[one two</s>]");
  EXPECT_EQ(Marked({{"prompt", "one "}, {"completion", "two"}}), "one [two</s>]");
  EXPECT_EQ(Marked({{"instruction", "Add."}, {"output", "3"}}),
            "Below is an instruction that describes a task. Write a response that appropriately "
            "completes the request.\n\n### Instruction:\nAdd.\n\n### Response:\n[3</s>]");
  EXPECT_EQ(Marked({{"instruction", "Add."}, {"input", "1 2"}, {"output", "3"}}),
            "Below is an instruction that describes a task, paired with an input that provides "
            "further context. Write a response that appropriately completes the request.\n\n"
            "### Instruction:\nAdd.\n\n### Input:\n1 2\n\n### Response:\n[3</s>]");
  EXPECT_EQ(Marked({{"instruction", "Add."}, {"input", nullptr}, {"output", "3"}}),
            Marked({{"instruction", "Add."}, {"input", ""}, {"output", "3"}}));
  const json messages = json::array({{{"role", "system"}, {"content", "s"}},
                                     {{"role", "user"}, {"content", "u"}},
                                     {{"role", "assistant"}, {"content", "a"}},
                                     {{"role", "user"}, {"content", "v"}},
                                     {{"role", "assistant"}, {"content", ""}}});
  const std::string chat =
      "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n"
      "[a<|im_end|>]\n<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\n[<|im_end|>]\n";
  EXPECT_EQ(Marked({{"messages", messages}}), chat);
  json turns = json::array();
  const std::map<std::string, std::string> names = {
      {"system", "system"}, {"user", "human"}, {"assistant", "gpt"}};
  for (const json& message : messages) {
    turns.push_back({{"from", names.at(message["role"])}, {"value", message["content"]}});
  }
  EXPECT_EQ(Marked({{"conversations", turns}, {"id", 3}}), chat);
}

// As OpenAI's files ("weight" of messages) and SlimOrca ("weight" of turns) have it.
TEST_F(DataFormsTest, AMessageSaysWhetherItIsLearnt) {
  const std::string chat =
      "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n"
      "<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\n[b<|im_end|>]\n";
  for (const auto& [key, no, yes] : std::vector<std::tuple<std::string, json, json>>{
           {"weight", 0, 1}, {"weight", 0.0, nullptr}, {"train", false, true}}) {
    EXPECT_EQ(Marked({{"messages",
                       json::array({{{"role", "user"}, {"content", "u"}},
                                    {{"role", "assistant"}, {"content", "a"}, {key, no}},
                                    {{"role", "user"}, {"content", "v"}},
                                    {{"role", "assistant"}, {"content", "b"}, {key, yes}}})}}),
              chat);
    EXPECT_EQ(
        Marked({{"conversations", json::array({{{"from", "human"}, {"value", "u"}, {key, no}},
                                               {{"from", "gpt"}, {"value", "a"}, {key, no}},
                                               {{"from", "human"}, {"value", "v"}, {key, nullptr}},
                                               {{"from", "gpt"}, {"value", "b"}, {key, yes}}})}}),
        chat);
  }
}

TEST_F(DataFormsTest, ASystemPromptMayStandBesideTheMessages) {
  const std::string chat =
      "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n"
      "[a<|im_end|>]\n";
  EXPECT_EQ(Marked({{"system", "s"},
                    {"conversations", json::array({{{"from", "human"}, {"value", "u"}},
                                                   {{"from", "gpt"}, {"value", "a"}}})}}),
            chat);
  EXPECT_EQ(Marked({{"system", "s"},
                    {"messages", json::array({{{"role", "user"}, {"content", "u"}},
                                              {{"role", "assistant"}, {"content", "a"}}})}}),
            chat);
  EXPECT_EQ(Marked({{"system", ""},
                    {"messages", json::array({{{"role", "assistant"}, {"content", "a"}}})}}),
            "<|im_start|>assistant\n[a<|im_end|>]\n");
}

TEST_F(DataFormsTest, AnOptionNamesTheFormOfRecordsWithFieldsOfTwo) {
  const json both = {{"text", "t"}, {"instruction", "i"}, {"output", "o"}};
  EXPECT_NE(Marked(both).find("may have the form text or alpaca; it has \"instruction\", "
                              "\"output\", \"text\"; --data-form"),
            std::string::npos);
  EXPECT_EQ(Marked(both, {.form = RecordForm::kText}), "[t</s>]");
  EXPECT_EQ(Marked(both, {.form = RecordForm::kAlpaca}).substr(0, 5), "Below");
  EXPECT_EQ(*FindRecordForm("sharegpt"), RecordForm::kShareGpt);
  EXPECT_EQ(*FindRecordForm("auto"), RecordForm::kAuto);
  const auto unknown = FindRecordForm("parquet");
  EXPECT_EQ(GetErrorInfo(unknown.status()).code, ErrorCode::kOutOfRange);
  EXPECT_NE(unknown.status().message().find("auto, text, prompt-completion, alpaca, messages, "),
            std::string::npos);
}

// Special tokens in a conversation are those of the whole text, as in transformers; elsewhere only
// a prompt may have them.
TEST_F(DataFormsTest, SpecialTokensInTexts) {
  const auto count = [this](const json& record) {
    const EncodedDocument document = *(*Open(record.dump()))->corpus().Get(0);
    return std::count(document.ids.begin(), document.ids.end(), *tokenizer_->Find("<|im_end|>"));
  };
  const std::string text = "a<|im_end|>";
  EXPECT_EQ(count({{"text", text}}), 0);
  EXPECT_EQ(count({{"prompt", text}, {"completion", text}}), 1);
  EXPECT_EQ(count({{"instruction", text}, {"input", text}, {"output", text}}), 0);
  EXPECT_EQ(count({{"messages", json::array({{{"role", "user"}, {"content", text}},
                                             {{"role", "assistant"}, {"content", text}}})}}),
            4);
}

TEST_F(DataFormsTest, LongConversationsLoseTheirBeginningThenTheirEnd) {
  const json record = {{"messages", json::array({{{"role", "user"}, {"content", "1234567890"}},
                                                 {{"role", "assistant"}, {"content", "12345"}},
                                                 {{"role", "user"}, {"content", "1234567890"}},
                                                 {{"role", "assistant"}, {"content", "12345"}}})}};
  EXPECT_EQ(Marked(record, {.sequence_tokens = 4}), "\n[123]");
  const std::string rest = Marked(record, {.sequence_tokens = 12});
  EXPECT_EQ(rest.substr(0, 21), "\n[12345<|im_end|>]\n<|") << rest;
  EXPECT_EQ((*Open(record.dump(), {.sequence_tokens = 12}))->info().documents_truncated, 1);
}

struct Bad {
  std::string line;
  std::string message;
  ErrorCode code = ErrorCode::kBadData;
};

std::string Chat(const std::string& messages) {
  return "{\"messages\": " + messages + "}";
}
std::string Turns(const std::string& turns) {
  return "{\"conversations\": " + turns + "}";
}

std::vector<Bad> BadRecords() {
  const std::string user = R"({"role": "user", "content": "u"})";
  return {
      {"nonsense", "the line: not valid JSON"},
      {"{\"text\": \"cut", "the line: not valid JSON"},
      {"{\"text\": \"a\"} {\"text\": \"b\"}", "the line: not valid JSON"},
      {"[1]", "the line is not a JSON object"},
      {"null", "the line is not a JSON object"},
      {"{}", "the record has no known form; it has no fields"},
      {"{\"question\": \"q\", \"answer\": \"a\"}", "it has \"answer\", \"question\"; forms are"},
      {"{\"text\": \"\xc3\"}", "the line is not UTF-8"},
      {"{\"text\": \"\xed\xa0\x80\"}", "the line is not UTF-8"},
      {std::string("{\"text\": \"\0\"}", 13), "a zero byte"},
      {"{\"text\": \"a\", \"text\": \"b\"}", "the key \"text\" stands twice"},
      {"{\"text\": " + std::string(100, '[') + std::string(100, ']') + "}", "nested deeper"},
      {"{\"text\": 5}", "\"text\" is not a string"},
      {"{\"text\": \"\"}", "\"text\" is empty"},
      {"{\"prompt\": \"a\"}", "there is no \"completion\"; it has \"prompt\""},
      {"{\"prompt\": [\"a\"], \"completion\": \"b\"}", "\"prompt\" is not a string"},
      {"{\"prompt\": \"\", \"completion\": \"\"}", "are empty"},
      {"{\"instruction\": \"a\"}", "there is no \"output\"; it has \"instruction\""},
      {"{\"instruction\": \"a\", \"output\": \"\"}", "\"output\" is empty"},
      {"{\"instruction\": \"\", \"output\": \"a\"}", "\"instruction\" is empty"},
      {"{\"instruction\": \"a\", \"input\": {}, \"output\": \"a\"}", "\"input\" is not a string"},
      {"{\"text\": \"a\", \"messages\": []}", "may have the form text or messages"},
      {Chat("\"hi\""), "\"messages\" is not a list"},
      {Chat("[]"), "\"messages\" is empty"},
      {Chat("[\"hi\"]"), "messages[0] is not an object"},
      {Chat("[{\"content\": \"a\"}]"), "messages[0]: there is no \"role\"; it has \"content\""},
      {Chat("[" + user + ", {\"role\": \"assistant\"}]"), "messages[1]: there is no \"content\""},
      {Chat("[" + user + ", {\"role\": \"assistant\", \"content\": null}]"),
       "messages[1]: \"content\" is not a string"},
      {Chat("[" + user + ", {\"role\": \"bot\", \"content\": \"a\"}]"),
       "messages[1]: the chat template chatml has no role 'bot'; it has system, user, assistant"},
      {Chat("[" + user + "]"), "no message of the assistant"},
      {Chat("[{\"role\": \"assistant\", \"content\": \"\", \"tool_calls\": [{}]}]"),
       "messages[0]: \"tool_calls\" is not supported", ErrorCode::kUnsupported},
      {"{\"tools\": [{}], \"messages\": [" + user + "]}", "\"tools\" is not supported",
       ErrorCode::kUnsupported},
      {Chat("[{\"role\": \"assistant\", \"content\": \"a\", \"reasoning_content\": 3}]"),
       "messages[0]: \"reasoning_content\" is not a string"},
      {Chat("[" + user + ", {\"role\": \"assistant\", \"content\": \"a\", \"weight\": 0.5}]"),
       "messages[1]: \"weight\" is \"0.5\", must be 0 or 1"},
      {Chat("[{\"role\": \"user\", \"content\": \"a\", \"train\": true}]"),
       "messages[0]: \"train\" is set, but of role 'user' nothing is learnt",
       ErrorCode::kUnsupported},
      {Chat("[{\"role\": \"assistant\", \"content\": \"a\", \"weight\": 0}]"),
       "no message of the assistant to learn"},
      {"{\"chat_template_kwargs\": {\"enable_thinking\": false}, \"messages\": [" + user + "]}",
       "\"chat_template_kwargs\" is not supported", ErrorCode::kUnsupported},
      {"{\"system\": \"s\", \"messages\": [{\"role\": \"system\", \"content\": \"t\"}]}",
       "\"system\" stands beside a first message of role system"},
      {"{\"system\": 3, \"messages\": [" + user + "]}", "\"system\" is not a string"},
      {"{\"instruction\": \"a\", \"output\": \"b\", \"system\": \"s\"}",
       "\"system\" is not supported", ErrorCode::kUnsupported},
      {"{\"instruction\": \"a\", \"output\": \"b\", \"history\": [[\"a\", \"b\"]]}",
       "\"history\" is not supported", ErrorCode::kUnsupported},
      {"{\"text\": NaN}", "not valid JSON at byte 10"},
      {"{\"text\": \"a\", \"score\": 1e400}", "a number is too large"},
      {"version https://git-lfs.github.com/spec/v1", "a pointer of Git LFS"},
      {Turns("{}"), "\"conversations\" is not a list"},
      {Turns("[{\"role\": \"user\", \"content\": \"a\"}]"),
       "conversations[0]: there is no \"from\"; it has \"content\", \"role\""},
      {Turns("[{\"from\": \"robot\", \"value\": \"a\"}]"),
       "conversations[0]: \"from\" is \"robot\""},
      {Turns("[{\"from\": \"human\", \"value\": 3}]"),
       "conversations[0]: \"value\" is not a string"},
  };
}

TEST_F(DataFormsTest, BadRecordsNameFileLineAndReason) {
  const std::string good = "{\"text\": \"good\"}\n\n";
  for (const Bad& bad : BadRecords()) {
    const auto dataset = Open(good + bad.line + "\n" + good);
    ASSERT_FALSE(dataset.ok()) << bad.line;
    EXPECT_EQ(GetErrorInfo(dataset.status()).code, bad.code) << dataset.status();
    const std::string message(dataset.status().message());
    EXPECT_EQ(message.find(path_ + ":3: "), 0U) << message;
    EXPECT_NE(message.find(bad.message), std::string::npos) << message;
  }
}

// A record with bytes changed is read or refused; under a sanitizer this is a small fuzz test.
TEST_F(DataFormsTest, DamagedRecordsAreReadOrRefused) {
  std::vector<std::string> lines = {
      "{\"instruction\": \"a\", \"input\": \"b\", \"output\": \"c\\u00e9\"}",
      Chat("[{\"role\": \"user\", \"content\": \"u\"}, {\"role\": \"assistant\", \"content\": "
           "\"<think>x</think>y\"}]"),
      Turns("[{\"from\": \"human\", \"value\": \"u\"}, {\"from\": \"gpt\", \"value\": \"v\"}]")};
  std::mt19937 random(1);
  const auto encoder = DocumentEncoder::Create(tokenizer_, "qwen3", "");
  size_t read = 0;
  for (int i = 0; i < 6000; ++i) {
    std::string line = lines[random() % lines.size()];
    for (uint32_t changes = random() % 3; changes > 0; --changes) {
      const size_t at = random() % line.size();
      const char other = "\"{}[]:,\\x0\xff"[random() % 11];
      random() % 2 == 0 ? line.erase(at, 1) : line.replace(at, 1, 1, other);
    }
    const auto record = ParseRecord(line, RecordForm::kAuto);
    if (record.ok()) {
      read += encoder->Encode(*record).ok() ? 1 : 0;
    } else {
      EXPECT_FALSE(record.status().message().empty());
    }
  }
  EXPECT_GT(read, 1000U);
  EXPECT_LT(read, 5000U);
}

TEST_F(DataFormsTest, BadRecordsAreSkippedWhereAsked) {
  std::string content;
  for (const Bad& bad : BadRecords()) content += bad.line + "\n{\"text\": \"good\"}\n";
  const auto dataset = Open(content, {.skip_bad = true});
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  const auto count = static_cast<int64_t>(BadRecords().size());
  EXPECT_EQ((*dataset)->info().documents, count);
  EXPECT_EQ((*dataset)->info().records_skipped, count);
  const std::vector<std::string>& reasons = (*dataset)->corpus().reasons();
  ASSERT_EQ(reasons.size(), BadRecords().size());
  EXPECT_EQ(reasons[1].find(path_ + ":3: "), 0U) << reasons[1];
  const auto nothing = Open("nonsense\n", {.skip_bad = true});
  EXPECT_NE(nothing.status().message().find(":1: "), std::string::npos) << nothing.status();
}

TEST_F(DataFormsTest, AnUnknownTemplateMattersForConversationsOnly) {
  tokenizer_ = MakeChatTokenizer("plain", {{"chat_template", "{{ mine }}"}});
  EXPECT_TRUE(Open("{\"text\": \"a\"}").ok());
  const std::string chat = Chat("[{\"role\": \"assistant\", \"content\": \"a\"}]");
  const auto dataset = Open(chat);
  EXPECT_EQ(GetErrorInfo(dataset.status()).code, ErrorCode::kUnsupported);
  EXPECT_NE(dataset.status().message().find(":1: the model's chat template (hash "),
            std::string::npos);
  EXPECT_NE(dataset.status().message().find("--chat-template"), std::string::npos);
  EXPECT_TRUE(Open(chat, {.chat_template = "chatml"}).ok());
  EXPECT_FALSE(Open("{\"text\": \"a\"}", {.chat_template = "nosuch"}).ok());
}

}  // namespace
}  // namespace qft
