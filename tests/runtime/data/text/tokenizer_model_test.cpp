// Files of SentencePiece and of GGUF that are broken, or not for us.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "golden.h"
#include "runtime/data/protobuf.h"
#include "runtime/data/text/metaspace.h"
#include "runtime/data/text/sentencepiece_model.h"
#include "runtime/data/text/tokenizer.h"
#include "tests/runtime/data/format_bytes.h"
#include "tests/runtime/data/memory_file_system.h"

namespace qft {
namespace {

using Type = SentencePieceModel::Type;

const std::string& LlamaBytes() {
  static const std::string bytes = ReadTestFile("sentencepiece_llama.model");
  return bytes;
}

const std::string& UnigramBytes() {
  static const std::string bytes = ReadTestFile("sentencepiece_unigram.model");
  return bytes;
}

StatusOr<std::shared_ptr<const Tokenizer>> MakeTokenizer(const std::string& bytes) {
  QFT_ASSIGN_OR_RETURN(TokenizerSpec spec, ParseTokenizerModel(bytes));
  return Tokenizer::Create(std::move(spec));
}

// The llama model, or another one, after a change.
Status StatusAfter(const std::function<void(SentencePieceModel&)>& change,
                   const std::string& bytes = LlamaBytes()) {
  SentencePieceModel model = *ParseSentencePieceModel(bytes);
  change(model);
  return MakeTokenizer(WriteSentencePieceModel(model)).status();
}

TEST(TokenizerModel, ReadsWhatItWrites) {
  for (const std::string& bytes : {LlamaBytes(), UnigramBytes()}) {
    const SentencePieceModel model = *ParseSentencePieceModel(bytes);
    const std::string written = WriteSentencePieceModel(model);
    EXPECT_EQ(WriteSentencePieceModel(*ParseSentencePieceModel(written)), written);
    const auto before = MakeTokenizer(bytes);
    const auto after = MakeTokenizer(written);
    ASSERT_TRUE(before.ok() && after.ok());
    std::vector<int32_t> ids;
    std::vector<int32_t> again;
    ASSERT_TRUE((*before)->Encode("  Hello ½ wörld</s> [INST] ", true, &ids).ok());
    ASSERT_TRUE((*after)->Encode("  Hello ½ wörld</s> [INST] ", true, &again).ok());
    EXPECT_EQ(ids, again);
  }
}

TEST(TokenizerModel, RefusesWhatIsBroken) {
  const auto expect = [](const std::string& named,
                         const std::function<void(SentencePieceModel&)>& change,
                         const std::string& bytes = LlamaBytes()) {
    const Status status = StatusAfter(change, bytes);
    EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kBadData) << named << ": " << status;
    EXPECT_NE(status.message().find(named), std::string::npos) << named << ": " << status;
  };
  using Model = SentencePieceModel;
  expect("no pieces", [](Model& m) { m.pieces.clear(); });
  expect("empty", [](Model& m) { m.pieces[700].text.clear(); });
  expect("UTF-8", [](Model& m) { m.pieces[700].text = "a\xFF"; });
  expect("stands twice", [](Model& m) { m.pieces[700].text = m.pieces[701].text; });
  expect("not finite", [](Model& m) { m.pieces[700].score = NAN; });
  expect("not finite", [](Model& m) { m.pieces[700].score = -INFINITY; });
  expect("2 unknown tokens", [](Model& m) { m.pieces[700].type = Type::kUnknown; });
  expect("0 unknown tokens", [](Model& m) { m.pieces[0].type = Type::kNormal; });
  expect("255 byte tokens", [](Model& m) { m.pieces[9].type = Type::kNormal; });
  expect("not named like one", [](Model& m) { m.pieces[700].type = Type::kByte; });
  expect("byte_fallback is off", [](Model& m) { m.byte_fallback = false; });
  expect("600 bytes long", [](Model& m) { m.pieces[700].text = std::string(600, 'x'); });
  expect("70000 bytes long", [](Model& m) {
    m.pieces[700].text = std::string(70000, 'x');
    m.pieces[700].type = Type::kUserDefined;
  });
  expect("unk_surface", [](Model& m) { m.unknown_text = "\xC3"; });
  expect("unk_surface is 300 bytes", [](Model& m) { m.unknown_text.assign(300, '?'); });
  expect(
      "a text of 300 bytes", [](Model& m) { m.charsmap += std::string(300, 'x') + '\0'; },
      UnigramBytes());
  expect("charsmap is cut off", [](Model& m) { m.charsmap = "abc"; });
  expect("its trie 0", [](Model& m) { m.charsmap = std::string(12, '\0'); });
  expect("its trie", [](Model& m) { m.charsmap = std::string(12, '\xFF'); });
  expect(
      "its trie", [](Model& m) { m.charsmap.resize(40); }, UnigramBytes());
  expect(
      "not UTF-8", [](Model& m) { m.charsmap.pop_back(); }, UnigramBytes());
  expect(
      "not UTF-8", [](Model& m) { m.charsmap[m.charsmap.size() - 2] = '\xC3'; }, UnigramBytes());
}

TEST(TokenizerModel, RefusesByNameWhatItDoesNotDo) {
  std::string trainer;
  AppendVarintField(3, 4, &trainer);
  std::string denormalizer;
  AppendBytesField(2, "map", &denormalizer);
  std::string piece;
  AppendBytesField(1, "x", &piece);
  AppendVarintField(3, 9, &piece);
  for (const auto& [number, message, named] :
       {std::tuple(2u, trainer, "model_type 4"), std::tuple(5u, denormalizer, "denormalizer_spec"),
        std::tuple(1u, piece, "a piece of type 9")}) {
    std::string bytes = LlamaBytes();
    AppendBytesField(number, message, &bytes);
    const Status status = MakeTokenizer(bytes).status();
    EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kUnsupported) << status;
    EXPECT_NE(status.message().find(named), std::string::npos) << status;
  }
}

