// Token for token and character for character what Hugging Face `tokenizers` and `sentencepiece`
// give for tokenizers of the shape of each family (make_families_golden.py).
#include <gtest/gtest.h>

#include "golden.h"
#include "runtime/data/text/metaspace.h"
#include "runtime/data/text/tokenizer.h"

namespace qft {
namespace {

constexpr const char* kColumns[] = {"llama1",
                                    "llama2",
                                    "llama_metaspace",
                                    "mistral3",
                                    "yi",
                                    "metaspace_divided",
                                    "no_fallback",
                                    "no_fuse",
                                    "llama3",
                                    "qwen3",
                                    "sentencepiece_llama",
                                    "sentencepiece_yi",
                                    "sentencepiece_unigram",
                                    "sentencepiece_unigram_bytes",
                                    "sentencepiece_suffix"};
constexpr int kIdLists = 600;
constexpr int kIdsInList = 12;

// The lines of tokenizer_golden.bin with the markers of these families.
std::vector<std::string> Lines() {
  std::vector<std::string> lines;
  for (Golden::Line& line : ReadGolden().lines) {
    for (const auto& [from, to] :
         {std::pair("<|im_start|>", "<s>"), std::pair("<|im_end|>", "</s>"),
          std::pair("<|endoftext|>", "<unk>"), std::pair("<tool>", "[INST]"),
          std::pair("<repo_name>", "<0x0A>"), std::pair("[x]", "\xE2\x96\x81"),
          std::pair("mask", "<mask>")}) {
      line.text = ReplaceAll(line.text, from, to);
    }
    lines.push_back(std::move(line.text));
  }
  return lines;
}

StatusOr<std::shared_ptr<const Tokenizer>> Open(const std::string& name) {
  const bool is_model = name.starts_with("sentencepiece");
  auto spec = is_model ? ParseTokenizerModel(ReadTestFile(name + ".model"))
                       : ParseTokenizerJson(VariantJson(name, "families"), name);
  if (!spec.ok()) return spec.status();
  return Tokenizer::Create(*std::move(spec));
}

class TokenizerFamily : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    auto tokenizer = Open(GetParam());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    const std::string file = ReadTestFile("families_golden.bin");
    ASSERT_EQ(file.substr(0, 8), "QFTGOLD2");
    std::vector<uint32_t> values((file.size() - 8) / 4);
    std::memcpy(values.data(), file.data() + 8, 4 * values.size());
    ASSERT_EQ(values[0], std::size(kColumns));
    const size_t height = values[1] + 1;  // the lines, and the lists of ids
    const size_t column = static_cast<size_t>(
        std::find(std::begin(kColumns), std::end(kColumns), std::string_view(GetParam())) -
        std::begin(kColumns));
    ASSERT_EQ(values.size(), 2 + std::size(kColumns) * height);
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(2 + column * height);
    golden_.assign(begin, begin + static_cast<std::ptrdiff_t>(height));
  }

  std::vector<int32_t> Encode(const std::string& line, bool special) {
    std::vector<int32_t> ids;
    const TextFrame& frame = tokenizer_->frame();
    if (special) ids = frame.prefix;
    EXPECT_TRUE(tokenizer_->Encode(line, special, &ids).ok());
    if (special) ids.insert(ids.end(), frame.suffix.begin(), frame.suffix.end());
    return ids;
  }

  std::string Decode(const std::vector<int32_t>& ids) {
    auto text = tokenizer_->Decode(ids.data(), ids.size(), /*skip_special=*/true);
    EXPECT_TRUE(text.ok()) << text.status();
    return text.ok() ? *std::move(text) : "";
  }

  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<uint32_t> golden_;
};

std::string Packed(const std::vector<int32_t>& ids) {
  return {reinterpret_cast<const char*>(ids.data()), 4 * ids.size()};
}

TEST_P(TokenizerFamily, GivesTheSameIdsAndTexts) {
  const std::vector<std::string> lines = Lines();
  ASSERT_GT(lines.size(), 5000u);
  ASSERT_EQ(lines.size() + 1, golden_.size());
  int shown = 0;
  for (size_t i = 0; i < lines.size() && shown < 5; ++i) {
    const std::vector<int32_t> special = Encode(lines[i], true);
    const std::vector<int32_t> plain = Encode(lines[i], false);
    const std::string text = Decode(plain);
    if (Crc32(Packed(special) + Packed(plain) + text) == golden_[i]) continue;
    ++shown;
    ADD_FAILURE() << "line " << i << ": " << testing::PrintToString(lines[i]) << "\nspecial "
                  << testing::PrintToString(special) << "\nplain " << testing::PrintToString(plain)
                  << "\ntext " << testing::PrintToString(text);
  }
}

// Also token by token, as they are generated.
TEST_P(TokenizerFamily, DecodesWhateverComes) {
  std::string texts;
  uint32_t x = 1;
  const auto size = static_cast<uint32_t>(tokenizer_->size());
  for (int i = 0; i < kIdLists; ++i) {
    std::vector<int32_t> ids;
    for (int k = 0; k < kIdsInList; ++k) {
      x = x * 1664525 + 1013904223;
      const uint32_t limit = x >> 30 == 0 ? size : std::min(size, 264u);
      ids.push_back(static_cast<int32_t>((x >> 8) % limit));
    }
    TokenStream stream(*tokenizer_, /*skip_special=*/true);
    std::string streamed;
    for (const int32_t id : ids) {
      const auto piece = stream.Push(id);
      ASSERT_TRUE(piece.ok());
      EXPECT_TRUE(IsUtf8(*piece));
      streamed += *piece;
    }
    streamed += stream.Finish();
    ASSERT_EQ(Decode(ids), streamed);
    texts.append(streamed).push_back('\0');
  }
  EXPECT_EQ(Crc32(texts), golden_.back());
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerFamily, testing::ValuesIn(kColumns),
                         [](const auto& param) { return std::string(param.param); });

}  // namespace
}  // namespace qft
