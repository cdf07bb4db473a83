#include "runtime/data/text/sentencepiece.h"

#include <string>
#include <utility>

namespace qft {

StatusOr<SentencePieceEncoder> SentencePieceEncoder::Create(const SentencePieceModel& model) {
  QFT_ASSIGN_OR_RETURN(SentencePieceNormalizer normalizer, SentencePieceNormalizer::Create(model));
  return SentencePieceEncoder(std::move(normalizer), model);
}

SentencePieceEncoder::SentencePieceEncoder(SentencePieceNormalizer normalizer,
                                           const SentencePieceModel& model)
    : normalizer_(std::move(normalizer)), spelling_(model), algorithm_(AlgorithmOf(model)) {}

SentencePieceEncoder::Algorithm SentencePieceEncoder::AlgorithmOf(const SentencePieceModel& model) {
  if (model.algorithm == SentencePieceModel::Algorithm::kBpe) return SentencePieceBpe(model);
  return Unigram(model);
}

void SentencePieceEncoder::Encode(std::string_view text, bool dummy_prefix,
                                  std::vector<int32_t>* ids) const {
  const std::string normal = normalizer_.Normalize(text, dummy_prefix);
  const size_t begin = ids->size();
  std::visit([&](const auto& algorithm) { algorithm.Encode(normal, spelling_, ids); }, algorithm_);
  spelling_.Fuse(begin, ids);
}

}  // namespace qft