TEST(TokenizerModel, RefusesWhatIsNoMessage) {
  std::string wrong_type;
  AppendVarintField(1, 7, &wrong_type);
  std::string piece;
  AppendBytesField(2, "score", &piece);
  std::string wrong_score;
  AppendBytesField(1, piece, &wrong_score);
  for (const auto& [bytes, named] :
       {std::pair(std::string(), "no pieces"), std::pair(std::string("\x0A"), "no end"),
        std::pair(std::string("\x0A\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x01"), "cut off"),
        std::pair(std::string(12, '\xFF'), "no end"), std::pair(std::string("\x02"), "number 0"),
        std::pair(std::string("\x0B"), "wire type 3"),
        std::pair(std::string("\x0D\x01"), "cut off"),
        std::pair(std::string("{\"model\": 1}"), "wire type"),
        std::pair(wrong_type, "pieces is of another type"),
        std::pair(wrong_score, "score is of another type")}) {
    const Status status = MakeTokenizer(bytes).status();
    EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kBadData) << status;
    EXPECT_NE(status.message().find(named), std::string::npos) << named << ": " << status;
  }
}

// Whatever part of a file is missing or changed, there is a Status or a tokenizer that works.
TEST(TokenizerModel, SurvivesDamage) {
  const std::string text = "Some wörds １２ ﬁ é ǟ \xEF\xBF\xBD 字\t\u200b [INST]</s> \U0001F468";
  for (const std::string& whole : {LlamaBytes(), UnigramBytes()}) {
    for (size_t size = 0; size < whole.size(); size += 1 + size / 30) {
      (void)MakeTokenizer(whole.substr(0, size)).ok();
    }
    uint32_t x = 1;
    for (int round = 0; round < 600; ++round) {
      std::string changed = whole;
      // Half of the time in the character map, which is checked least.
      const size_t begin = round % 2 == 0 ? 0 : whole.size() - std::min<size_t>(whole.size(), 2000);
      for (int change = 0; change < 1 + round % 50; ++change) {
        x = x * 1664525 + 1013904223;
        changed[begin + (x >> 8) % (whole.size() - begin)] = static_cast<char>(x >> 24);
      }
      const auto tokenizer = MakeTokenizer(changed);
      std::vector<int32_t> ids;
      if (!tokenizer.ok()) continue;
      ASSERT_TRUE((*tokenizer)->Encode(text, true, &ids).ok());
      ASSERT_TRUE((*tokenizer)->Decode(ids.data(), ids.size(), false).ok());
    }
  }
}

