#include "runtime/data/text/tokenizer.h"

#include "runtime/data/text/byte_level.h"
#include "runtime/data/text/unicode.h"

namespace qft {
namespace {

constexpr char kTokenizerFileName[] = "tokenizer.json";

StatusOr<const icu::Normalizer2*> FindNormalizer(NormalForm form) {
  UErrorCode code = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = nullptr;
  switch (form) {
    case NormalForm::kNfc:
      normalizer = icu::Normalizer2::getNFCInstance(code);
      break;
    case NormalForm::kNfd:
      normalizer = icu::Normalizer2::getNFDInstance(code);
      break;
    case NormalForm::kNfkc:
      normalizer = icu::Normalizer2::getNFKCInstance(code);
      break;
    case NormalForm::kNfkd:
      normalizer = icu::Normalizer2::getNFKDInstance(code);
      break;
  }
  if (U_FAILURE(code)) return Internal("ICU has no normaliser: ", u_errorName(code));
  return normalizer;
}

// The tokens that are written in the byte alphabet.
std::vector<std::pair<std::string, int32_t>> ByteLevelTokens(const Vocabulary& vocabulary) {
  std::vector<std::pair<std::string, int32_t>> tokens;
  for (int64_t id = 0; id < vocabulary.size(); ++id) {
    const std::string* text = vocabulary.Text(id);
    if (text == nullptr) continue;
    if (auto bytes = BytesOfToken(*text)) {
      tokens.emplace_back(std::move(*bytes), static_cast<int32_t>(id));
    }
  }
  return tokens;
}

StatusOr<bool> IsGguf(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  QFT_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  char magic[4] = {};
  if (size < sizeof(magic)) return false;
  QFT_RETURN_IF_ERROR(file->Pread(magic, sizeof(magic), 0));
  return std::string_view(magic, sizeof(magic)) == "GGUF";
}

}  // namespace

StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Load(FileSystem& fs,
                                                           const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const bool is_folder, fs.IsDirectory(path));
  const std::string file = is_folder ? JoinPath(path, kTokenizerFileName) : path;
  QFT_ASSIGN_OR_RETURN(const bool is_gguf, IsGguf(fs, file));
  auto spec = is_gguf ? ReadTokenizerGguf(fs, file) : ReadTokenizerJson(fs, file);
  if (!spec.ok()) return Annotate(spec.status(), file);
  auto tokenizer = Create(*std::move(spec));
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), file);
  return tokenizer;
}

StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Create(TokenizerSpec spec) {
  QFT_ASSIGN_OR_RETURN(PreTokenizer pre_tokenizer, PreTokenizer::Create(spec.steps));
  std::vector<const icu::Normalizer2*> normalizers;
  for (const NormalForm form : spec.normal_forms) {
    QFT_ASSIGN_OR_RETURN(const icu::Normalizer2* normalizer, FindNormalizer(form));
    normalizers.push_back(normalizer);
  }
  const std::vector<AddedToken> added = spec.added_tokens;
  std::shared_ptr<Tokenizer> tokenizer(
      new Tokenizer(std::move(spec), std::move(pre_tokenizer), std::move(normalizers)));
  QFT_RETURN_IF_ERROR(tokenizer->AddFinders(added));
  return std::shared_ptr<const Tokenizer>(std::move(tokenizer));
}

Tokenizer::Tokenizer(TokenizerSpec spec, PreTokenizer pre_tokenizer,
                     std::vector<const icu::Normalizer2*> normalizers)
    : vocabulary_(std::move(spec.vocabulary)),
      bytes_of_id_(static_cast<size_t>(vocabulary_.size())),
      special_(static_cast<size_t>(vocabulary_.size())),
      bpe_(spec.merges, ByteLevelTokens(vocabulary_), spec.bpe),
      pre_tokenizer_(std::move(pre_tokenizer)),
      normalizers_(std::move(normalizers)),
      end_id_(spec.end_id),
      files_(std::move(spec.files)) {
  for (int64_t id = 0; id < size(); ++id) {
    const std::string* text = vocabulary_.Text(id);
    if (text != nullptr)
      bytes_of_id_[static_cast<size_t>(id)] = BytesOfToken(*text).value_or(*text);
  }
}

