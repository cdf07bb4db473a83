#include "runtime/data/text/mixture.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <map>
#include <set>

#include "chat_tokenizer.h"
#include "runtime/data/text/dataset.h"

namespace qft {
namespace {

TEST(Mixture, WithoutWeightsEveryDocumentIsTakenOnce) {
  const std::vector<MixturePart> parts = {{3, 30, 0}, {2, 5, 0}};
  EXPECT_EQ(DocumentsOfEpoch(parts), (std::vector<int64_t>{3, 2}));
  for (uint64_t epoch = 0; epoch < 3; ++epoch) {
    EXPECT_EQ(ChooseDocuments(parts, {3, 2}, 7, epoch), (std::vector<int64_t>{0, 1, 2, 3, 4}));
  }
}

TEST(Mixture, WeightsAreSharesOfTheTokens) {
  // 1,000 tokens in all; documents of 10 and of 50 tokens on average.
  EXPECT_EQ(DocumentsOfEpoch({{50, 500, 3}, {10, 500, 1}}), (std::vector<int64_t>{75, 5}));
  EXPECT_EQ(DocumentsOfEpoch({{50, 500, 0.5}, {10, 500, 0.5}}), (std::vector<int64_t>{50, 10}));
  // At least one of each file that has any.
  EXPECT_EQ(DocumentsOfEpoch({{50, 500, 1}, {10, 500, 1e-9}, {0, 0, 1}}),
            (std::vector<int64_t>{100, 1, 0}));
}

// A file is gone through pass after pass, whatever part of it an epoch takes.
TEST(Mixture, EpochsGoOnWhereTheLastOneEnded) {
  const std::vector<MixturePart> parts = {{7, 70, 1}, {5, 50, 9}};
  const std::vector<int64_t> counts = {3, 12};
  std::vector<int64_t> first;
  std::vector<int64_t> second;
  for (uint64_t epoch = 0; epoch < 35; ++epoch) {
    const std::vector<int64_t> chosen = ChooseDocuments(parts, counts, 7, epoch);
    ASSERT_EQ(chosen.size(), 15U);
    first.insert(first.end(), chosen.begin(), chosen.begin() + 3);
    second.insert(second.end(), chosen.begin() + 3, chosen.end());
    EXPECT_EQ(chosen, ChooseDocuments(parts, counts, 7, epoch));
  }
  for (size_t pass = 0; pass < 15; ++pass) {
    EXPECT_EQ(std::set<int64_t>(first.begin() + pass * 7, first.begin() + pass * 7 + 7),
              (std::set<int64_t>{0, 1, 2, 3, 4, 5, 6}));
  }
  for (size_t pass = 0; pass < 84; ++pass) {
    EXPECT_EQ(std::set<int64_t>(second.begin() + pass * 5, second.begin() + pass * 5 + 5),
              (std::set<int64_t>{7, 8, 9, 10, 11}));
  }
  EXPECT_EQ(ChooseDocuments(parts, counts, 7, uint64_t{1} << 48).size(), 15U);
}

class MixedDataTest : public testing::Test {
 protected:
  void SetUp() override {
    const std::string base = testing::TempDir() + "qft_mixed_" + std::to_string(getpid());
    Write(base + "_a", 400, 'a');
    Write(base + "_b", 100, 'b');
    tokenizer_ = MakeChatTokenizer("plain", nlohmann::json::object());
    options_.batch_tokens = 64;
    options_.seed = 5;
  }
  void TearDown() override {
    for (const DataFile& file : files_) unlink(file.path.c_str());
  }

  void Write(const std::string& path, int lines, char letter) {
    std::ofstream file(path, std::ios::binary);
    for (int i = 0; i < lines; ++i) {
      file << "{\"text\": \"" << letter << i << std::string(static_cast<size_t>(i % 9), letter)
           << "\"}\n";
    }
    files_.push_back({path, 0});
  }
  StatusOr<std::unique_ptr<Dataset>> Open() {
    return Dataset::Open(PosixFileSystem(), files_, tokenizer_, options_);
  }
  std::unique_ptr<Dataset> MustOpen() {
    auto dataset = Open();
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    return *std::move(dataset);
  }
  // The tokens of so many batches.
  static std::vector<std::vector<int32_t>> Take(Dataset* dataset, int64_t batches) {
    std::vector<std::vector<int32_t>> taken;
    for (const TokenBatch& batch : **dataset->Next(batches)) taken.push_back(batch.token_ids);
    return taken;
  }
  // The share of an epoch's tokens that come from the second file.
  double ShareOfSecond(Dataset* dataset) {
    double second = 0;
    double all = 0;
    const auto next = dataset->Next(dataset->info().batches);
    for (const TokenBatch& batch : **next) {
      std::map<int32_t, std::pair<std::string, int>> documents;
      for (size_t i = 0; i < batch.token_ids.size(); ++i) {
        auto& [text, tokens] = documents[batch.document_ids[i]];
        text += *tokenizer_->Bytes(batch.token_ids[i]);
        ++tokens;
      }
      for (const auto& [number, document] : documents) {
        all += document.second;
        second += document.first[0] == 'b' ? document.second : 0;
      }
    }
    return second / all;
  }

