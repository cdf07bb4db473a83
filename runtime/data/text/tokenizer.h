// Byte-level BPE tokenizer, token for token that of Hugging Face `tokenizers`. Immutable.
#pragma once

#include <unicode/normalizer2.h>

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
#include "runtime/data/text/bpe.h"
#include "runtime/data/text/pre_tokenizer.h"
#include "runtime/data/text/tokenizer_spec.h"

namespace qft {

class Tokenizer {
 public:
  // path: a tokenizer.json, a folder that holds one, or a GGUF file.
  static StatusOr<std::shared_ptr<const Tokenizer>> Load(FileSystem& fs, const std::string& path);
  static StatusOr<std::shared_ptr<const Tokenizer>> Create(TokenizerSpec spec);

  // Appends the ids of `text`; adds no token of its own. special: special tokens written in the
  // text become their ids, otherwise they are plain text. Errors: kOutOfRange (more than
  // kMaxTextBytes), kUnsupported (a regular expression of the file takes too long).
  Status Encode(std::string_view text, bool special, std::vector<int32_t>* ids) const;
  // The bytes of one token, which need not be whole characters. kOutOfRange.
  StatusOr<std::string_view> Bytes(int32_t id) const;
  // The text of `ids`; what is not UTF-8 becomes U+FFFD. kOutOfRange.
  StatusOr<std::string> Decode(const int32_t* ids, size_t count, bool skip_special) const;

  int64_t size() const { return vocabulary_.size(); }  // largest id + 1
  bool IsSpecial(int32_t id) const;
  // By the text that stands in the file: byte alphabet, except for added tokens.
  std::optional<int32_t> Find(std::string_view text) const { return vocabulary_.Find(text); }
  std::optional<int32_t> end_id() const { return end_id_; }
  // tokenizer.json, tokenizer_config.json and so on: names and contents.
  const std::vector<std::pair<std::string, std::string>>& files() const { return files_; }

 private:
  Tokenizer(TokenizerSpec spec, PreTokenizer pre_tokenizer,
            std::vector<const icu::Normalizer2*> normalizers);

  Status AddFinders(const std::vector<AddedToken>& tokens);
  StatusOr<icu::UnicodeString> Normalize(std::string_view text) const;
  Status EncodePlain(icu::UnicodeString text, std::vector<int32_t>* ids) const;
  Status EncodeNormalized(std::string_view text, bool special, std::vector<int32_t>* ids) const;

  Vocabulary vocabulary_;
  std::vector<std::string> bytes_of_id_;
  std::vector<bool> special_;
  Bpe bpe_;
  PreTokenizer pre_tokenizer_;
  std::vector<const icu::Normalizer2*> normalizers_;  // ICU's own, live for ever
  AddedTokenFinder raw_finder_;
  AddedTokenFinder normalized_finder_;
  bool has_normalized_tokens_ = false;
  std::optional<int32_t> end_id_;
  std::vector<std::pair<std::string, std::string>> files_;
};

}  // namespace qft
