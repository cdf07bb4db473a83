// Token for token what Hugging Face `tokenizers` gives (make_tokenizer_golden.py).
#include <gtest/gtest.h>

#include "golden_columns.h"
#include "runtime/data/text/tokenizer.h"

namespace qft {
namespace {

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

}  // namespace
}  // namespace qft
