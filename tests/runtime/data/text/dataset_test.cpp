#include "runtime/data/text/dataset.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <numeric>
#include <set>

#include "golden.h"
#include "runtime/data/text/json_lines.h"
#include "runtime/data/text/packing.h"

namespace qft {
namespace {

constexpr int32_t kEnd = 0;  // "<|endoftext|>" of tokenizer_small.json

std::shared_ptr<const Tokenizer> MakeTokenizer(bool with_end) {
  auto spec = ParseTokenizerJson(ReadTestFile("tokenizer_small.json"), "test");
  EXPECT_TRUE(spec.ok()) << spec.status();
  if (with_end) spec->end_id = kEnd;
  return *Tokenizer::Create(*std::move(spec));
}

const std::shared_ptr<const Tokenizer>& TheTokenizer() {
  static const std::shared_ptr<const Tokenizer> tokenizer = MakeTokenizer(true);
  return tokenizer;
}

std::vector<int32_t> Ids(const std::string& text, bool special) {
  std::vector<int32_t> ids;
  EXPECT_TRUE(TheTokenizer()->Encode(text, special, &ids).ok());
  return ids;
}

class DatasetTest : public testing::Test {
 protected:
  void SetUp() override {
    path_ = testing::TempDir() + "qft_dataset_" + std::to_string(getpid()) + ".jsonl";
  }
  void TearDown() override { unlink(path_.c_str()); }

  void Write(const std::string& content) { std::ofstream(path_, std::ios::binary) << content; }
  StatusOr<std::unique_ptr<Dataset>> Open(const DatasetOptions& options) {
    return Dataset::Open(PosixFileSystem(), {{path_}}, TheTokenizer(), options);
  }
  std::unique_ptr<Dataset> MustOpen(const DatasetOptions& options) {
    auto dataset = Open(options);
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    return dataset.ok() ? *std::move(dataset) : nullptr;
  }
  void ExpectBad(const std::string& content, const std::string& message) {
    Write(content);
    const auto dataset = Open({});
    ASSERT_FALSE(dataset.ok()) << content.substr(0, 100);
    EXPECT_EQ(GetErrorInfo(dataset.status()).code, ErrorCode::kBadData);
    EXPECT_NE(dataset.status().message().find(message), std::string::npos) << dataset.status();
    EXPECT_EQ(dataset.status().message().find(path_), 0u) << dataset.status();
  }

