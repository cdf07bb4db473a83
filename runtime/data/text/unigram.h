// SentencePiece's unigram model: of all divisions of a text that of the highest sum of scores.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/data/text/prefix_trie.h"
#include "runtime/data/text/sentencepiece_model.h"

namespace qft {

class UnknownSpelling;

class Unigram {
 public:
  explicit Unigram(const SentencePieceModel& model);

  // Appends the ids of `text`, well-formed UTF-8; `spelling` spells each unknown character.
  void Encode(std::string_view text, const UnknownSpelling& spelling,
              std::vector<int32_t>* ids) const;

 private:
  struct Best;  // the best way to the end of a character

  void Extend(std::string_view text, size_t begin, std::vector<Best>* best) const;

  PrefixTrie trie_;  // values: ids
  std::vector<float> scores_;
  std::vector<bool> user_defined_;
  float max_score_ = 0;
  float unknown_score_ = 0;
};

}  // namespace qft