// Pieces that are not used come apart again, as in the library.
TEST(TokenizerModel, TakesUnusedPiecesApart) {
  SentencePieceModel model = *ParseSentencePieceModel(LlamaBytes());
  const auto tokenizer = MakeTokenizer(LlamaBytes());
  std::vector<int32_t> ids;
  ASSERT_TRUE((*tokenizer)->Encode("the", false, &ids).ok());
  ASSERT_EQ(ids.size(), 1u);
  model.pieces[static_cast<size_t>(ids[0])].type = Type::kUnused;
  const auto changed = MakeTokenizer(WriteSentencePieceModel(model));
  ASSERT_TRUE(changed.ok()) << changed.status();
  std::vector<int32_t> parts;
  ASSERT_TRUE((*changed)->Encode("the", false, &parts).ok());
  EXPECT_GT(parts.size(), 1u);
  EXPECT_EQ(*(*changed)->Decode(parts.data(), parts.size(), true), "the");
}

TEST(TokenizerModel, LongRunsTakeNoAges) {
  for (const char* name :
       {"sentencepiece_llama.model", "sentencepiece_unigram.model", "sentencepiece_suffix.model"}) {
    const auto tokenizer = MakeTokenizer(ReadTestFile(name));
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    for (const std::string& text :
         {std::string(1000000, 'a'), std::string(1000000, ' '),
          ReplaceAll(std::string(300000, 'x'), "x", "字"), std::string(1000000, '\0')}) {
      std::vector<int32_t> ids;
      ASSERT_TRUE((*tokenizer)->Encode(text, true, &ids).ok());
    }
  }
}

constexpr char kFolder[] = "/model";

StatusOr<std::shared_ptr<const Tokenizer>> LoadWith(const std::string& config) {
  MemoryFileSystem fs;
  fs.files["/model/tokenizer.model"] = LlamaBytes();
  if (!config.empty()) fs.files["/model/tokenizer_config.json"] = config;
  return Tokenizer::Load(fs, kFolder);
}

TEST(TokenizerModel, LiesInAFolder) {
  const auto plain = LoadWith("");
  ASSERT_TRUE(plain.ok()) << plain.status();
  EXPECT_EQ((*plain)->end_id(), 2);
  EXPECT_EQ((*plain)->frame().prefix, std::vector<int32_t>{1});
  EXPECT_TRUE((*plain)->frame().suffix.empty());
  ASSERT_EQ((*plain)->files().size(), 2u);
  EXPECT_EQ((*plain)->files()[0].first, "tokenizer.model");
  EXPECT_EQ((*plain)->files()[0].second, LlamaBytes());
  EXPECT_NE((*plain)->files()[1].second.find("LlamaTokenizer"), std::string::npos);

  const auto set = LoadWith(
      R"({"add_bos_token": false, "add_eos_token": true, "legacy": false, "eos_token": "<|end|>",
          "added_tokens_decoder": {"0": {"content": "<unk>", "special": true},
                                   "1400": {"content": "<|end|>", "special": true}}})");
  ASSERT_TRUE(set.ok()) << set.status();
  EXPECT_EQ((*set)->end_id(), 1400);
  EXPECT_TRUE((*set)->frame().prefix.empty());
  EXPECT_EQ((*set)->frame().suffix, std::vector<int32_t>{1400});
  // Without "legacy", no space is put after an added token.
  std::vector<int32_t> ids;
  ASSERT_TRUE((*set)->Encode("a<|end|>a", true, &ids).ok());
  const std::vector<int32_t> expected = {*(*set)->Find("\u2581a"), 1400, *(*set)->Find("a")};
  EXPECT_EQ(ids, expected);
}

