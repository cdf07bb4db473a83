#include "runtime/data/text/sentencepiece_model.h"

#include <algorithm>
#include <cmath>

#include "runtime/data/protobuf.h"
#include "runtime/data/text/byte_tokens.h"
#include "runtime/data/text/unicode.h"

namespace qft {
namespace {

using Piece = SentencePieceModel::Piece;
using Type = SentencePieceModel::Type;
using Algorithm = SentencePieceModel::Algorithm;

// Each place where a normal piece can be divided is looked at.
constexpr size_t kMaxNormalBytes = 512;
constexpr size_t kByteTokens = 256;

// Field numbers of sentencepiece_model.proto.
enum ModelField : uint32_t { kPieces = 1, kTrainer = 2, kNormalizer = 3, kDenormalizer = 5 };
enum PieceField : uint32_t { kText = 1, kScore = 2, kType = 3 };
enum TrainerField : uint32_t {
  kModelType = 3,
  kWhitespaceAsSuffix = 24,
  kByteFallback = 35,
  kUnknownText = 44,
  kBeginText = 46,
  kEndText = 47,
};
enum NormalizerField : uint32_t {
  kCharsmap = 2,
  kAddDummyPrefix = 3,
  kRemoveExtraWhitespaces = 4,
  kEscapeWhitespaces = 5,
};

// Calls visit(field) for each field of `message`.
template <typename Visit>
Status ForEachField(std::string_view message, const Visit& visit) {
  ProtobufReader reader(message);
  while (!reader.done()) {
    QFT_ASSIGN_OR_RETURN(const ProtobufField field, reader.Next());
    QFT_RETURN_IF_ERROR(visit(field));
  }
  return absl::OkStatus();
}

Status ReadPiece(std::string_view message, Piece* piece) {
  return ForEachField(message, [&](const ProtobufField& field) -> Status {
    if (field.number == kText) return field.Read("piece", &piece->text);
    if (field.number == kScore) return field.Read("score", &piece->score);
    if (field.number != kType) return absl::OkStatus();
    int64_t type = 0;
    QFT_RETURN_IF_ERROR(field.Read("type", &type));
    if (type < 1 || type > static_cast<int64_t>(Type::kByte)) {
      return Unsupported("not supported: a piece of type ", type);
    }
    piece->type = static_cast<Type>(type);
    return absl::OkStatus();
  });
}

Status ReadTrainer(std::string_view message, SentencePieceModel* model) {
  return ForEachField(message, [&](const ProtobufField& field) -> Status {
    switch (field.number) {
      case kWhitespaceAsSuffix:
        return field.Read("treat_whitespace_as_suffix", &model->whitespace_as_suffix);
      case kByteFallback:
        return field.Read("byte_fallback", &model->byte_fallback);
      case kUnknownText:
        return field.Read("unk_surface", &model->unknown_text);
      case kBeginText:
        return field.Read("bos_piece", &model->begin_text);
      case kEndText:
        return field.Read("eos_piece", &model->end_text);
      case kModelType:
        break;
      default:
        return absl::OkStatus();
    }
    int64_t algorithm = 0;
    QFT_RETURN_IF_ERROR(field.Read("model_type", &algorithm));
    if (algorithm != static_cast<int64_t>(Algorithm::kUnigram) &&
        algorithm != static_cast<int64_t>(Algorithm::kBpe)) {
      return Unsupported("not supported: SentencePiece model_type ", algorithm,
                         " (1, unigram, and 2, BPE, are)");
    }
    model->algorithm = static_cast<Algorithm>(algorithm);
    return absl::OkStatus();
  });
}

Status ReadNormalizer(std::string_view message, SentencePieceModel* model) {
  return ForEachField(message, [&](const ProtobufField& field) -> Status {
    switch (field.number) {
      case kCharsmap:
        return field.Read("precompiled_charsmap", &model->charsmap);
      case kAddDummyPrefix:
        return field.Read("add_dummy_prefix", &model->add_dummy_prefix);
      case kRemoveExtraWhitespaces:
        return field.Read("remove_extra_whitespaces", &model->remove_extra_whitespaces);
      case kEscapeWhitespaces:
        return field.Read("escape_whitespaces", &model->escape_whitespaces);
      default:
        return absl::OkStatus();
    }
  });
}

Status CheckDenormalizer(std::string_view message) {
  SentencePieceModel unused;
  QFT_RETURN_IF_ERROR(ReadNormalizer(message, &unused));
  if (unused.charsmap.empty()) return absl::OkStatus();
  return Unsupported("not supported: SentencePiece denormalizer_spec");
}

Status ReadField(const ProtobufField& field, SentencePieceModel* model) {
  std::string_view message;
  switch (field.number) {
    case kPieces:
      QFT_RETURN_IF_ERROR(field.Read("pieces", &message));
      return ReadPiece(message, &model->pieces.emplace_back());
    case kTrainer:
      QFT_RETURN_IF_ERROR(field.Read("trainer_spec", &message));
      return ReadTrainer(message, model);
    case kNormalizer:
      QFT_RETURN_IF_ERROR(field.Read("normalizer_spec", &message));
      return ReadNormalizer(message, model);
    case kDenormalizer:
      QFT_RETURN_IF_ERROR(field.Read("denormalizer_spec", &message));
      return CheckDenormalizer(message);
    default:
      return absl::OkStatus();
  }
}

Status CheckPiece(const Piece& piece, size_t id, bool byte_fallback) {
  if (piece.text.empty()) return BadData("piece ", id, " is empty");
  if (!std::isfinite(piece.score)) return BadData("the score of piece ", id, " is not finite");
  const bool is_normal = piece.type == Type::kNormal || piece.type == Type::kUnused;
  if (is_normal && piece.text.size() > kMaxNormalBytes) {
    return BadData("piece ", id, " is ", piece.text.size(), " bytes long, the most is ",
                   kMaxNormalBytes);
  }
  if (piece.type != Type::kByte) return absl::OkStatus();
  if (!byte_fallback) return BadData("piece ", id, " is a byte, but byte_fallback is off");
  if (!ByteOfToken(piece.text)) return BadData("piece ", id, " is a byte, but not named like one");
  return absl::OkStatus();
}

}  // namespace

Status CheckSentencePieceModel(const SentencePieceModel& model) {
  if (model.pieces.empty()) return BadData("the model has no pieces");
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    QFT_RETURN_IF_ERROR(CheckPiece(model.pieces[id], id, model.byte_fallback));
  }
  const auto count = [&model](Type type) {
    return static_cast<size_t>(
        std::count_if(model.pieces.begin(), model.pieces.end(),
                      [type](const Piece& piece) { return piece.type == type; }));
  };
  if (count(Type::kUnknown) != 1) {
    return BadData("the model has ", count(Type::kUnknown), " unknown tokens");
  }
  if (model.byte_fallback && count(Type::kByte) != kByteTokens) {
    return BadData("byte_fallback with ", count(Type::kByte), " byte tokens");
  }
  return absl::OkStatus();
}

