// SentencePiece's BPE: neighbours merge when their texts together are a piece, the piece of the
// highest score first, of equal ones the leftmost.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/text/character_ids.h"
#include "runtime/data/text/merge_table.h"
#include "runtime/data/text/prefix_trie.h"
#include "runtime/data/text/sentencepiece_model.h"
#include "runtime/data/text/unknown_spelling.h"

namespace qft {

class SentencePieceBpe {
 public:
  explicit SentencePieceBpe(const SentencePieceModel& model);

  // Appends the ids of `text`, well-formed UTF-8; `spelling` spells each unknown character.
  void Encode(std::string_view text, const UnknownSpelling& spelling,
              std::vector<int32_t>* ids) const;

 private:
  class RuleBuilder;

  void EncodePart(std::string_view text, const UnknownSpelling& spelling,
                  std::vector<int32_t>* ids) const;
  void AppendSymbols(std::string_view text, const UnknownSpelling& spelling,
                     std::vector<int32_t>* symbols) const;
  void AppendIds(int32_t symbol, const MergeHistory& history, const UnknownSpelling& spelling,
                 std::vector<int32_t>* ids) const;

  // Symbols are pieces, and beyond them characters that occur in pieces without being one.
  std::vector<std::string> inner_characters_;
  std::vector<bool> unused_;    // by id
  bool merges_suffice_ = true;  // every symbol that can remain is a token
  bool divides_at_markers_ = true;
  CharacterIds character_ids_;  // symbols
  MergeTable merges_;
  PrefixTrie user_defined_;  // values: ids
};

}  // namespace qft
