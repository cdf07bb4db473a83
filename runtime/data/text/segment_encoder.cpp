#include "runtime/data/text/segment_encoder.h"

#include <string>
#include <utility>

#include "runtime/data/text/bpe.h"
#include "runtime/data/text/byte_level.h"
#include "runtime/data/text/normalizer.h"
#include "runtime/data/text/pre_tokenizer.h"
#include "runtime/data/text/sentencepiece.h"
#include "runtime/data/text/unicode.h"

namespace qft {
namespace {

// Texts and ids of the tokens that BPE makes; with a byte alphabet, the bytes of those that are
// written in it.
std::vector<std::pair<std::string, int32_t>> BpeTokens(const TokenizerSpec& spec,
                                                       BpeOptions::Alphabet alphabet) {
  std::vector<bool> is_extra(static_cast<size_t>(spec.vocabulary.size()));
  for (const AddedToken& token : spec.added_tokens) {
    if (token.is_extra) is_extra[static_cast<size_t>(token.id)] = true;
  }
  std::vector<std::pair<std::string, int32_t>> tokens;
  for (int64_t id = 0; id < spec.vocabulary.size(); ++id) {
    const std::string* text = spec.vocabulary.Text(id);
    if (text == nullptr || is_extra[static_cast<size_t>(id)]) continue;
    if (alphabet == BpeOptions::Alphabet::kCharacters) {
      tokens.emplace_back(*text, static_cast<int32_t>(id));
    } else if (auto bytes = BytesOfToken(*text)) {
      tokens.emplace_back(std::move(*bytes), static_cast<int32_t>(id));
    }
  }
  return tokens;
}

class BpeSegmentEncoder final : public SegmentEncoder {
 public:
  static StatusOr<std::unique_ptr<const SegmentEncoder>> Create(const TokenizerSpec& spec,
                                                                const BpeSpec& bpe) {
    QFT_ASSIGN_OR_RETURN(Normalizer normalizer, Normalizer::Create(bpe.normalizer));
    QFT_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, PreTokenizer::Create(bpe.steps));
    std::vector<std::pair<std::string, AddedToken>> tokens;
    for (const AddedToken& token : spec.added_tokens) {
      if (!token.normalized) continue;
      QFT_ASSIGN_OR_RETURN(std::string pattern, normalizer.Normalize(token.content));
      tokens.emplace_back(std::move(pattern), token);
    }
    return std::unique_ptr<const SegmentEncoder>(new BpeSegmentEncoder(
        spec, bpe, std::move(normalizer), AddedTokenFinder(tokens), std::move(pre_tokenizer)));
  }

  Status Encode(std::string_view text, bool is_first, bool special,
                std::vector<int32_t>* ids) const override {
    QFT_ASSIGN_OR_RETURN(const std::string normal, normalizer_.Normalize(text));
    std::vector<TextSegment> segments;
    finder_.Divide(normal, special, &segments);
    for (const TextSegment& segment : segments) {
      if (segment.id >= 0) {
        ids->push_back(segment.id);
      } else {
        QFT_RETURN_IF_ERROR(EncodePlain(segment.text, is_first, ids));
      }
      is_first = false;
    }
    return absl::OkStatus();
  }

 private:
  BpeSegmentEncoder(const TokenizerSpec& all, const BpeSpec& spec, Normalizer normalizer,
                    AddedTokenFinder finder, PreTokenizer pre_tokenizer)
      : normalizer_(std::move(normalizer)),
        finder_(std::move(finder)),
        metaspace_(spec.metaspace),
        pre_tokenizer_(std::move(pre_tokenizer)),
        is_byte_level_(spec.options.alphabet == BpeOptions::Alphabet::kBytes),
        bpe_(spec.merges, BpeTokens(all, spec.options.alphabet), spec.options) {}

  Status EncodePlain(std::string_view text, bool is_first, std::vector<int32_t>* ids) const {
    if (is_byte_level_) return EncodeByteLevel(text, ids);
    if (metaspace_) {
      EncodeMarked(MarkSpaces(*metaspace_, text, is_first), ids);
    } else {
      bpe_.Encode(text, ids);
    }
    return absl::OkStatus();
  }

  void EncodeMarked(std::string_view text, std::vector<int32_t>* ids) const {
    if (!metaspace_->divides) return bpe_.Encode(text, ids);
    for (size_t at = 0; at < text.size();) {
      const size_t end = std::min(text.find(kSpaceMarker, at + 1), text.size());
      bpe_.Encode(text.substr(at, end - at), ids);
      at = end;
    }
  }

  Status EncodeByteLevel(std::string_view text, std::vector<int32_t>* ids) const {
    icu::UnicodeString wide = ToUtf16(text);
    if (wide.isBogus()) return MakeError(ErrorCode::kOutOfMemory, "dividing a text");
    std::vector<TextSpan> pieces;
    QFT_RETURN_IF_ERROR(pre_tokenizer_.Split(&wide, &pieces));
    std::string bytes;
    for (const TextSpan& piece : pieces) {
      bytes.clear();
      AppendUtf8(wide.getBuffer() + piece.begin, piece.end - piece.begin, &bytes);
      bpe_.Encode(bytes, ids);
    }
    return absl::OkStatus();
  }

  Normalizer normalizer_;
  AddedTokenFinder finder_;
  std::optional<Metaspace> metaspace_;
  PreTokenizer pre_tokenizer_;
  bool is_byte_level_;
  Bpe bpe_;
};

class SentencePieceSegmentEncoder final : public SegmentEncoder {
 public:
  SentencePieceSegmentEncoder(SentencePieceEncoder encoder, bool prefix_first_only)
      : encoder_(std::move(encoder)), prefix_first_only_(prefix_first_only) {}

  Status Encode(std::string_view text, bool is_first, bool /*special*/,
                std::vector<int32_t>* ids) const override {
    encoder_.Encode(text, /*dummy_prefix=*/is_first || !prefix_first_only_, ids);
    return absl::OkStatus();
  }

 private:
  SentencePieceEncoder encoder_;
  bool prefix_first_only_;
};

}  // namespace

StatusOr<std::unique_ptr<const SegmentEncoder>> MakeSegmentEncoder(const TokenizerSpec& spec) {
  if (const auto* bpe = std::get_if<BpeSpec>(&spec.encoder)) {
    return BpeSegmentEncoder::Create(spec, *bpe);
  }
  const auto& pieces = std::get<SentencePieceSpec>(spec.encoder);
  QFT_ASSIGN_OR_RETURN(SentencePieceEncoder encoder, SentencePieceEncoder::Create(pieces.model));
  return std::unique_ptr<const SegmentEncoder>(
      new SentencePieceSegmentEncoder(std::move(encoder), pieces.prefix_first_only));
}

}  // namespace qft
