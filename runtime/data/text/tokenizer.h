// A tokenizer, token for token that of Hugging Face `tokenizers` or of SentencePiece. Immutable.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "runtime/data/text/added_tokens.h"
#include "runtime/data/text/decoder.h"
#include "runtime/data/text/segment_encoder.h"
#include "runtime/data/text/tokenizer_spec.h"

namespace qft {

class Tokenizer {
 public:
  // path: a tokenizer.json, a SentencePiece model (".model" in its name), a folder with one of
  // them (tokenizer.json before tokenizer.model), or a GGUF file.
  static StatusOr<std::shared_ptr<const Tokenizer>> Load(FileSystem& fs, const std::string& path);
  static StatusOr<std::shared_ptr<const Tokenizer>> Create(TokenizerSpec spec);

  // Appends the ids of `text`; adds no token of its own. special: special tokens written in the
  // text become their ids, otherwise they are plain text. Errors: kOutOfRange (more than
  // kMaxTextBytes), kUnsupported (a regular expression of the file takes too long).
  Status Encode(std::string_view text, bool special, std::vector<int32_t>* ids) const;
  // What the model expects around a text; Encode leaves it out.
  const TextFrame& frame() const { return frame_; }
  // Begins a text: the prefix of frame(), unless `prompt` begins with it, and the ids of `prompt`;
  // nothing else stays in *ids. special: as for Encode. Returns how many of them are the prefix.
  // Errors: those of Encode.
  StatusOr<size_t> Begin(std::string_view prompt, bool special, std::vector<int32_t>* ids) const;
  // What a token is in a text, a space where it has a space marker; it need not be whole
  // characters. kOutOfRange.
  StatusOr<std::string> Bytes(int32_t id) const;
  // The text of `ids`; what is not UTF-8 becomes U+FFFD. kOutOfRange.
  StatusOr<std::string> Decode(const int32_t* ids, size_t count, bool skip_special) const;

  int64_t size() const { return vocabulary_.size(); }  // largest id + 1
  bool Has(int32_t id) const { return vocabulary_.Text(id) != nullptr; }
  bool IsSpecial(int32_t id) const;
  // By the text that stands in the file, spaces and bytes written as it writes them.
  std::optional<int32_t> Find(std::string_view text) const { return vocabulary_.Find(text); }
  // Ends a text that is trained on.
  std::optional<int32_t> end_id() const { return end_id_; }
  // Whether the token ends an answer; models may have several such tokens.
  bool Stops(int32_t id) const;
  // tokenizer.json, tokenizer_config.json and so on: names and contents.
  const std::vector<std::pair<std::string, std::string>>& files() const { return files_; }

 private:
  friend class TokenStream;

  Tokenizer(TokenizerSpec spec, std::unique_ptr<const SegmentEncoder> encoder,
            std::vector<DecodedToken> decoded);

  Vocabulary vocabulary_;
  std::vector<bool> special_;
  AddedTokenFinder finder_;
  std::unique_ptr<const SegmentEncoder> encoder_;
  std::vector<DecodedToken> decoded_;  // by id
  DecoderOptions decoder_;
  TextFrame frame_;
  std::optional<int32_t> end_id_;
  std::vector<int32_t> stop_ids_;
  std::vector<std::pair<std::string, std::string>> files_;
};

// The text of tokens that come one by one. All pieces together are what Decode gives.
class TokenStream {
 public:
  // `tokenizer` outlives it.
  TokenStream(const Tokenizer& tokenizer, bool skip_special)
      : tokenizer_(&tokenizer), skip_special_(skip_special), run_(tokenizer.decoder_) {}

  // Begins after `ids`, which are whole characters and no part of the text. kOutOfRange.
  Status StartAfter(const std::vector<int32_t>& ids);
  // Whole characters that are certain now. kOutOfRange.
  StatusOr<std::string> Push(int32_t id);
  // The rest, with an incomplete character replaced.
  std::string Finish() { return run_.Finish(); }

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  DecoderRun run_;
};

}  // namespace qft
