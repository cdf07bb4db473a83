// Everything that makes a tokenizer, read from one of its file formats and checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/file.h"
#include "base/status.h"
#include "runtime/data/text/added_tokens.h"
#include "runtime/data/text/bpe.h"
#include "runtime/data/text/pre_tokenizer.h"

namespace qft {

enum class NormalForm { kNfc, kNfd, kNfkc, kNfkd };

// The tokens by id and the ids by text. Ids may have gaps, but not many.
class Vocabulary {
 public:
  // kBadData: an id that is negative or out of all proportion to `expected` tokens, an id or a text
  // that is taken.
  Status Add(const std::string& text, int64_t id, size_t expected);

  std::optional<int32_t> Find(std::string_view text) const;
  // nullptr: no such id.
  const std::string* Text(int64_t id) const;
  int64_t size() const { return static_cast<int64_t>(tokens_.size()); }  // largest id + 1

 private:
  std::vector<std::optional<std::string>> tokens_;
  absl::flat_hash_map<std::string, int32_t> ids_;
};

struct TokenizerSpec {
  Vocabulary vocabulary;  // added tokens included
  std::vector<MergeRule> merges;
  BpeOptions bpe;
  std::vector<AddedToken> added_tokens;
  std::vector<NormalForm> normal_forms;
  std::vector<PreTokenizerStep> steps;
  std::optional<int32_t> end_id;
  // What export writes beside the model: file names and contents.
  std::vector<std::pair<std::string, std::string>> files;
};

// kBadData unless left, right and their concatenation are tokens.
StatusOr<MergeRule> ResolveMerge(const Vocabulary& vocabulary, const std::string& left,
                                 const std::string& right);

// A tokenizer.json and what lies beside it (tokenizer_config.json, special_tokens_map.json,
// config.json: the end token). What it asks for beyond byte-level BPE is kUnsupported, by name.
StatusOr<TokenizerSpec> ReadTokenizerJson(FileSystem& fs, const std::string& path);
// The same from text alone. `what` names it in errors.
StatusOr<TokenizerSpec> ParseTokenizerJson(const std::string& text, const std::string& what);

// The metadata of a GGUF file.
StatusOr<TokenizerSpec> ReadTokenizerGguf(FileSystem& fs, const std::string& path);

}  // namespace qft
