// What becomes of a character that a SentencePiece model does not know.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

#include "runtime/data/text/sentencepiece_model.h"

namespace qft {

class UnknownSpelling {
 public:
  explicit UnknownSpelling(const SentencePieceModel& model);

  // Appends the byte tokens of `character`, or without byte_fallback the unknown token.
  void Append(std::string_view character, std::vector<int32_t>* ids) const;
  // Makes one of neighbouring unknown tokens from place `begin` on.
  void Fuse(size_t begin, std::vector<int32_t>* ids) const;

 private:
  bool byte_fallback_;
  int32_t unknown_id_ = 0;
  std::array<int32_t, 256> byte_ids_{};
};

}  // namespace qft
