// A tokenizer with the special tokens of all chat templates.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "golden.h"
#include "runtime/data/text/tokenizer.h"

namespace qft {

inline const nlohmann::json& ChatGolden() {
  static const auto* const golden =
      new nlohmann::json(nlohmann::json::parse(ReadTestFile("chat_golden.json")));
  return *golden;
}

// tokenizer_small.json with the golden file's special tokens. config: tokenizer_config.json.
inline std::shared_ptr<const Tokenizer> MakeChatTokenizer(const nlohmann::json& normalizer,
                                                          const nlohmann::json& config) {
  nlohmann::json tokenizer = nlohmann::json::parse(ReadTestFile("tokenizer_small.json"));
  tokenizer["added_tokens"] = ChatGolden().at("added_tokens");
  tokenizer["normalizer"] = normalizer;
  auto spec = ParseTokenizerJson(tokenizer.dump(), "test");
  EXPECT_TRUE(spec.ok()) << spec.status();
  spec->files.emplace_back("tokenizer_config.json", config.dump());
  spec->end_id = spec->vocabulary.Find("</s>");
  return *Tokenizer::Create(*std::move(spec));
}

}  // namespace qft
