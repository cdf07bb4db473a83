// From tokens back to text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"
#include "runtime/data/text/unicode.h"

namespace qft {

// kPieces: what tokenizer.json writes as Replace, ByteFallback, Fuse, Strip or as Metaspace;
// kSentencePiece: the decoding of the SentencePiece library.
struct DecoderOptions {
  enum class Kind { kByteLevel, kPieces, kSentencePiece };
  Kind kind = Kind::kByteLevel;
  std::vector<std::pair<std::string, std::string>> replacements;  // in each token's text
  bool byte_fallback = false;                                     // tokens "<0x..>" are bytes
  std::string stripped;              // kPieces: character that the text loses at its beginning ...
  int64_t stripped_count = 0;        // ... at most so often
  bool drops_first_markers = false;  // kPieces: the first token loses all space markers
  bool strips_first_space = false;   // kSentencePiece: the first token loses one space ...
  bool strips_more_spaces = false;   // kSentencePiece: ... and the next, as long as all is empty
  std::string unknown_text;          // kSentencePiece: for the unknown token
};

// One token as the decoder sees it.
struct DecodedToken {
  enum class Kind : uint8_t { kText, kByte, kUnknown, kVerbatim };
  Kind kind = Kind::kText;
  std::string text;  // kByte: the byte
};

// kBadData: more than MostRewrittenBytes would be made of the token.
StatusOr<DecodedToken> DecodedTokenOf(const DecoderOptions& options, std::string_view token);

// Tokens in, whole characters out. What comes out does not depend on how it is asked for: all
// pieces together are the text of all tokens.
class DecoderRun {
 public:
  // `options` outlive it.
  explicit DecoderRun(const DecoderOptions& options)
      : options_(&options), strippable_(options.stripped_count) {}

  std::string Push(const DecodedToken& token);
  // In place of a token that is left out. To SentencePiece it still ends a run of bytes.
  std::string Skip();
  // The rest, with an incomplete character replaced.
  std::string Finish();

 private:
  std::string TextOf(const DecodedToken& token);
  std::string SentencePieceTextOf(const DecodedToken& token);
  std::string TakeBytes();
  std::string Strip(std::string text);

  const DecoderOptions* options_;
  Utf8Stream characters_;  // kByteLevel
  std::string bytes_;      // of the byte tokens since the last other token
  int64_t strippable_;
  bool is_first_ = true;      // no token has come that is not a byte
  bool seen_text_ = false;    // something has come out
  bool strips_space_ = true;  // kSentencePiece: still at the beginning
};

}  // namespace qft