StatusOr<SentencePieceModel> ParseSentencePieceModel(std::string_view bytes) {
  SentencePieceModel model;
  QFT_RETURN_IF_ERROR(
      ForEachField(bytes, [&](const ProtobufField& field) { return ReadField(field, &model); }));
  QFT_RETURN_IF_ERROR(CheckSentencePieceModel(model));
  if (!IsUtf8(model.unknown_text)) return BadData("unk_surface is not UTF-8");
  if (model.unknown_text.size() > kMaxReplacementBytes) {
    return BadData("unk_surface is ", model.unknown_text.size(), " bytes long");
  }
  return model;
}

std::string WriteSentencePieceModel(const SentencePieceModel& model) {
  std::string result;
  std::string part;
  for (const Piece& piece : model.pieces) {
    part.clear();
    AppendBytesField(kText, piece.text, &part);
    AppendFloatField(kScore, piece.score, &part);
    AppendVarintField(kType, static_cast<uint64_t>(piece.type), &part);
    AppendBytesField(kPieces, part, &result);
  }
  part.clear();
  AppendVarintField(kModelType, static_cast<uint64_t>(model.algorithm), &part);
  AppendVarintField(kWhitespaceAsSuffix, model.whitespace_as_suffix, &part);
  AppendVarintField(kByteFallback, model.byte_fallback, &part);
  AppendBytesField(kUnknownText, model.unknown_text, &part);
  AppendBytesField(kBeginText, model.begin_text, &part);
  AppendBytesField(kEndText, model.end_text, &part);
  AppendBytesField(kTrainer, part, &result);
  part.clear();
  AppendBytesField(kCharsmap, model.charsmap, &part);
  AppendVarintField(kAddDummyPrefix, model.add_dummy_prefix, &part);
  AppendVarintField(kRemoveExtraWhitespaces, model.remove_extra_whitespaces, &part);
  AppendVarintField(kEscapeWhitespaces, model.escape_whitespaces, &part);
  AppendBytesField(kNormalizer, part, &result);
  return result;
}

}  // namespace qft
