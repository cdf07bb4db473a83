#include <gtest/gtest.h>

#include "golden_columns.h"
#include "runtime/data/text/tokenizer.h"

namespace qft {
namespace {

// The vocabulary of a real model: cmake -DQFT_TEST_GGUF=SmolLM2-135M-Instruct.Q4_1.gguf
TEST(TokenizerGolden, RealVocabulary) {
  const std::string path = QFT_TEST_GGUF;
  auto tokenizer = Tokenizer::Load(PosixFileSystem(), path);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->size(), 49152);
  EXPECT_EQ((*tokenizer)->end_id(), 2);
  ExpectColumn(**tokenizer, TheGolden().columns - 1);
}

// What export writes for it is read back as the same tokenizer.
TEST(TokenizerGolden, RealVocabularyAsTokenizerJson) {
  const std::string path = QFT_TEST_GGUF;
  auto from_gguf = Tokenizer::Load(PosixFileSystem(), path);
  ASSERT_TRUE(from_gguf.ok()) << from_gguf.status();
  ASSERT_EQ((*from_gguf)->files().at(0).first, "tokenizer.json");
  auto spec = ParseTokenizerJson((*from_gguf)->files()[0].second, "tokenizer.json");
  ASSERT_TRUE(spec.ok()) << spec.status();
  auto tokenizer = Tokenizer::Create(*std::move(spec));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectColumn(**tokenizer, TheGolden().columns - 1);
}

}  // namespace
}  // namespace qft
