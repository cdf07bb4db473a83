// Token for token what Hugging Face `tokenizers` gives (make_tokenizer_golden.py).
#include <gtest/gtest.h>

#include "golden.h"
#include "runtime/data/text/tokenizer.h"

namespace qft {
namespace {

const Golden& TheGolden() {
  static const Golden golden = ReadGolden();
  return golden;
}

void ExpectColumn(const Tokenizer& tokenizer, size_t column) {
  ASSERT_GT(TheGolden().lines.size(), 5000u);
  int shown = 0;
  for (const Golden::Line& line : TheGolden().lines) {
    for (const bool plain : {false, true}) {
      std::vector<int32_t> ids;
      ASSERT_TRUE(tokenizer.Encode(line.text, !plain, &ids).ok());
      if (Crc32(ids) == line.ids_crc[2 * column + plain]) continue;
      ADD_FAILURE() << "line " << &line - TheGolden().lines.data() << (plain ? " plain: " : ": ")
                    << testing::PrintToString(line.text) << "\ngave "
                    << testing::PrintToString(ids);
      if (++shown == 5) return;
    }
  }
}

class TokenizerVariant : public testing::TestWithParam<const char*> {};

TEST_P(TokenizerVariant, GivesTheSameIds) {
  constexpr std::string_view kColumns[] = {"smollm", "gpt2",  "llama3",
                                           "qwen2",  "added", "behaviors"};
  const size_t column = static_cast<size_t>(
      std::find(std::begin(kColumns), std::end(kColumns), GetParam()) - std::begin(kColumns));
  auto spec = ParseTokenizerJson(VariantJson(GetParam()), "test");
  ASSERT_TRUE(spec.ok()) << spec.status();
  auto tokenizer = Tokenizer::Create(*std::move(spec));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  ExpectColumn(**tokenizer, column);
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerVariant,
                         testing::Values("smollm", "gpt2", "llama3", "qwen2", "added", "behaviors"),
                         [](const auto& param) { return std::string(param.param); });

TEST(TokenizerGolden, DecodesAlike) {
  auto spec = ParseTokenizerJson(VariantJson("smollm"), "test");
  ASSERT_TRUE(spec.ok()) << spec.status();
  auto tokenizer = Tokenizer::Create(*std::move(spec));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto decoded_crc = [&tokenizer](const std::vector<int32_t>& ids, bool skip) {
    const auto text = (*tokenizer)->Decode(ids.data(), ids.size(), skip);
    return text.ok() ? Crc32(*text) : 0;
  };
  for (const Golden::Line& line : TheGolden().lines) {
    std::vector<int32_t> ids;
    ASSERT_TRUE((*tokenizer)->Encode(line.text, true, &ids).ok());
    ASSERT_EQ(decoded_crc(ids, false), line.decoded_crc) << testing::PrintToString(line.text);
  }
  ASSERT_GT(TheGolden().id_lists.size(), 500u);
  for (const Golden::IdList& list : TheGolden().id_lists) {
    ASSERT_EQ(decoded_crc(list.ids, false), list.kept_crc) << testing::PrintToString(list.ids);
    ASSERT_EQ(decoded_crc(list.ids, true), list.skipped_crc) << testing::PrintToString(list.ids);
  }
}

// The vocabulary of a real model: cmake -DQFT_TEST_GGUF=SmolLM2-135M-Instruct.Q4_1.gguf
TEST(TokenizerGolden, RealVocabulary) {
  const std::string path = QFT_TEST_GGUF;
  if (path.empty()) GTEST_SKIP() << "QFT_TEST_GGUF is not set";
  auto tokenizer = Tokenizer::Load(PosixFileSystem(), path);
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ((*tokenizer)->size(), 49152);
  EXPECT_EQ((*tokenizer)->end_id(), 2);
  ExpectColumn(**tokenizer, TheGolden().columns - 1);
}

// What export writes for it is read back as the same tokenizer.
TEST(TokenizerGolden, RealVocabularyAsTokenizerJson) {
  const std::string path = QFT_TEST_GGUF;
  if (path.empty()) GTEST_SKIP() << "QFT_TEST_GGUF is not set";
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
