// Encoding as the SentencePiece library does it: its normaliser, then unigram or BPE.
#pragma once

#include <cstdint>
#include <string_view>
#include <variant>
#include <vector>

#include "base/status.h"
#include "runtime/data/text/sentencepiece_bpe.h"
#include "runtime/data/text/sentencepiece_model.h"
#include "runtime/data/text/sentencepiece_normalizer.h"
#include "runtime/data/text/unigram.h"
#include "runtime/data/text/unknown_spelling.h"

namespace qft {

class SentencePieceEncoder {
 public:
  // model: checked by CheckSentencePieceModel; each text is UTF-8 and there only once. kBadData.
  static StatusOr<SentencePieceEncoder> Create(const SentencePieceModel& model);

  // Appends the ids of `text`, well-formed UTF-8. dummy_prefix: where the model adds one.
  void Encode(std::string_view text, bool dummy_prefix, std::vector<int32_t>* ids) const;

 private:
  using Algorithm = std::variant<Unigram, SentencePieceBpe>;

  SentencePieceEncoder(SentencePieceNormalizer normalizer, const SentencePieceModel& model);
  static Algorithm AlgorithmOf(const SentencePieceModel& model);

  SentencePieceNormalizer normalizer_;
  UnknownSpelling spelling_;
  Algorithm algorithm_;
};

}  // namespace qft
