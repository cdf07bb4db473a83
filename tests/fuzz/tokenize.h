// What is done with each tokenizer that a fuzzer could load.
#pragma once

#include "runtime/data/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

namespace qft {

// Encodes texts of several kinds and decodes their ids, whole and as a stream.
inline void UseTokenizer(const Tokenizer& tokenizer) {
  const std::string texts[] = {
      "", "Hello  world's\n\n 1234 \t<s>[INST]</s><|im_end|>",
      "\xE2\x96\x81 \xC3\xA9\x65\xCC\x81 \xE4\xBD\xA0\xE5\xA5\xBD \xF0\x9F\x98\x80\xEF\xAC\x81",
      std::string("\0 \xFF\xC0\x80\xED\xA0\x80 a", 10), std::string(300, 'a')};
  for (const std::string& text : texts) {
    std::vector<int32_t> ids;
    if (!Accepted(tokenizer.Encode(text, /*special=*/true, &ids))) continue;
    const auto whole = tokenizer.Decode(ids.data(), ids.size(), /*skip_special=*/false);
    Require(whole.ok(), "a tokenizer decodes its own ids");
    TokenStream stream(tokenizer, /*skip_special=*/false);
    std::string streamed;
    for (const int32_t id : ids) {
      const auto piece = stream.Push(id);
      Require(piece.ok() && tokenizer.Bytes(id).ok(), "a tokenizer knows its own ids");
      streamed += *piece;
    }
    Require(streamed + stream.Finish() == *whole, "a stream is the whole text");
  }
}

inline void UseSpec(StatusOr<TokenizerSpec> spec) {
  if (!Accepted(spec.status())) return;
  const auto tokenizer = Tokenizer::Create(*std::move(spec));
  if (Accepted(tokenizer.status())) UseTokenizer(**tokenizer);
}

}  // namespace qft
