#include "runtime/data/text/tokenizer.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>

#include "golden.h"
#include "runtime/data/text/unicode.h"

namespace qft {
namespace {

using nlohmann::json;

const std::string& SmallJson() {
  static const std::string text = ReadTestFile("tokenizer_small.json");
  return text;
}

StatusOr<std::shared_ptr<const Tokenizer>> MakeTokenizer(const std::string& text) {
  QFT_ASSIGN_OR_RETURN(TokenizerSpec spec, ParseTokenizerJson(text, "test"));
  return Tokenizer::Create(std::move(spec));
}

ErrorCode CodeAfter(const std::function<void(json&)>& change, std::string* message) {
  json changed = json::parse(SmallJson());
  change(changed);
  const Status status = MakeTokenizer(changed.dump()).status();
  *message = std::string(status.message());
  return GetErrorInfo(status).code;
}

TEST(TokenizerJson, RefusesByNameWhatItDoesNotDo) {
  const auto expect = [](const std::string& named, const std::function<void(json&)>& change) {
    std::string message;
    EXPECT_EQ(CodeAfter(change, &message), ErrorCode::kUnsupported) << named << ": " << message;
    EXPECT_NE(message.find(named), std::string::npos) << named << ": " << message;
  };
  expect("Unigram", [](json& t) { t["model"]["type"] = "Unigram"; });
  expect("dropout", [](json& t) { t["model"]["dropout"] = 0.1; });
  expect("byte_fallback", [](json& t) { t["model"]["byte_fallback"] = true; });
  expect("##", [](json& t) { t["model"]["continuing_subword_prefix"] = "##"; });
  expect("end_of_word_suffix", [](json& t) { t["model"]["end_of_word_suffix"] = "</w>"; });
  expect("model.novelty", [](json& t) { t["model"]["novelty"] = 1; });
  expect("novelty", [](json& t) { t["novelty"] = 1; });
  expect("Lowercase", [](json& t) { t["normalizer"] = {{"type", "Lowercase"}}; });
  expect("Metaspace", [](json& t) {
    t["pre_tokenizer"] = {{"type", "Metaspace"}, {"replacement", "_"}};
  });
  expect("Metaspace", [](json& t) {
    t["pre_tokenizer"]["pretokenizers"][0] = {{"type", "Metaspace"}, {"replacement", "\u2581"}};
  });
  expect("middle", [](json& t) {
    t["pre_tokenizer"] = {
        {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "middle"}};
  });
  expect("pre_tokenizer", [](json& t) { t["pre_tokenizer"] = nullptr; });
  expect("without decoder", [](json& t) { t["pre_tokenizer"] = t["decoder"] = nullptr; });
  expect("pre_tokenizer", [](json& t) { t["pre_tokenizer"]["pretokenizers"] = json::array(); });
  expect("ByteLevel", [](json& t) {
    t["pre_tokenizer"] = {{"type", "Digits"}, {"individual_digits", true}};
  });
  expect("ByteLevel", [](json& t) {
    auto& steps = t["pre_tokenizer"]["pretokenizers"];
    std::swap(steps[0], steps[1]);
  });
  expect("Split.", [](json& t) { t["pre_tokenizer"]["pretokenizers"][0] = {{"type", "Split."}}; });
  expect("Sideways", [](json& t) {
    t["pre_tokenizer"]["pretokenizers"][0] = {
        {"type", "Split"}, {"pattern", {{"Regex", "a"}}}, {"behavior", "Sideways"}};
  });
  expect("decoder", [](json& t) { t["decoder"] = {{"type", "ByteFallback"}}; });
  expect("WordPiece", [](json& t) { t["decoder"] = {{"type", "WordPiece"}}; });
  expect("Strip", [](json& t) {
    t["decoder"] = {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}};
  });
  expect("ByteFallback", [](json& t) {
    t["decoder"] = {{"type", "Sequence"},
                    {"decoders", {{{"type", "Fuse"}}, {{"type", "ByteFallback"}}}}};
  });
  expect("stop", [](json& t) {
    t["decoder"] = {
        {"type", "Sequence"},
        {"decoders",
         {{{"type", "Fuse"}}, {{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 1}}}}};
  });
  expect("Regex", [](json& t) {
    t["normalizer"] = {{"type", "Replace"}, {"pattern", {{"Regex", " +"}}}, {"content", "_"}};
  });
  expect("Precompiled", [](json& t) { t["normalizer"] = {{"type", "Precompiled"}}; });
  expect("RobertaProcessing", [](json& t) {
    t["post_processor"] = {{"type", "RobertaProcessing"}};
  });
  for (const char* pattern : {"\\w+", "\\bx", "\\h", "(?x:a)", "(?<n>a)", "\\R", "a\\1"}) {
    expect(std::string(pattern, 1) == "(" ? "(?" : "\\", [pattern](json& t) {
      t["pre_tokenizer"]["pretokenizers"][0] = {
          {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}};
    });
  }
  for (const char* pattern : {"(", "[", "a{3", "*", "[z-a]", "\\p{Nonsense}"}) {
    expect(pattern, [pattern](json& t) {
      t["pre_tokenizer"]["pretokenizers"][0] = {
          {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}};
    });
  }
}

// Each rule is small, but they feed each other.
TEST(TokenizerJson, RefusesRulesThatMakeGigabytes) {
  const json grow = {
      {"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(200, 'a')}};
  json changed = json::parse(SmallJson());
  changed["normalizer"] = {{"type", "Sequence"}, {"normalizers", {grow, grow, grow, grow, grow}}};
  const auto tokenizer = MakeTokenizer(changed.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::vector<int32_t> ids;
  EXPECT_TRUE((*tokenizer)->Encode("xyz", false, &ids).ok());
  EXPECT_EQ(GetErrorInfo((*tokenizer)->Encode("xyza", false, &ids)).code, ErrorCode::kOutOfRange);
  changed["added_tokens"].push_back({{"id", 2500}, {"content", "banana"}, {"normalized", true}});
  EXPECT_EQ(GetErrorInfo(MakeTokenizer(changed.dump()).status()).code, ErrorCode::kOutOfRange);
}

TEST(TokenizerJson, RefusesWhatIsBroken) {
  const std::vector<std::function<void(json&)>> changes = {
      [](json& t) { t.erase("model"); },
      [](json& t) { t["model"] = 3; },
      [](json& t) { t["model"].erase("vocab"); },
      [](json& t) { t["model"]["vocab"] = json::array(); },
      [](json& t) { t["model"]["vocab"]["!"] = -1; },
      [](json& t) { t["model"]["vocab"]["!"] = 1.5; },
      [](json& t) { t["model"]["vocab"]["!"] = "3"; },
      [](json& t) { t["model"]["vocab"]["!"] = 4; },
      [](json& t) { t["model"]["vocab"]["!"] = 1000000; },
      [](json& t) { t["model"]["vocab"]["!"] = 1e300; },
      [](json& t) { t["model"]["vocab"]["!"] = INT64_MAX; },
      [](json& t) { t["model"]["vocab"]["!"] = UINT64_MAX; },
      [](json& t) { t["model"].erase("merges"); },
      [](json& t) { t["model"]["merges"][0] = "ab"; },
      [](json& t) { t["model"]["merges"][0] = "a b c"; },
      [](json& t) { t["model"]["merges"][0] = {"a"}; },
      [](json& t) {
        t["model"]["merges"][0] = {"a", 3};
      },
      [](json& t) {
        t["model"]["merges"][0] = {"nowhere", "a"};
      },
      [](json& t) {
        t["model"]["merges"][0] = {"!", "#"};
      },
      [](json& t) { t["model"]["unk_token"] = "nowhere"; },
      [](json& t) { t["model"]["unk_token"] = 3; },
      [](json& t) { t["model"]["fuse_unk"] = 1; },
      [](json& t) { t["added_tokens"] = 1; },
      [](json& t) { t["added_tokens"][0] = 1; },
      [](json& t) { t["added_tokens"][0].erase("id"); },
      [](json& t) { t["added_tokens"][0]["id"] = 1; },
      [](json& t) { t["added_tokens"][0]["id"] = 1 << 30; },
      [](json& t) { t["added_tokens"][0]["content"] = ""; },
      [](json& t) { t["added_tokens"][0]["special"] = "yes"; },
      [](json& t) { t["pre_tokenizer"] = 1; },
      [](json& t) { t["pre_tokenizer"]["pretokenizers"] = 1; },
      [](json& t) { t["pre_tokenizer"]["pretokenizers"][0]["individual_digits"] = 1; },
      [](json& t) { t["normalizer"] = 1; },
      [](json& t) {
        t["normalizer"] = {{"type", "Sequence"}};
      },
      [](json& t) { t["decoder"] = "ByteLevel"; },
      [](json& t) {
        t["decoder"] = {{"type", "Sequence"}, {"decoders", 3}};
      },
      [](json& t) {
        t["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", "_"}};
      },
      [](json& t) {
        t["normalizer"] = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", 1}};
      },
      [](json& t) {
        t["normalizer"] = {{"type", "Prepend"}, {"prepend", std::string(1000, 'x')}};
      },
      [](json& t) { t["post_processor"] = 1; },
      [](json& t) {
        t["post_processor"] = {{"type", "TemplateProcessing"}};
      },
      [](json& t) {
        t["post_processor"] = {{"type", "TemplateProcessing"}, {"single", json::array()}};
      },
      [](json& t) {
        t["post_processor"] = {
            {"type", "TemplateProcessing"},
            {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}}};
      },
      [](json& t) {
        t["post_processor"] = {
            {"type", "TemplateProcessing"},
            {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
            {"special_tokens", {{"<s>", {{"ids", {5000}}}}}}};
      },
      [](json& t) {
        t["post_processor"] = {
            {"type", "TemplateProcessing"},
            {"single", {{{"SpecialToken", {{"id", "<s>"}}}}, {{"Sequence", {{"id", "A"}}}}}},
            {"special_tokens", {{"<s>", {{"ids", std::vector<int>(300, 1)}}}}}};
      },
  };
  for (size_t i = 0; i < changes.size(); ++i) {
    std::string message;
    EXPECT_EQ(CodeAfter(changes[i], &message), ErrorCode::kBadData) << i << ": " << message;
  }
  for (const std::string& text : {std::string(), std::string("[]"), std::string("{"),
                                  std::string(1 << 20, '['), std::string(3, '\0')}) {
    EXPECT_FALSE(MakeTokenizer(text).ok());
  }
}

// Whatever part of the file is missing or changed, there is a Status or a tokenizer.
TEST(TokenizerJson, SurvivesDamage) {
  const std::string& text = SmallJson();
  for (size_t size = 0; size < text.size(); size += 1 + size / 40) {
    EXPECT_FALSE(MakeTokenizer(text.substr(0, size)).ok());
  }
  int refused = 0;
  for (size_t at = 0; at < text.size(); at += 1 + at / 25) {
    std::string changed = text;
    changed[at] = static_cast<char>(changed[at] ^ 0x11);
    const auto tokenizer = MakeTokenizer(changed);
    std::vector<int32_t> ids;
    if (tokenizer.ok()) {
      EXPECT_TRUE((*tokenizer)->Encode("some text 123", true, &ids).ok());
    } else {
      ++refused;
    }
  }
  EXPECT_GT(refused, 50);
}

class TokenizerFolder : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing::TempDir() + "qft_tokenizer_" + std::to_string(getpid());
    std::filesystem::create_directory(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  void Write(const std::string& name, const std::string& content) {
    std::ofstream(folder_ + "/" + name, std::ios::binary) << content;
  }
  std::string folder_;
};

TEST_F(TokenizerFolder, FindsTheEndToken) {
  EXPECT_EQ(GetErrorInfo(Tokenizer::Load(PosixFileSystem(), folder_).status()).code,
            ErrorCode::kFileNotFound);
  Write("tokenizer.json", SmallJson());
  const auto end = [this] {
    const auto tokenizer = Tokenizer::Load(PosixFileSystem(), folder_);
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    return tokenizer.ok() ? (*tokenizer)->end_id().value_or(-1) : -2;
  };
  EXPECT_EQ(end(), -1);
  Write("config.json", "{\"eos_token_id\": [2, 0]}");
  EXPECT_EQ(end(), 2);
  Write("special_tokens_map.json", "{\"eos_token\": {\"content\": \"<|endoftext|>\"}}");
  EXPECT_EQ(end(), 0);
  Write("tokenizer_config.json", "{\"eos_token\": \"<|im_end|>\"}");
  EXPECT_EQ(end(), 2);
  Write("config.json", "{\"eos_token_id\": 99999999999}");
  Write("tokenizer_config.json", "{\"eos_token\": \"unheard of\"}");
  EXPECT_EQ(end(), 0);
  Write("tokenizer_config.json", "[");
  EXPECT_FALSE(Tokenizer::Load(PosixFileSystem(), folder_).ok());
}

TEST_F(TokenizerFolder, SeveralTokensMayEndAnAnswer) {
  Write("tokenizer.json", SmallJson());
  Write("tokenizer_config.json", "{\"eos_token\": \"<|im_end|>\"}");
  const auto stops = [this] {
    const auto tokenizer = Tokenizer::Load(PosixFileSystem(), folder_);
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    EXPECT_EQ((*tokenizer)->end_id(), 2);
    std::vector<int32_t> ids;
    for (int32_t id = -1; id <= (*tokenizer)->size(); ++id) {
      if ((*tokenizer)->Stops(id)) ids.push_back(id);
    }
    return ids;
  };
  EXPECT_EQ(stops(), (std::vector<int32_t>{2}));
  Write("config.json", "{\"eos_token_id\": 0}");
  EXPECT_EQ(stops(), (std::vector<int32_t>{0, 2}));
  const std::string generation = "{\"eos_token_id\": [2, 7, 99999999999, -1, \"x\", [1]]}";
  Write("generation_config.json", generation);
  EXPECT_EQ(stops(), (std::vector<int32_t>{0, 2, 7}));
  // The export's answers end where this one's do.
  EXPECT_EQ((*Tokenizer::Load(PosixFileSystem(), folder_))->files().back(),
            std::pair(std::string("generation_config.json"), generation));
  Write("generation_config.json", "{\"eos_token_id\": null}");
  EXPECT_EQ(stops(), (std::vector<int32_t>{0, 2}));
}

TEST_F(TokenizerFolder, ExportsWhatItRead) {
  Write("tokenizer.json", SmallJson());
  Write("config.json", "{\"eos_token_id\": 2}");
  const auto file = Tokenizer::Load(PosixFileSystem(), folder_ + "/tokenizer.json");
  ASSERT_TRUE(file.ok()) << file.status();
  const auto& made = (*file)->files();
  ASSERT_EQ(made.size(), 2u);
  EXPECT_EQ(made[0], (std::pair<std::string, std::string>("tokenizer.json", SmallJson())));
  EXPECT_EQ(made[1].first, "tokenizer_config.json");
  EXPECT_EQ(json::parse(made[1].second)["eos_token"], "<|im_end|>");
  const std::string config = "{\"eos_token\":  \"<|im_end|>\"}";
  Write("tokenizer_config.json", config);
  Write("chat_template.jinja", "{{ x }}");
  const auto folder = Tokenizer::Load(PosixFileSystem(), folder_);
  ASSERT_TRUE(folder.ok()) << folder.status();
  EXPECT_EQ((*folder)->files(),
            (std::vector<std::pair<std::string, std::string>>{{"tokenizer.json", SmallJson()},
                                                              {"tokenizer_config.json", config},
                                                              {"chat_template.jinja", "{{ x }}"}}));
}

const Tokenizer& Small() {
  static const std::shared_ptr<const Tokenizer> tokenizer = *MakeTokenizer(SmallJson());
  return *tokenizer;
}

TEST(Tokenizer, LooksUpTokens) {
  EXPECT_EQ(Small().size(), 2001);
  EXPECT_EQ(Small().Find("<|im_end|>"), 2);
  EXPECT_EQ(Small().Find("<tool>"), 2000);
  EXPECT_EQ(Small().Find("no such token"), std::nullopt);
  EXPECT_TRUE(Small().IsSpecial(2));
  EXPECT_FALSE(Small().IsSpecial(2000));
  EXPECT_FALSE(Small().IsSpecial(-1));
  const int32_t outside[] = {5, 2001};
  EXPECT_EQ(GetErrorInfo(Small().Decode(outside, 2, true).status()).code, ErrorCode::kOutOfRange);
  const int32_t negative[] = {-1};
  EXPECT_EQ(GetErrorInfo(Small().Decode(negative, 1, true).status()).code, ErrorCode::kOutOfRange);
  EXPECT_EQ(*Small().Decode(nullptr, 0, true), "");
}

// An added token that is not looked for is made by nothing else.
TEST(Tokenizer, MergesMakeNoAddedToken) {
  json changed = json::parse(SmallJson());
  changed["model"]["ignore_merges"] = true;
  changed["added_tokens"].push_back({{"id", 2001}, {"content", "zqxj"}, {"special", true}});
  const auto tokenizer = MakeTokenizer(changed.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  std::vector<int32_t> ids;
  ASSERT_TRUE((*tokenizer)->Encode("zqxj", true, &ids).ok());
  EXPECT_EQ(ids, std::vector<int32_t>{2001});
  ids.clear();
  ASSERT_TRUE((*tokenizer)->Encode("zqxj", false, &ids).ok());
  EXPECT_GT(ids.size(), 1u);
}

// One megabyte in one piece: the merges of a word take O(n log n), spaces no stack.
// tokenizers 0.23.3 says the same of each.
TEST(Tokenizer, TokensWithoutTheirWhiteSpaceAreNone) {
  json raw = json::parse(SmallJson());
  const auto size = static_cast<int32_t>(Small().size());
  const std::vector<const char*> contents = {"\n\n", "[Q]", " b", "\t\t"};
  for (size_t i = 0; i < contents.size(); ++i) {
    raw["added_tokens"].push_back({{"id", size + i},
                                   {"content", contents[i]},
                                   {"normalized", false},
                                   {"rstrip", i != 2},
                                   {"lstrip", i == 0}});
  }
  const auto tokenizer = MakeTokenizer(raw.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  const auto added = [&](const std::string& text) {
    std::vector<int32_t> ids;
    EXPECT_TRUE((*tokenizer)->Encode(text, true, &ids).ok());
    std::erase_if(ids, [size](int32_t id) { return id < size; });
    for (int32_t& id : ids) id -= size;
    return ids;
  };
  EXPECT_EQ(added("x\n\n\n\ny"), (std::vector<int32_t>{0}));
  EXPECT_EQ(added("x\n\n\n\n\n\n \n\ny\n\n"), (std::vector<int32_t>{0, 0}));
  EXPECT_EQ(added("x[Q]\n\ny"), (std::vector<int32_t>{1}));
  // Without lstrip a token is one, whatever was taken.
  EXPECT_EQ(added("x[Q]  bx"), (std::vector<int32_t>{1, 2}));
  EXPECT_EQ(added("x\t\t\t\ty"), (std::vector<int32_t>{3, 3}));
}

// So does tokenizers 0.23.3: a character that has no token, where there is no unknown token, makes
// its neighbours meet.
TEST(Tokenizer, NeighboursOfACharacterWithoutTokenMerge) {
  const json replace = {
      {"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", kSpaceMarker}};
  json back = replace;
  std::swap(back["pattern"]["String"], back["content"]);
  const auto tokenizer = MakeTokenizer(json{
      {"normalizer", replace},
      {"decoder", {{"type", "Sequence"}, {"decoders", {back, {{"type", "Fuse"}}}}}},
      {"model",
       {{"type", "BPE"},
        {"vocab", {{"\u2581", 0}, {"y", 1}, {"\u2581\u2581", 2}, {"\u2581y", 3}}},
        {"merges",
         {"\u2581 \u2581", "\u2581 y"}}}}}.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  for (const char* text : {" A y", "A  By"}) {
    std::vector<int32_t> ids;
    EXPECT_TRUE((*tokenizer)->Encode(text, true, &ids).ok());
    EXPECT_EQ(ids, (std::vector<int32_t>{2, 1})) << text;
  }
}

TEST(Tokenizer, TakesLongRuns) {
  std::string mixed;
  for (uint32_t i = 0, x = 1; i < 1000000; ++i, x = x * 1664525 + 1013904223) {
    mixed.push_back(static_cast<char>('a' + (x >> 24) % 26));
  }
  for (const std::string& text :
       {mixed, std::string(1000000, 'a'), std::string(1000000, ' ') + "x",
        std::string(1000000, '\n'), std::string(1000000, '7'), std::string(1000000, '!'),
        std::string(1000000, '\xff'), std::string(1000000, '\0')}) {
    std::vector<int32_t> ids;
    ASSERT_TRUE(Small().Encode(text, true, &ids).ok());
    const auto decoded = Small().Decode(ids.data(), ids.size(), false);
    ASSERT_TRUE(decoded.ok());
    EXPECT_EQ(*decoded, ReplaceInvalidUtf8(text));
  }
}

// A pattern that would run for ages gives an error instead.
TEST(Tokenizer, BoundsRegularExpressions) {
  for (const char* pattern : {"(a+)+$b", "(a|aa)+c", "a*a*a*a*a*b"}) {
    json changed = json::parse(SmallJson());
    changed["pre_tokenizer"]["pretokenizers"][0] = {
        {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}};
    const auto tokenizer = MakeTokenizer(changed.dump());
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    std::vector<int32_t> ids;
    EXPECT_EQ(GetErrorInfo((*tokenizer)->Encode(std::string(3000, 'a'), true, &ids)).code,
              ErrorCode::kUnsupported)
        << pattern;
  }
}

TEST(Utf8Stream, HandsOutWholeCharacters) {
  const std::string text =
      "aé€😀\xff"
      "b\xe2\x82"
      "c\xf0\x9f\x98";
  Utf8Stream stream;
  std::string joined;
  for (const char c : text) {
    const std::string piece = stream.Push(std::string_view(&c, 1));
    EXPECT_TRUE(IsUtf8(piece));
    joined += piece;
  }
  EXPECT_EQ(joined, "aé€😀\uFFFDb\uFFFDc");
  EXPECT_EQ(stream.Finish(), "\uFFFD");
  EXPECT_EQ(stream.Finish(), "");
}

// In pieces or at once: the same text, for every kind of damage.
TEST(Utf8Stream, EqualsTheWhole) {
  uint32_t x = 1;
  const std::string_view alphabet =
      "\x41\x80\xbf\xc0\xc3\xe0\xa0\xed\xef\xf0\x90\xf4\x8f\xf5\xff\x9f";
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    std::string streamed;
    Utf8Stream stream;
    for (int piece = 0; piece < 4; ++piece) {
      std::string bytes;
      for (int i = 0; i < 3; ++i) {
        x = x * 1664525 + 1013904223;
        if ((x >> 20) % 5 != 0) bytes.push_back(alphabet[(x >> 24) % alphabet.size()]);
      }
      text += bytes;
      streamed += stream.Push(bytes);
    }
    streamed += stream.Finish();
    EXPECT_EQ(streamed, ReplaceInvalidUtf8(text)) << testing::PrintToString(text);
  }
}

}  // namespace
}  // namespace qft
