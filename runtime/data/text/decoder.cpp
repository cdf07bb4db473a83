#include "runtime/data/text/decoder.h"

#include <unicode/utf8.h>

#include "runtime/data/text/byte_level.h"
#include "runtime/data/text/byte_tokens.h"
#include "runtime/data/text/metaspace.h"

namespace qft {
namespace {

using Kind = DecoderOptions::Kind;

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// As Hugging Face tokenizers have it: one broken character makes a whole run of bytes unreadable.
std::string AllOrNothing(const std::string& bytes) {
  if (IsUtf8(bytes)) return bytes;
  std::string text;
  for (size_t i = 0; i < bytes.size(); ++i) text.append(kReplacement);
  return text;
}

// As SentencePiece has it: each byte that begins no character is replaced.
std::string CharacterWise(const std::string& bytes) {
  std::string text;
  const auto* data = reinterpret_cast<const uint8_t*>(bytes.data());
  for (size_t at = 0; at < bytes.size();) {
    size_t next = at;
    UChar32 c;
    U8_NEXT(data, next, bytes.size(), c);
    if (c < 0) next = at + 1;
    text.append(c < 0 ? kReplacement : std::string_view(bytes).substr(at, next - at));
    at = next;
  }
  return text;
}

}  // namespace

StatusOr<DecodedToken> DecodedTokenOf(const DecoderOptions& options, std::string_view token) {
  DecodedToken result;
  result.text = token;
  if (options.kind == Kind::kByteLevel) {
    if (auto bytes = BytesOfToken(token)) result.text = *std::move(bytes);
    return result;
  }
  for (const auto& [from, to] : options.replacements) {
    if (ReplacedBytes(result.text, from, to) > MostRewrittenBytes(token.size())) {
      return BadData("the decoder makes too much of a token of ", token.size(), " bytes");
    }
    result.text = ReplaceAll(result.text, from, to);
  }
  if (!options.byte_fallback) return result;
  if (const auto byte = ByteOfToken(result.text)) {
    result.kind = DecodedToken::Kind::kByte;
    result.text.assign(1, static_cast<char>(*byte));
  }
  return result;
}

std::string DecoderRun::Push(const DecodedToken& token) {
  if (options_->kind == Kind::kByteLevel) return characters_.Push(token.text);
  if (token.kind == DecodedToken::Kind::kByte) {
    bytes_ += token.text;
    return "";
  }
  std::string text = TakeBytes();
  text += TextOf(token);
  is_first_ = false;
  seen_text_ = seen_text_ || !text.empty();
  return text;
}

std::string DecoderRun::Skip() {
  return options_->kind == Kind::kSentencePiece ? TakeBytes() : "";
}

std::string DecoderRun::Finish() {
  return options_->kind == Kind::kByteLevel ? characters_.Finish() : TakeBytes();
}

std::string DecoderRun::TextOf(const DecodedToken& token) {
  if (options_->kind == Kind::kSentencePiece) return SentencePieceTextOf(token);
  if (options_->drops_first_markers) {
    return ReplaceAll(token.text, kSpaceMarker, is_first_ ? "" : " ");
  }
  return Strip(token.text);
}

std::string DecoderRun::SentencePieceTextOf(const DecodedToken& token) {
  if (seen_text_) strips_space_ = false;
  if (token.kind == DecodedToken::Kind::kUnknown) return options_->unknown_text;
  if (token.kind == DecodedToken::Kind::kVerbatim) return token.text;
  std::string_view text = token.text;
  if (strips_space_ && options_->strips_first_space && text.substr(0, 3) == kSpaceMarker) {
    text.remove_prefix(kSpaceMarker.size());
    strips_space_ = options_->strips_more_spaces;
  }
  return ReplaceAll(text, kSpaceMarker, " ");
}

std::string DecoderRun::TakeBytes() {
  if (bytes_.empty()) return "";
  std::string text =
      options_->kind == Kind::kSentencePiece ? CharacterWise(bytes_) : Strip(AllOrNothing(bytes_));
  bytes_.clear();
  seen_text_ = true;
  return text;
}

std::string DecoderRun::Strip(std::string text) {
  size_t at = 0;
  while (strippable_ > 0 && at < text.size()) {
    const bool is_stripped = text.compare(at, options_->stripped.size(), options_->stripped) == 0;
    if (!is_stripped) strippable_ = 0;
    if (is_stripped) {
      --strippable_;
      at += options_->stripped.size();
    }
  }
  return text.erase(0, at);
}

}  // namespace qft
