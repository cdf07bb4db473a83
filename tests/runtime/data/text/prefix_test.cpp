// What documents, prompts and answers begin with where the tokenizer has a prefix, as those of
// LLaMA and Mistral.
#include <gtest/gtest.h>
#include <unistd.h>

#include "chat_tokenizer.h"
#include "runtime/data/text/dataset.h"
#include "runtime/data/text/document_encoder.h"

namespace qft {
namespace {

using nlohmann::json;

constexpr int32_t kBegin = 1;  // "<s>"
constexpr int32_t kEnd = 2;    // "</s>"

const json kConfig = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};

class PrefixTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "qft_prefix_" + std::to_string(getpid());
    tokenizer_ = MakeChatTokenizer("llama2", kConfig);
  }
  void TearDown() override { unlink(path_.c_str()); }

  EncodedDocument First(const std::string& content, const CorpusOptions& options = {}) {
    std::ofstream(path_, std::ios::binary) << content;
    DatasetOptions all;
    all.corpus = options;
    const auto dataset = Dataset::Open(PosixFileSystem(), {{path_}}, tokenizer_, all);
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    return dataset.ok() ? *(*dataset)->corpus().Get(0) : EncodedDocument();
  }
  std::vector<int32_t> Ids(const std::string& text, bool special = true) {
    std::vector<int32_t> ids;
    EXPECT_TRUE(tokenizer_->Encode(text, special, &ids).ok());
    return ids;
  }

  std::string path_;
  std::shared_ptr<const Tokenizer> tokenizer_;
};

std::vector<int32_t> Joined(std::initializer_list<std::vector<int32_t>> parts) {
  std::vector<int32_t> ids;
  for (const std::vector<int32_t>& part : parts) ids.insert(ids.end(), part.begin(), part.end());
  return ids;
}

TEST_F(PrefixTest, TextsBeginWithItOnce) {
  const auto expect = [this](const json& record, const std::vector<int32_t>& prompt,
                             const std::string& learnt) {
    const EncodedDocument document = First(record.dump());
    const std::vector<int32_t> text = Ids(learnt, /*special=*/false);
    EXPECT_EQ(document.ids, Joined({{kBegin}, prompt, text, {kEnd}})) << record;
    std::vector<uint8_t> mask(document.ids.size(), 0);
    std::fill(mask.begin() + 1 + std::ssize(prompt), mask.end(), 1);
    EXPECT_EQ(document.learnt, mask) << record;
  };
  expect({{"text", "one two"}}, {}, "one two");
  // In a text it is no special token.
  expect({{"text", "<s>one"}}, {}, "<s>one");
  expect({{"prompt", "one"}, {"completion", "two"}}, Ids("one"), "two");
  expect({{"prompt", "<s>one"}, {"completion", "two"}}, Ids("one"), "two");
  expect({{"prompt", ""}, {"completion", "two"}}, {}, "two");
  const EncodedDocument alpaca = First(json{{"instruction", "<s>"}, {"output", "3"}}.dump());
  EXPECT_EQ(std::count(alpaca.ids.begin(), alpaca.ids.end(), kBegin), 1);
  EXPECT_EQ(alpaca.ids.front(), kBegin);
}

TEST_F(PrefixTest, ADocumentIsMoreThanIt) {
  std::ofstream(path_) << json{{"prompt", "<s>"}, {"completion", ""}}.dump();
  const auto dataset = Dataset::Open(PosixFileSystem(), {{path_}}, tokenizer_, {});
  ASSERT_FALSE(dataset.ok());
  EXPECT_NE(dataset.status().message().find("no tokens"), std::string::npos) << dataset.status();
}

// A template that writes it has it once, one that does not has none.
TEST_F(PrefixTest, AConversationIsWhatItsTemplateWrites) {
  const json record = {{"messages", json::array({{{"role", "user"}, {"content", "one"}},
                                                 {{"role", "assistant"}, {"content", "two"}}})}};
  for (const auto& [name, text] : std::vector<std::pair<std::string, std::string>>{
           {"llama-2", "<s>[INST] one [/INST] two </s>"},
           {"mistral-v0", "<s>[INST] one [/INST]two</s>"},
           {"mistral-v1", "<s> [INST] one [/INST] two</s>"},
           {"mistral-v3", "<s>[INST] one[/INST] two</s>"},
           {"zephyr", "<|user|>\none</s>\n<|assistant|>\ntwo</s>\n"}}) {
    EXPECT_EQ(First(record.dump(), {.chat_template = name}).ids, Ids(text)) << name;
  }
}

