#include "runtime/data/text/token_file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "chat_tokenizer.h"
#include "runtime/data/text/dataset.h"

namespace qft {
namespace {

template <typename T>
void Append(const std::vector<T>& values, std::string* out) {
  out->append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

struct Content {
  std::vector<uint32_t> header = {1, 2, 1, 0};
  std::vector<uint64_t> counts = {6, 2};
  std::vector<uint16_t> tokens = {5, 6, 7, 8, 9, 10};
  std::vector<uint8_t> mask = {0, 0, 1, 1, 1, 1};
  std::vector<uint64_t> ends = {4, 6};

  std::string Bytes() const {
    std::string bytes = "QFTTOKEN";
    Append(header, &bytes);
    Append(counts, &bytes);
    if (header[1] == 4) {
      Append(std::vector<uint32_t>(tokens.begin(), tokens.end()), &bytes);
    } else {
      Append(tokens, &bytes);
    }
    Append(mask, &bytes);
    Append(ends, &bytes);
    return bytes;
  }
};

class TokenFileTest : public testing::Test {
 protected:
  void SetUp() override { path_ = testing::TempDir() + "qft_tokens_" + std::to_string(getpid()); }
  void TearDown() override { unlink(path_.c_str()); }

  StatusOr<std::unique_ptr<Dataset>> Open(const std::string& bytes,
                                          const CorpusOptions& options = {}) {
    static const auto tokenizer = MakeChatTokenizer("plain", nlohmann::json::object());
    std::ofstream(path_, std::ios::binary) << bytes;
    DatasetOptions all;
    all.corpus = options;
    return Dataset::Open(PosixFileSystem(), {{path_}}, tokenizer, all);
  }

  std::string path_;
};

TEST_F(TokenFileTest, HoldsDocumentsAsTheyAre) {
  for (const uint32_t token_bytes : {2U, 4U}) {
    for (const bool has_mask : {true, false}) {
      Content content;
      content.header = {1, token_bytes, has_mask ? 1U : 0U, 0};
      if (!has_mask) content.mask.clear();
      const auto dataset = Open(content.Bytes());
      ASSERT_TRUE(dataset.ok()) << dataset.status();
      EXPECT_EQ((*dataset)->info().documents, 2);
      const EncodedDocument first = *(*dataset)->corpus().Get(0);
      EXPECT_EQ(first.ids, (std::vector<int32_t>{5, 6, 7, 8}));
      EXPECT_EQ(first.learnt,
                has_mask ? (std::vector<uint8_t>{0, 0, 1, 1}) : (std::vector<uint8_t>{1, 1, 1, 1}));
      EXPECT_EQ((*dataset)->corpus().Get(1)->ids, (std::vector<int32_t>{9, 10}));
    }
  }
}

TEST_F(TokenFileTest, IsCutAndReadAgainLikeText) {
  const auto dataset = Open(Content().Bytes(), {.sequence_tokens = 2, .memory_limit = 8});
  ASSERT_TRUE(dataset.ok()) << dataset.status();
  EXPECT_EQ((*dataset)->corpus().Get(0)->ids, (std::vector<int32_t>{6, 7}));
  EXPECT_EQ((*dataset)->corpus().documents()[1].begin, -1);
  EXPECT_EQ((*dataset)->corpus().Get(1)->ids, (std::vector<int32_t>{9, 10}));
}

TEST_F(TokenFileTest, SaysWhatIsWrong) {
  struct Bad {
    const char* message;
    void (*change)(Content*);
  };
  const Bad bads[] = {
      {"version 2", [](Content* c) { c->header[0] = 2; }},
      {"version 1", [](Content* c) { c->header[3] = 9; }},
      {"a token has 3 bytes", [](Content* c) { c->header[1] = 3; }},
      {"has_mask is 7", [](Content* c) { c->header[2] = 7; }},
      {"its header says", [](Content* c) { c->header[2] = 0; }},
      {"its header says", [](Content* c) { c->counts[0] = 7; }},
      {"are impossible", [](Content* c) { c->counts[0] = UINT64_MAX; }},
      {"are impossible", [](Content* c) { c->counts[1] = 7; }},
      {"ends at token 5 of 6", [](Content* c) { c->ends[1] = 5; }},
      {"document 0: tokens 0 to 99 of 6", [](Content* c) { c->ends[0] = 99; }},
      {"document 1: tokens 6 to 6", [](Content* c) { c->ends[0] = 6; }},
      {"document 0: tokens 0 to 0", [](Content* c) { c->ends[0] = 0; }},
      {"document 0: the token 65000 is beyond", [](Content* c) { c->tokens[1] = 65000; }},
      {"document 1: the mask holds 2", [](Content* c) { c->mask[5] = 2; }},
      {"document 0: the document has no token to learn",
       [](Content* c) { c->mask = {1, 0, 0, 0, 1, 1}; }},
  };
  for (const Bad& bad : bads) {
    Content content;
    bad.change(&content);
    const auto dataset = Open(content.Bytes());
    ASSERT_FALSE(dataset.ok()) << bad.message;
    EXPECT_EQ(GetErrorInfo(dataset.status()).code, ErrorCode::kBadData) << dataset.status();
    EXPECT_EQ(dataset.status().message().find(path_ + ": "), 0U) << dataset.status();
    EXPECT_NE(dataset.status().message().find(bad.message), std::string::npos) << dataset.status();
  }
  const std::string bytes = Content().Bytes();
  for (size_t size = 8; size < bytes.size(); ++size) {
    EXPECT_FALSE(Open(bytes.substr(0, size)).ok()) << size;
  }
  EXPECT_FALSE(Open(bytes + "x").ok());
}

}  // namespace
}  // namespace qft
