// The tokenizers that make_chat_golden.py compares with.
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

// The golden file's tokenizer `name`. config: tokenizer_config.json.
inline std::shared_ptr<const Tokenizer> MakeChatTokenizer(const std::string& name,
                                                          const nlohmann::json& config) {
  const nlohmann::json& parts = ChatGolden().at("tokenizers").at(name);
  nlohmann::json tokenizer = nlohmann::json::parse(ReadTestFile(parts.at("base")));
  for (const auto& [key, value] : parts.items()) {
    if (key != "base") tokenizer[key] = value;
  }
  auto spec = ParseTokenizerJson(tokenizer.dump(), "test");
  EXPECT_TRUE(spec.ok()) << spec.status();
  spec->files.emplace_back("tokenizer_config.json", config.dump());
  spec->end_id = spec->vocabulary.Find("</s>");
  return *Tokenizer::Create(*std::move(spec));
}

}  // namespace qft