TEST_F(PrefixTest, NothingIsAddedToTokens) {
  const auto number = [](uint64_t value, size_t size) {
    return std::string(reinterpret_cast<const char*>(&value), size);
  };
  const std::string file = "QFTTOKEN" + number(1, 4) + number(2, 4) + number(0, 8) + number(3, 8) +
                           number(1, 8) + number(7, 2) + number(8, 2) + number(9, 2) + number(3, 8);
  EXPECT_EQ(First(file).ids, (std::vector<int32_t>{7, 8, 9}));
}

TEST_F(PrefixTest, IsKeptWhenADocumentIsCut) {
  const auto cut = [](const std::vector<int32_t>& prefix, std::vector<int32_t> ids, int prompt,
                      int64_t most) {
    EncodedDocument document;
    document.learnt.assign(ids.size(), 1);
    std::fill_n(document.learnt.begin(), prompt, 0);
    document.ids = std::move(ids);
    const auto size = std::ssize(document.ids);
    const int64_t went = Truncate(most, prefix, &document);
    EXPECT_EQ(went, size - std::ssize(document.ids));
    EXPECT_EQ(document.learnt.size(), document.ids.size());
    return document.ids;
  };
  using Ids = std::vector<int32_t>;
  EXPECT_EQ(cut({1}, {1, 5, 6, 7, 8, 9}, 4, 6), (Ids{1, 5, 6, 7, 8, 9}));
  EXPECT_EQ(cut({1}, {1, 5, 6, 7, 8, 9}, 4, 5), (Ids{1, 6, 7, 8, 9}));
  EXPECT_EQ(cut({1}, {1, 5, 6, 7, 8, 9}, 4, 3), (Ids{1, 8, 9}));
  EXPECT_EQ(cut({1}, {1, 5, 6, 7, 8, 9}, 4, 2), (Ids{1, 8}));
  EXPECT_EQ(cut({1}, {1, 5, 6, 7}, 1, 2), (Ids{1, 5}));
  EXPECT_EQ(cut({1, 2}, {1, 2, 5, 6, 7, 8}, 4, 3), (Ids{1, 2, 7}));
  // A prefix longer than what is not learnt, one that the document lacks, and none.
  EXPECT_EQ(cut({1, 2}, {1, 2, 5, 6}, 1, 3), (Ids{1, 2, 5}));
  EXPECT_EQ(cut({1}, {4, 5, 6, 7, 8}, 3, 3), (Ids{6, 7, 8}));
  EXPECT_EQ(cut({}, {4, 5, 6, 7, 8}, 3, 2), (Ids{6, 7}));
  EXPECT_EQ(cut({1}, {4, 5, 6}, 0, 2), (Ids{4, 5}));
}

// The text of an answer is what follows the prompt in the text of both.
TEST_F(PrefixTest, AnAnswerKeepsItsFirstSpace) {
  const auto answer = [this](const std::string& prompt, const std::vector<int32_t>& ids) {
    std::vector<int32_t> begin;
    EXPECT_TRUE(tokenizer_->Begin(prompt, /*special=*/true, &begin).ok());
    TokenStream stream(*tokenizer_, /*skip_special=*/true);
    EXPECT_TRUE(stream.StartAfter(begin).ok());
    std::string text;
    for (const int32_t id : ids) text += *stream.Push(id);
    return text + stream.Finish();
  };
  EXPECT_EQ(answer("one", Ids("two")), " two");
  EXPECT_EQ(answer("", Ids("two")), "two");
  EXPECT_EQ(answer("one\n", Ids("two")), " two");
  EXPECT_EQ(answer("one\u5B57", Joined({{kEnd}, Ids("\u5B57")})), " \u5B57");
  TokenStream stream(*tokenizer_, true);
  EXPECT_EQ(GetErrorInfo(stream.StartAfter({1 << 20})).code, ErrorCode::kOutOfRange);
}

// The texts of the tokens that templates write, where no file beside the tokenizer names them.
TEST_F(PrefixTest, NamesTheTokenThatTemplatesBeginWith) {
  const auto tokenizer = MakeChatTokenizer("mistral1", json::object());
  const auto chat_template = ChatTemplate::Create(*tokenizer, "mistral-v3", "");
  ASSERT_TRUE(chat_template.ok()) << chat_template.status();
  EXPECT_EQ(chat_template->Render({{"user", "x", "", false}}, true)->text, "<s>[INST] x[/INST]");
  EXPECT_EQ(chat_template->EndOfTurn(), "</s>");
}

}  // namespace
}  // namespace qft
