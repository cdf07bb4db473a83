// A tokenizer.json of single bytes and the special tokens of ChatML, for the data set fuzzers.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "absl/strings/str_format.h"
#include "runtime/data/text/tokenizer.h"

namespace qft {

inline std::string SmallTokenizerJson() {
  using nlohmann::json;
  json vocabulary = json::object();
  for (int byte = 0; byte < 256; ++byte) vocabulary[absl::StrFormat("<0x%02X>", byte)] = byte;
  json added = json::array();
  for (const char* text : {"<|im_start|>", "<|im_end|>"}) {
    added.push_back({{"id", 256 + added.size()}, {"content", text}, {"special", true}});
  }
  const json model = {
      {"type", "BPE"}, {"byte_fallback", true}, {"vocab", vocabulary}, {"merges", json::array()}};
  const json decoders = json::array({{{"type", "ByteFallback"}}, {{"type", "Fuse"}}});
  const json decoder = {{"type", "Sequence"}, {"decoders", decoders}};
  return json{{"model", model}, {"added_tokens", added}, {"decoder", decoder}}.dump();
}

inline std::shared_ptr<const Tokenizer> SmallTokenizer() {
  TokenizerSpec spec = ParseTokenizerJson(SmallTokenizerJson(), "small").value();
  spec.end_id = spec.vocabulary.Find("<|im_end|>");
  spec.files.emplace_back("tokenizer_config.json", R"({"bos_token":"<|im_start|>"})");
  return Tokenizer::Create(std::move(spec)).value();
}

}  // namespace qft
