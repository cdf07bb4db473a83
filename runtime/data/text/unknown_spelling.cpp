#include "runtime/data/text/unknown_spelling.h"

#include <algorithm>

#include "runtime/data/text/byte_tokens.h"

namespace qft {

UnknownSpelling::UnknownSpelling(const SentencePieceModel& model)
    : byte_fallback_(model.byte_fallback) {
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePieceModel::Piece& piece = model.pieces[id];
    if (piece.type == SentencePieceModel::Type::kUnknown) unknown_id_ = static_cast<int32_t>(id);
    if (piece.type != SentencePieceModel::Type::kByte) continue;
    if (const auto byte = ByteOfToken(piece.text)) byte_ids_[*byte] = static_cast<int32_t>(id);
  }
}

void UnknownSpelling::Append(std::string_view character, std::vector<int32_t>* ids) const {
  if (!byte_fallback_) return ids->push_back(unknown_id_);
  for (const char byte : character) ids->push_back(byte_ids_[static_cast<uint8_t>(byte)]);
}

void UnknownSpelling::Fuse(size_t begin, std::vector<int32_t>* ids) const {
  const auto first = ids->begin() + static_cast<std::ptrdiff_t>(begin);
  ids->erase(std::unique(first, ids->end(),
                         [this](int32_t a, int32_t b) { return a == b && a == unknown_id_; }),
             ids->end());
}

}  // namespace qft