  std::vector<DataFile> files_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  DatasetOptions options_;
};

TEST_F(MixedDataTest, TokensStandAsTheWeights) {
  const auto plain = MustOpen();
  EXPECT_EQ(plain->info().documents, 500);
  EXPECT_LT(ShareOfSecond(plain.get()), 0.3);
  files_[0].weight = 0.3;
  files_[1].weight = 0.7;
  const auto mixed = MustOpen();
  EXPECT_NEAR(ShareOfSecond(mixed.get()), 0.7, 0.01);
  EXPECT_NEAR(static_cast<double>(mixed->info().tokens) / static_cast<double>(plain->info().tokens),
              1, 0.02);
}

TEST_F(MixedDataTest, ResumesWhereItWas) {
  files_[0].weight = 1;
  files_[1].weight = 3;
  const auto before = MustOpen();
  Take(before.get(), 2 * before->info().batches + 3);
  const auto after = MustOpen();
  ASSERT_TRUE(after->SetCursor(before->Cursor()).ok());
  EXPECT_EQ(Take(before.get(), 100), Take(after.get(), 100));
  files_[1].weight = 4;
  EXPECT_EQ(GetErrorInfo(MustOpen()->SetCursor(before->Cursor())).code, ErrorCode::kState);
}

// Whatever is kept in memory: the same batches, and a cursor of one is one of the other.
TEST_F(MixedDataTest, TheMemoryLimitChangesNothingElse) {
  options_.held_out_share = 0.1;
  const auto all = MustOpen();
  for (const int64_t limit : {int64_t{1}, int64_t{2000}, int64_t{1} << 20}) {
    options_.corpus.memory_limit = limit;
    const auto limited = MustOpen();
    int64_t kept = 0;
    for (const Corpus::Document& document : limited->corpus().documents()) {
      kept += document.begin >= 0 ? document.length : 0;
    }
    EXPECT_LE(kept * 4, limit);
    EXPECT_EQ(limited->held_out()[0].token_ids, all->held_out()[0].token_ids);
    ASSERT_TRUE(limited->SetCursor(all->Cursor()).ok());
    EXPECT_EQ(Take(limited.get(), 60), Take(all.get(), 60));
    EXPECT_EQ(limited->Cursor(), all->Cursor());
  }
}

TEST_F(MixedDataTest, AChangedFileIsNoticed) {
  options_.corpus.memory_limit = 1;
  const auto dataset = MustOpen();
  std::fstream(files_[0].path, std::ios::in | std::ios::out).seekp(10) << "c";
  const auto next = dataset->Next(dataset->info().batches);
  EXPECT_EQ(GetErrorInfo(next.status()).code, ErrorCode::kState) << next.status();
  EXPECT_NE(next.status().message().find("has changed"), std::string::npos);
}

// Batches are made ahead, but what is wrong with one is said when it is its turn, and nothing is
// lost by it.
TEST_F(MixedDataTest, AnErrorComesWithItsBatchAndCanBeMended) {
  options_.seed = 6;  // the changed document is not in the first batch
  const auto sound = MustOpen();
  options_.corpus.memory_limit = 1;
  const auto dataset = MustOpen();
  const auto replace = [this](char letter) {
    std::fstream(files_[0].path, std::ios::in | std::ios::out).seekp(10) << letter;
  };
  replace('c');
  int64_t good = 0;
  for (;; ++good) {
    const std::string before = dataset->Cursor();
    EXPECT_EQ(before, sound->Cursor());
    const auto next = dataset->Next(1);
    if (!next.ok()) {
      EXPECT_EQ(GetErrorInfo(next.status()).code, ErrorCode::kState) << next.status();
      EXPECT_EQ(GetErrorInfo(dataset->Next(2).status()).code, ErrorCode::kState);
      EXPECT_EQ(dataset->Cursor(), before);
      break;
    }
    EXPECT_EQ((**next)[0].token_ids, Take(sound.get(), 1)[0]);
  }
  ASSERT_GT(good, 0);
  replace('a');
  EXPECT_EQ(Take(dataset.get(), 5), Take(sound.get(), 5));
}

// Documents may be looked at while batches are made.
TEST_F(MixedDataTest, BatchesAreMadeBesideOtherUses) {
  options_.corpus.memory_limit = 1;
  const auto dataset = MustOpen();
  const auto alone = MustOpen();
  for (int64_t i = 0; i < 500; ++i) {
    const auto taken = Take(dataset.get(), 1);
    EXPECT_EQ(dataset->corpus().Get(i)->ids, alone->corpus().Get(i)->ids);
    EXPECT_EQ(taken, Take(alone.get(), 1));
    EXPECT_EQ(dataset->Cursor(), alone->Cursor());
  }
}

TEST_F(MixedDataTest, RefusesWeightsThatMeanNothing) {
  for (const auto& [first, second] : std::vector<std::pair<double, double>>{
           {1, 0}, {0, 1}, {-1, 1}, {1, -1}, {1, std::nan("")}, {HUGE_VAL, 1}, {1e308, 1e308}}) {
    files_[0].weight = first;
    files_[1].weight = second;
    EXPECT_EQ(GetErrorInfo(Open().status()).code, ErrorCode::kOutOfRange);
  }
  files_.clear();
  EXPECT_EQ(GetErrorInfo(Open().status()).code, ErrorCode::kInvalidArgument);
}

}  // namespace
}  // namespace qft