Status Tokenizer::AddFinders(const std::vector<AddedToken>& tokens) {
  for (const AddedToken& token : tokens) {
    if (token.special) special_[static_cast<size_t>(token.id)] = true;
    if (token.normalized) {
      QFT_ASSIGN_OR_RETURN(const icu::UnicodeString pattern, Normalize(token.content));
      normalized_finder_.Add(ToUtf8(pattern), token);
      has_normalized_tokens_ = true;
    } else {
      raw_finder_.Add(token.content, token);
    }
  }
  return absl::OkStatus();
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return id >= 0 && id < size() && special_[static_cast<size_t>(id)];
}

StatusOr<icu::UnicodeString> Tokenizer::Normalize(std::string_view text) const {
  icu::UnicodeString result = ToUtf16(text);
  for (const icu::Normalizer2* normalizer : normalizers_) {
    UErrorCode code = U_ZERO_ERROR;
    result = normalizer->normalize(result, code);
    if (U_FAILURE(code)) return Internal("normalising a text: ", u_errorName(code));
  }
  if (result.isBogus()) return MakeError(ErrorCode::kOutOfMemory, "normalising a text");
  return result;
}

Status Tokenizer::EncodePlain(icu::UnicodeString text, std::vector<int32_t>* ids) const {
  std::vector<TextSpan> pieces;
  QFT_RETURN_IF_ERROR(pre_tokenizer_.Split(&text, &pieces));
  std::string bytes;
  for (const TextSpan& piece : pieces) {
    bytes.clear();
    AppendUtf8(text.getBuffer() + piece.begin, piece.end - piece.begin, &bytes);
    bpe_.Encode(bytes, ids);
  }
  return absl::OkStatus();
}

Status Tokenizer::EncodeNormalized(std::string_view text, bool special,
                                   std::vector<int32_t>* ids) const {
  QFT_ASSIGN_OR_RETURN(icu::UnicodeString normal, Normalize(text));
  if (!has_normalized_tokens_) {
    return normal.isEmpty() ? absl::OkStatus() : EncodePlain(std::move(normal), ids);
  }
  const std::string normal_text = ToUtf8(normal);
  std::vector<TextSegment> segments;
  normalized_finder_.Divide(normal_text, special, &segments);
  for (const TextSegment& segment : segments) {
    if (segment.id >= 0) {
      ids->push_back(segment.id);
    } else {
      QFT_RETURN_IF_ERROR(EncodePlain(ToUtf16(segment.text), ids));
    }
  }
  return absl::OkStatus();
}

Status Tokenizer::Encode(std::string_view text, bool special, std::vector<int32_t>* ids) const {
  if (text.size() > kMaxTextBytes) {
    return MakeError(ErrorCode::kOutOfRange, absl::StrCat("a text of ", text.size(),
                                                          " bytes; the most is ", kMaxTextBytes));
  }
  std::string repaired;
  if (!IsUtf8(text)) {
    repaired = ReplaceInvalidUtf8(text);
    text = repaired;
  }
  std::vector<TextSegment> segments;
  raw_finder_.Divide(text, special, &segments);
  for (const TextSegment& segment : segments) {
    if (segment.id >= 0) {
      ids->push_back(segment.id);
    } else {
      QFT_RETURN_IF_ERROR(EncodeNormalized(segment.text, special, ids));
    }
  }
  return absl::OkStatus();
}

StatusOr<std::string_view> Tokenizer::Bytes(int32_t id) const {
  if (vocabulary_.Text(id) == nullptr) {
    return MakeError(ErrorCode::kOutOfRange, absl::StrCat("there is no token ", id));
  }
  return std::string_view(bytes_of_id_[static_cast<size_t>(id)]);
}

StatusOr<std::string> Tokenizer::Decode(const int32_t* ids, size_t count, bool skip_special) const {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) {
    QFT_ASSIGN_OR_RETURN(const std::string_view token, Bytes(ids[i]));
    if (!(skip_special && IsSpecial(ids[i]))) bytes.append(token);
  }
  return ReplaceInvalidUtf8(bytes);
}

}  // namespace qft
