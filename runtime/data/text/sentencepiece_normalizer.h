// The normaliser of a SentencePiece model: its character map, and what becomes of spaces.
#pragma once

#include <string>
#include <string_view>

#include "base/status.h"
#include "runtime/data/text/charsmap.h"
#include "runtime/data/text/prefix_trie.h"
#include "runtime/data/text/sentencepiece_model.h"

namespace qft {

class SentencePieceNormalizer {
 public:
  static StatusOr<SentencePieceNormalizer> Create(const SentencePieceModel& model);

  // text: well-formed UTF-8, as the result is. dummy_prefix: where the model adds one.
  std::string Normalize(std::string_view text, bool dummy_prefix) const;

 private:
  // What the beginning of `text`, which is not empty, becomes; *length: how much of it.
  std::string_view Prefix(std::string_view text, size_t* length) const;
  void SkipSpaces(std::string_view* text) const;

  Charsmap charsmap_;
  PrefixTrie verbatim_;     // user-defined pieces
  std::string_view space_;  // as it is written in pieces
  bool adds_dummy_ = false;
  bool dummy_is_suffix_ = false;
  bool removes_extra_ = false;
};

}  // namespace qft
