// What a SentencePiece `tokenizer.model` says.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace qft {

struct SentencePieceModel {
  // The file's numbers.
  enum class Type { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };
  enum class Algorithm { kUnigram = 1, kBpe = 2 };
  struct Piece {
    std::string text;
    float score = 0;
    Type type = Type::kNormal;
  };

  std::vector<Piece> pieces;  // by id
  Algorithm algorithm = Algorithm::kUnigram;
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;
  std::string unknown_text = " \xE2\x81\x87 ";  // for the unknown token, when decoding
  std::string begin_text = "<s>";               // pieces, where there are such
  std::string end_text = "</s>";
  // Normaliser.
  std::string charsmap;
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

// Errors: kBadData; kUnsupported, naming the algorithm or the denormaliser.
StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view bytes);
// What ParseSentencePieceModel reads as `model`.
std::string WriteSentencePieceModel(const SentencePieceModel& model);

// kBadData unless the pieces make a tokenizer: texts of the right length, finite scores, just one
// unknown token, all byte tokens or none. Texts are checked by Vocabulary::Add.
Status CheckSentencePieceModel(const SentencePieceModel& model);

}  // namespace qft