TEST(TokenizerModel, BeginsAText) {
  const auto tokenizer = MakeTokenizer(LlamaBytes());
  for (const char* prompt : {"a", "<s>a"}) {
    std::vector<int32_t> ids = {5, 6};
    const auto prefix = (*tokenizer)->Begin(prompt, /*special=*/true, &ids);
    ASSERT_TRUE(prefix.ok());
    EXPECT_EQ(*prefix, 1u);
    EXPECT_EQ(ids, (std::vector<int32_t>{1, *(*tokenizer)->Find("\u2581a")}));
  }
}

TEST(TokenizerModel, RefusesABrokenConfiguration) {
  for (const char* config :
       {"[]", R"({"legacy": 1})", R"({"add_bos_token": "yes"})", R"({"added_tokens_decoder": []})",
        R"({"added_tokens_decoder": {"x": {"content": "y"}}})",
        R"({"added_tokens_decoder": {"99999999999": {"content": "y"}}})",
        R"({"added_tokens_decoder": {"900000000": {"content": "y"}}})",
        R"({"added_tokens_decoder": {"1400": {"content": ""}}})",
        R"({"added_tokens_decoder": {"1400": {"content": "<s>"}}})"}) {
    const Status status = LoadWith(config).status();
    EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kBadData) << config << ": " << status;
  }
}

// ---- the same in a GGUF file --------------------------------------------------------------------

constexpr uint32_t kBool = 7;
constexpr uint32_t kFloat = 6;
constexpr uint32_t kInt32 = 5;
constexpr uint32_t kString = 8;
constexpr uint32_t kArray = 9;

struct GgufParts {
  std::string tokens;
  std::string scores;
  std::string types;
  uint64_t tokens_count = 0;
  uint64_t scores_count = 0;
  uint64_t types_count = 0;
  std::vector<std::pair<std::string, bool>> flags;
  uint32_t end_id = 2;
  std::string kind = "llama";
};

GgufParts PartsOf(const SentencePieceModel& model) {
  GgufParts parts;
  for (const auto& piece : model.pieces) {
    parts.tokens += GgufString(piece.text);
    parts.scores += Bytes(piece.score);
    parts.types += Bytes(static_cast<int32_t>(piece.type));
  }
  parts.tokens_count = parts.scores_count = parts.types_count = model.pieces.size();
  return parts;
}

StatusOr<std::shared_ptr<const Tokenizer>> LoadGguf(const GgufParts& parts) {
  GgufBytes bytes;
  const auto add_array = [&bytes](const char* key, uint32_t type, uint64_t count,
                                  const std::string& values) {
    bytes.AddEntry(key, kArray, Bytes(type) + Bytes(count) + values);
  };
  bytes.AddString("tokenizer.ggml.model", parts.kind);
  add_array("tokenizer.ggml.tokens", kString, parts.tokens_count, parts.tokens);
  if (parts.scores_count > 0) {
    add_array("tokenizer.ggml.scores", kFloat, parts.scores_count, parts.scores);
  }
  if (parts.types_count > 0) {
    add_array("tokenizer.ggml.token_type", kInt32, parts.types_count, parts.types);
  }
  bytes.AddUint32("tokenizer.ggml.bos_token_id", 1);
  bytes.AddUint32("tokenizer.ggml.eos_token_id", parts.end_id);
  for (const auto& [key, value] : parts.flags) {
    bytes.AddEntry("tokenizer.ggml." + key, kBool, std::string(1, value ? '\1' : '\0'));
  }
  MemoryFileSystem fs;
  fs.files["/model.gguf"] = bytes.Build();
  return Tokenizer::Load(fs, "/model.gguf");
}

