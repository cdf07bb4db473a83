// Everything that makes a tokenizer, read from one of its file formats and checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "base/file.h"
#include "base/status.h"
#include "runtime/data/text/added_tokens.h"
#include "runtime/data/text/bpe.h"
#include "runtime/data/text/decoder.h"
#include "runtime/data/text/metaspace.h"
#include "runtime/data/text/normalizer.h"
#include "runtime/data/text/pre_tokenizer.h"
#include "runtime/data/text/sentencepiece_model.h"

namespace qft {

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

// The tokens that a model expects around a text.
struct TextFrame {
  std::vector<int32_t> prefix;
  std::vector<int32_t> suffix;
};

// What makes the text between added tokens into ids, as a tokenizer.json has it.
struct BpeSpec {
  std::vector<NormalizerStep> normalizer;
  std::optional<Metaspace> metaspace;   // BpeOptions::Alphabet::kCharacters
  std::vector<PreTokenizerStep> steps;  // BpeOptions::Alphabet::kBytes
  std::vector<MergeRule> merges;
  BpeOptions options;
};

// The same, as a SentencePiece model has it.
struct SentencePieceSpec {
  SentencePieceModel model;
  bool prefix_first_only = false;  // add_dummy_prefix: not after an added token
};

struct TokenizerSpec {
  Vocabulary vocabulary;  // added tokens included
  std::vector<AddedToken> added_tokens;
  std::variant<BpeSpec, SentencePieceSpec> encoder;
  DecoderOptions decoder;
  TextFrame frame;
  std::optional<int32_t> end_id;  // of a text
  std::vector<int32_t> stop_ids;  // what else ends an answer
  // What export writes beside the model: file names and contents.
  std::vector<std::pair<std::string, std::string>> files;
};

// Takes the token into the vocabulary unless it is there, under the same id. expected: see
// Vocabulary::Add.
Status AddToken(AddedToken token, size_t expected, TokenizerSpec* spec);

// kBadData unless left, right and their concatenation are tokens.
StatusOr<MergeRule> ResolveMerge(const Vocabulary& vocabulary, const std::string& left,
                                 const std::string& right, size_t rank);

// A tokenizer.json and what lies beside it (tokenizer_config.json, special_tokens_map.json,
// config.json, generation_config.json: the end tokens). What it asks for and is not known here is
// kUnsupported, by name.
StatusOr<TokenizerSpec> ReadTokenizerJson(FileSystem& fs, const std::string& path);
// The same from text alone. `what` names it in errors.
StatusOr<TokenizerSpec> ParseTokenizerJson(const std::string& text, const std::string& what);

// A SentencePiece tokenizer.model and what lies beside it (tokenizer_config.json also for added
// tokens and the frame).
StatusOr<TokenizerSpec> ReadTokenizerModel(FileSystem& fs, const std::string& path);
// The same from the bytes of the file alone.
StatusOr<TokenizerSpec> ParseTokenizerModel(const std::string& bytes);
// From a model, however it was read.
StatusOr<TokenizerSpec> SpecOfSentencePieces(SentencePieceModel model);

// The metadata of a GGUF file.
StatusOr<TokenizerSpec> ReadTokenizerGguf(FileSystem& fs, const std::string& path);

}  // namespace qft