  std::string path_;
};

// `count` documents of different lengths and content.
std::string ManyLines(int count, int first = 0) {
  std::string lines;
  for (int i = first; i < first + count; ++i) {
    lines += nlohmann::json{{"text", "document " + std::to_string(i * 7919) +
                                         std::string(static_cast<size_t>(i % 13), 'x')}}
                 .dump() +
             "\n";
  }
  return lines;
}

std::vector<std::vector<int32_t>> Documents(const TokenBatch& batch) {
  std::vector<std::vector<int32_t>> documents;
  for (size_t i = 0; i < batch.token_ids.size(); ++i) {
    if (i == 0 || batch.document_ids[i] != batch.document_ids[i - 1]) documents.emplace_back();
    documents.back().push_back(batch.token_ids[i]);
  }
  return documents;
}

std::multiset<std::vector<int32_t>> EpochDocuments(Dataset* dataset, int64_t batches) {
  std::multiset<std::vector<int32_t>> documents;
  const auto next = dataset->Next(batches);
  EXPECT_TRUE(next.ok());
  for (const TokenBatch& batch : **next) {
    for (auto& document : Documents(batch)) documents.insert(std::move(document));
  }
  return documents;
}

TEST_F(DatasetTest, TextTrainsOnEveryToken) {
  Write("{\"text\": \"ab <|im_end|>\"}\n");
  const auto dataset = MustOpen({});
  const TokenBatch& batch = (**dataset->Next(1))[0];
  std::vector<int32_t> expected = Ids("ab <|im_end|>", /*special=*/false);
  expected.push_back(kEnd);
  EXPECT_EQ(batch.token_ids, expected);
  const size_t last = expected.size() - 1;
  for (size_t i = 0; i <= last; ++i) {
    EXPECT_EQ(batch.targets[i], i < last ? expected[i + 1] : -1);
    EXPECT_EQ(batch.loss_weights[i], i < last ? 1.0f : 0.0f);
    EXPECT_EQ(batch.document_ids[i], 0);
  }
}

TEST_F(DatasetTest, OnlyTheCompletionTrains) {
  Write("{\"prompt\": \"<|im_start|>user\\nhi\", \"completion\": \"good <|im_end|>\", \"id\": 3}");
  const auto dataset = MustOpen({});
  const TokenBatch& batch = (**dataset->Next(1))[0];
  const std::vector<int32_t> prompt = Ids("<|im_start|>user\nhi", /*special=*/true);
  EXPECT_EQ(prompt[0], 1);
  std::vector<int32_t> expected = prompt;
  const std::vector<int32_t> completion = Ids("good <|im_end|>", /*special=*/false);
  expected.insert(expected.end(), completion.begin(), completion.end());
  expected.push_back(kEnd);
  ASSERT_EQ(batch.token_ids, expected);
  for (size_t i = 0; i < expected.size(); ++i) {
    const bool trains = i + 1 >= prompt.size() && i + 1 < expected.size();
    EXPECT_EQ(batch.loss_weights[i], trains ? 1.0f : 0.0f) << i;
  }
}

TEST_F(DatasetTest, CutsThePromptFromTheBeginningThenTheRestFromTheEnd) {
  Write(
      "{\"prompt\": \"1234567890\", \"completion\": \"abc\"}\n{\"text\": \"1234567890\"}\n"
      "{\"prompt\": \"12\", \"completion\": \"1234567890\"}\n");
  DatasetOptions options;
  options.batch_tokens = options.corpus.sequence_tokens = 6;
  const auto dataset = MustOpen(options);
  EXPECT_EQ(dataset->info().documents_truncated, 3);
  EXPECT_EQ(dataset->info().batches, 3);
  std::vector<int32_t> whole = Ids("1234567890", true);
  const std::vector<int32_t> completion = Ids("abc", false);
  whole.insert(whole.end(), completion.begin(), completion.end());
  whole.push_back(kEnd);
  const std::vector<int32_t> digits = Ids("1234567890", false);
  std::vector<int32_t> with_prompt = Ids("2", true);
  with_prompt.insert(with_prompt.end(), digits.begin(), digits.begin() + 5);
  const std::multiset<std::vector<int32_t>> expected = {
      {whole.end() - 6, whole.end()}, {digits.begin(), digits.begin() + 6}, with_prompt};
  EXPECT_EQ(EpochDocuments(dataset.get(), 3), expected);
}

TEST_F(DatasetTest, EveryEpochHoldsEveryDocumentOnceInAnotherOrder) {
  Write(ManyLines(500));
  DatasetOptions options;
  options.batch_tokens = 64;
  const auto dataset = MustOpen(options);
  EXPECT_EQ(dataset->info().documents, 500);
  const int64_t batches = dataset->info().batches;
  const auto first = EpochDocuments(dataset.get(), batches);
  EXPECT_EQ(first.size(), 500u);
  EXPECT_EQ(dataset->epoch(), 1.0);
  const std::vector<int64_t> order0 = ShuffledOrder(500, 0, 0);
  EXPECT_NE(order0, ShuffledOrder(500, 0, 1));
  EXPECT_NE(order0, ShuffledOrder(500, 1, 0));
  EXPECT_EQ(order0, ShuffledOrder(500, 0, 0));
  std::multiset<std::vector<int32_t>> second;
  while (second.size() < 500) {
    for (auto& document : Documents((**dataset->Next(1))[0])) second.insert(document);
  }
  EXPECT_EQ(second, first);
}

TEST_F(DatasetTest, PacksWholeDocumentsWithinTheBatch) {
  Write(ManyLines(300));
  DatasetOptions options;
  options.batch_tokens = 100;
  const auto dataset = MustOpen(options);
  int64_t tokens = 0;
  for (const TokenBatch& batch : **dataset->Next(dataset->info().batches)) {
    EXPECT_LE(batch.token_ids.size(), 100u);
    tokens += static_cast<int64_t>(batch.token_ids.size());
    int32_t number = 0;
    for (size_t i = 0; i < batch.token_ids.size(); ++i) {
      EXPECT_EQ(batch.document_ids[i], number);
      if (batch.targets[i] < 0) {
        EXPECT_EQ(batch.token_ids[i], kEnd);
        ++number;
      }
    }
  }
  EXPECT_EQ(tokens, dataset->info().tokens);
  EXPECT_GT(dataset->info().packing_efficiency, 0.9);
  EXPECT_EQ(dataset->info().packing_efficiency,
            static_cast<double>(tokens) / static_cast<double>(100 * dataset->info().batches));
}

TEST(Packing, IsFirstFit) {
  const std::vector<int32_t> lengths = {6, 5, 4, 5, 1, 10, 2};
  const auto batches = PackFirstFit({0, 1, 2, 3, 4, 5, 6}, lengths, 10);
  EXPECT_EQ(batches, (std::vector<std::vector<int64_t>>{{0, 2}, {1, 3}, {4, 6}, {5}}));
  EXPECT_TRUE(PackFirstFit({}, {}, 10).empty());
}

// Part of the checkpoint format: a cursor names a place in these orders.
TEST(Packing, OrderIsFixed) {
  EXPECT_EQ(ShuffledOrder(8, 42, 3), (std::vector<int64_t>{2, 0, 1, 3, 7, 5, 6, 4}));
  std::vector<int64_t> sorted = ShuffledOrder(1000, 5, 9);
  std::sort(sorted.begin(), sorted.end());
  std::vector<int64_t> all(1000);
  std::iota(all.begin(), all.end(), int64_t{0});
  EXPECT_EQ(sorted, all);
  EXPECT_TRUE(ShuffledOrder(0, 1, 1).empty());
}

// Each first element equally likely: 8 values, 16,000 epochs, 5 standard deviations.
TEST(Packing, OrderIsUniform) {
  std::map<int64_t, int> count;
  for (uint64_t epoch = 0; epoch < 16000; ++epoch) ++count[ShuffledOrder(8, 1, epoch)[0]];
  for (const auto& [value, times] : count) EXPECT_NEAR(times, 2000, 5 * 42) << value;
}

TEST_F(DatasetTest, HeldOutDocumentsDependOnTheirContentOnly) {
  DatasetOptions options;
  options.batch_tokens = 64;
  options.held_out_share = 0.2;
  const auto held_out = [&](const std::string& content, uint64_t seed) {
    Write(content);
    options.seed = seed;
    const auto dataset = MustOpen(options);
    EXPECT_EQ(dataset->info().batches_held_out, static_cast<int64_t>(dataset->held_out().size()));
    std::vector<std::vector<int32_t>> documents;
    for (const TokenBatch& batch : dataset->held_out()) {
      for (auto& document : Documents(batch)) documents.push_back(std::move(document));
    }
    EXPECT_EQ(dataset->info().documents_held_out, static_cast<int64_t>(documents.size()));
    return documents;
  };
  const auto once = held_out(ManyLines(400), 0);
  EXPECT_NEAR(static_cast<double>(once.size()), 80, 40);
  EXPECT_EQ(held_out(ManyLines(200, 200) + ManyLines(200), 7), once);
  // More documents: the old ones stay where they are.
  auto more = held_out(ManyLines(800), 0);
  for (const auto& document : once) EXPECT_EQ(std::count(more.begin(), more.end(), document), 1);
  options.held_out_limit = 10;
  const auto limited = held_out(ManyLines(400), 0);
  ASSERT_EQ(limited.size(), 10u);
  for (const auto& document : limited) {
    EXPECT_EQ(std::count(once.begin(), once.end(), document), 1);
  }
}

TEST_F(DatasetTest, EqualDocumentsAreNeverOnBothSides) {
  std::string lines = ManyLines(50);
  Write(lines + lines + lines);
  for (int64_t limit = 1; limit < 12; ++limit) {
    DatasetOptions options;
    options.held_out_share = 0.5;
    options.held_out_limit = limit;
    const auto dataset = MustOpen(options);
    EXPECT_EQ(dataset->info().documents_held_out, limit / 3 * 3);
    EXPECT_EQ(dataset->info().documents, 150 - limit / 3 * 3);
  }
}

TEST_F(DatasetTest, CursorGoesOnWhereItWas) {
  Write(ManyLines(300));
  DatasetOptions options;
  options.batch_tokens = 64;
  options.seed = 9;
  const auto dataset = MustOpen(options);
  for (const int64_t steps : {int64_t{0}, int64_t{1}, dataset->info().batches,
                              dataset->info().batches + 3, int64_t{3} * dataset->info().batches}) {
    const auto before = MustOpen(options);
    for (int64_t i = 0; i < steps; ++i) ASSERT_TRUE(before->Next(1).ok());
    const std::string cursor = before->Cursor();
    const auto after = MustOpen(options);
    ASSERT_TRUE(after->SetCursor(cursor).ok());
    EXPECT_EQ(after->epoch(), before->epoch());
    EXPECT_EQ(after->Cursor(), cursor);
    for (int i = 0; i < 5; ++i) {
      EXPECT_EQ((**before->Next(1))[0].token_ids, (**after->Next(1))[0].token_ids);
    }
  }
}

TEST_F(DatasetTest, NextInOneCallOrMany) {
  Write(ManyLines(100));
  DatasetOptions options;
  options.batch_tokens = 64;
  const auto together = MustOpen(options);
  const auto single = MustOpen(options);
  const int64_t count = 2 * together->info().batches + 1;
  for (const TokenBatch& batch : **together->Next(count)) {
    const TokenBatch& other = (**single->Next(1))[0];
    EXPECT_EQ(batch.token_ids, other.token_ids);
    EXPECT_EQ(batch.targets, other.targets);
    EXPECT_EQ(batch.loss_weights, other.loss_weights);
    EXPECT_EQ(batch.document_ids, other.document_ids);
  }
  EXPECT_EQ(GetErrorInfo(single->Next(0).status()).code, ErrorCode::kOutOfRange);
  EXPECT_EQ(GetErrorInfo(single->Next(-1).status()).code, ErrorCode::kOutOfRange);
  EXPECT_EQ(GetErrorInfo(single->Next(INT64_MAX).status()).code, ErrorCode::kOutOfRange);
}

TEST_F(DatasetTest, RefusesForeignCursors) {
  Write(ManyLines(100));
  DatasetOptions options;
  const auto dataset = MustOpen(options);
  ASSERT_TRUE(dataset->Next(1).ok());
  const std::string cursor = dataset->Cursor();
  const auto code = [&dataset](const std::string& bytes) {
    return GetErrorInfo(dataset->SetCursor(bytes)).code;
  };
  for (size_t size = 0; size < cursor.size(); ++size) {
    EXPECT_EQ(code(cursor.substr(0, size)), ErrorCode::kBadData);
  }
  EXPECT_EQ(code(cursor + '\0'), ErrorCode::kBadData);
  for (size_t i = 0; i < cursor.size(); ++i) {
    std::string changed = cursor;
    changed[i] = static_cast<char>(changed[i] ^ 0x40);
    const ErrorCode got = code(changed);
    // Every byte but the low ones of the epoch is checked: any epoch up to 2^48 is one.
    const bool is_epoch = i >= 80 && i < 86;
    EXPECT_EQ(got, is_epoch            ? ErrorCode::kOk
                   : i >= 16 && i < 80 ? ErrorCode::kState
                                       : ErrorCode::kBadData)
        << i;
    ASSERT_TRUE(dataset->SetCursor(cursor).ok());
  }
  EXPECT_EQ(dataset->Cursor(), cursor);
  options.seed = 1;
  EXPECT_EQ(GetErrorInfo(MustOpen(options)->SetCursor(cursor)).code, ErrorCode::kState);
  Write(ManyLines(100, 1));
  EXPECT_EQ(GetErrorInfo(MustOpen({})->SetCursor(cursor)).code, ErrorCode::kState);
}

TEST_F(DatasetTest, NamesTheLineThatIsWrong) {
  const std::string good = "{\"text\": \"a\"}\n";
  ExpectBad("", "holds no document");
  ExpectBad("\n \n\r\n\t\n", "holds no document");
  ExpectBad(good + "\n\nnonsense\n", ":4: ");
  ExpectBad(good + "[1]\n", ":2: the line is not a JSON object");
  ExpectBad("\"text\"", ":1: the line is not a JSON object");
  ExpectBad("{\"texts\": \"a\"}", ":1: the record has no known form; it has \"texts\"; forms are");
  ExpectBad("{\"text\": 3}", ":1: \"text\" is not a string");
  ExpectBad("{\"text\": null}", ":1: \"text\" is not a string");
  ExpectBad("{\"text\": \"\"}", ":1: \"text\" is empty");
  ExpectBad("{\"prompt\": \"a\"}", ":1: there is no \"completion\"");
  ExpectBad("{\"completion\": \"a\"}", ":1: there is no \"prompt\"");
  ExpectBad("{\"prompt\": [], \"completion\": \"a\"}", ":1: \"prompt\" is not a string");
  ExpectBad("{\"prompt\": \"\", \"completion\": \"\"}", "are empty");
  ExpectBad("{\"prompt\": \"a\", \"completion\": \"b\", \"text\": \"c\"}",
            ":1: the record may have the form text or prompt-completion");
  ExpectBad("{\"text\": \"a\"} {\"text\": \"b\"}", ":1: ");
  ExpectBad("{\"text\": \"a\", \"text\": \"b\"}", ":1: ");
  ExpectBad("{\"text\": \"\xff\"}", ":1: the line is not UTF-8");
  ExpectBad("{\"text\": \"\\ud800\"}", ":1: ");
  ExpectBad(std::string("{\"text\": \"a\0\"}", 13), ":1: ");
  ExpectBad("{\"text\": \"a", ":1: ");
  ExpectBad(good + std::string(100000, '['), ":2: ");
  ExpectBad(good + "{\"text\": \"" + std::string(kMaxLineBytes, 'a') + "\"}",
            ":2: the line is longer");
}

TEST_F(DatasetTest, ReadsAnyLineEndsAndLongLines) {
  // Lines on both sides of the reader's chunks of a megabyte.
  std::string content;
  std::vector<size_t> sizes = {1, 1048560, 3, 1048576 - 20, 2500000, 5};
  for (size_t i = 0; i < sizes.size(); ++i) {
    content += "{\"text\": \"" + std::string(sizes[i], static_cast<char>('a' + i)) + "\"}" +
               (i % 2 == 0 ? "\r\n" : "\n\n");
  }
  content += "{\"text\": \"no end\"}";
  Write(content);
  DatasetOptions options;
  options.batch_tokens = kMaxBatchTokens;
  const auto dataset = MustOpen(options);
  ASSERT_NE(dataset, nullptr);
  EXPECT_EQ(dataset->info().documents, 7);
  int64_t tokens = 7 + static_cast<int64_t>(Ids("no end", false).size());
  for (size_t i = 0; i < sizes.size(); ++i) {
    tokens +=
        static_cast<int64_t>(Ids(std::string(sizes[i], static_cast<char>('a' + i)), false).size());
  }
  EXPECT_EQ(dataset->info().tokens, tokens);
}

TEST_F(DatasetTest, RefusesAbsurdOptions) {
  Write(ManyLines(10));
  const auto expect = [this](ErrorCode code, const DatasetOptions& options) {
    EXPECT_EQ(GetErrorInfo(Open(options).status()).code, code);
  };
  for (const int64_t tokens :
       {int64_t{-1}, int64_t{0}, int64_t{1}, kMaxBatchTokens + 1, INT64_MAX}) {
    expect(ErrorCode::kOutOfRange, {.batch_tokens = tokens});
  }
  for (const int64_t tokens : {int64_t{-1}, int64_t{1}, int64_t{2049}}) {
    expect(ErrorCode::kOutOfRange, {.corpus = {.sequence_tokens = tokens}});
  }
  for (const double share : {-0.1, 1.5, std::nan(""), HUGE_VAL}) {
    expect(ErrorCode::kOutOfRange, {.held_out_share = share});
  }
  expect(ErrorCode::kOutOfRange, {.held_out_limit = -1});
  expect(ErrorCode::kBadData, {.held_out_share = 1});
  const auto nearly = MustOpen({.held_out_share = 1, .held_out_limit = 9});
  EXPECT_EQ(nearly->info().documents, 1);
}

TEST_F(DatasetTest, NeedsAFileAndAnEndToken) {
  EXPECT_EQ(GetErrorInfo(Open({}).status()).code, ErrorCode::kFileNotFound);
  Write(ManyLines(1));
  const auto without_end = MakeTokenizer(false);
  const auto dataset = Dataset::Open(PosixFileSystem(), {{path_}}, without_end, {});
  EXPECT_EQ(GetErrorInfo(dataset.status()).code, ErrorCode::kBadData);
  const auto folder = Dataset::Open(PosixFileSystem(), {{testing::TempDir()}}, TheTokenizer(), {});
  EXPECT_EQ(GetErrorInfo(folder.status()).code, ErrorCode::kBadData);
}

}  // namespace
}  // namespace qft