std::vector<int32_t> IdsOf(const Tokenizer& tokenizer, const std::string& text) {
  std::vector<int32_t> ids;
  EXPECT_TRUE(tokenizer.Encode(text, true, &ids).ok());
  return ids;
}

TEST(TokenizerGguf, IsTheModelItWasMadeOf) {
  for (const char* name : {"sentencepiece_llama.model", "sentencepiece_yi.model"}) {
    const std::string bytes = ReadTestFile(name);
    const SentencePieceModel model = *ParseSentencePieceModel(bytes);
    GgufParts parts = PartsOf(model);
    parts.flags = {{"add_space_prefix", model.add_dummy_prefix}, {"add_bos_token", false}};
    const auto expected = MakeTokenizer(bytes);
    const auto gguf = LoadGguf(parts);
    ASSERT_TRUE(gguf.ok()) << gguf.status();
    EXPECT_EQ((*gguf)->end_id(), 2);
    EXPECT_TRUE((*gguf)->frame().prefix.empty());
    // What export writes is read back as the same tokenizer.
    MemoryFileSystem fs;
    for (const auto& [file, content] : (*gguf)->files()) fs.files["/model/" + file] = content;
    const auto exported = Tokenizer::Load(fs, kFolder);
    ASSERT_TRUE(exported.ok()) << exported.status();
    EXPECT_TRUE((*exported)->frame().prefix.empty());
    for (const Golden::Line& line : ReadGolden().lines) {
      const std::vector<int32_t> ids = IdsOf(**expected, line.text);
      ASSERT_EQ(IdsOf(**gguf, line.text), ids) << testing::PrintToString(line.text);
      ASSERT_EQ(IdsOf(**exported, line.text), ids) << testing::PrintToString(line.text);
    }
  }
}

TEST(TokenizerGguf, BeginsWithATokenUnlessToldOtherwise) {
  GgufParts parts = PartsOf(*ParseSentencePieceModel(LlamaBytes()));
  EXPECT_EQ((*LoadGguf(parts))->frame().prefix, std::vector<int32_t>{1});
  parts.flags = {{"add_bos_token", false}, {"add_eos_token", true}};
  EXPECT_TRUE((*LoadGguf(parts))->frame().prefix.empty());
  EXPECT_EQ((*LoadGguf(parts))->frame().suffix, std::vector<int32_t>{2});
}

TEST(TokenizerGguf, RefusesWhatIsBroken) {
  const GgufParts whole = PartsOf(*ParseSentencePieceModel(LlamaBytes()));
  const std::vector<std::pair<std::string, std::function<void(GgufParts&)>>> changes = {
      {"scores", [](GgufParts& p) { p.scores_count = 0; }},
      {"token_type", [](GgufParts& p) { p.types_count = 0; }},
      {"scores",
       [](GgufParts& p) {
         --p.scores_count;
         p.scores.resize(p.scores.size() - 4);
       }},
      {"token_type of token 5 is 77", [](GgufParts& p) { p.types[20] = 77; }},
      {"not finite", [](GgufParts& p) { p.scores.replace(400, 4, Bytes(std::nanf(""))); }},
      {"0 unknown tokens", [](GgufParts& p) { p.types[0] = 1; }},
      {"eos_token_id names no token", [](GgufParts& p) { p.end_id = 1u << 30; }},
  };
  for (const auto& [named, change] : changes) {
    GgufParts parts = whole;
    change(parts);
    const Status status = LoadGguf(parts).status();
    EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kBadData) << named << ": " << status;
    EXPECT_NE(status.message().find(named), std::string::npos) << named << ": " << status;
  }
  GgufParts other = whole;
  other.kind = "t5";
  EXPECT_EQ(GetErrorInfo(LoadGguf(other).status()).code, ErrorCode::kUnsupported);
  other = whole;
  other.tokens_count = uint64_t{1} << 60;
  EXPECT_FALSE(LoadGguf(other).ok());
}

}  // namespace
}  // namespace qft
