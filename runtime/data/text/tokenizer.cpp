#include "runtime/data/text/tokenizer.h"

#include <algorithm>
#include <utility>

#include "runtime/data/text/byte_tokens.h"
#include "runtime/data/text/metaspace.h"
#include "runtime/data/text/unicode.h"

namespace qft {
namespace {

constexpr char kJsonName[] = "tokenizer.json";
constexpr char kModelName[] = "tokenizer.model";

StatusOr<bool> IsGguf(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  QFT_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  char magic[4] = {};
  if (size < sizeof(magic)) return false;
  QFT_RETURN_IF_ERROR(file->Pread(magic, sizeof(magic), 0));
  return std::string_view(magic, sizeof(magic)) == "GGUF";
}

// The tokenizer's file in a folder.
StatusOr<std::string> FindFile(FileSystem& fs, const std::string& folder) {
  std::string path = JoinPath(folder, kJsonName);
  QFT_ASSIGN_OR_RETURN(const bool has_json, fs.Exists(path));
  if (has_json) return path;
  std::string model = JoinPath(folder, kModelName);
  QFT_ASSIGN_OR_RETURN(const bool has_model, fs.Exists(model));
  return has_model ? model : path;
}

StatusOr<TokenizerSpec> ReadSpec(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const bool is_gguf, IsGguf(fs, path));
  if (is_gguf) return ReadTokenizerGguf(fs, path);
  // "tokenizer.model.v3" is one, too.
  const bool is_model = path.find(".model", path.rfind('/') + 1) != std::string::npos;
  return is_model ? ReadTokenizerModel(fs, path) : ReadTokenizerJson(fs, path);
}

Status NoToken(int32_t id) {
  return MakeError(ErrorCode::kOutOfRange, absl::StrCat("there is no token ", id));
}

// What the decoder makes of each token.
StatusOr<std::vector<DecodedToken>> DecodedTokens(const TokenizerSpec& spec) {
  std::vector<DecodedToken> tokens;
  for (int64_t id = 0; id < spec.vocabulary.size(); ++id) {
    const std::string* text = spec.vocabulary.Text(id);
    DecodedToken token;
    if (text != nullptr) {
      QFT_ASSIGN_OR_RETURN(token, DecodedTokenOf(spec.decoder, *text));
    }
    tokens.push_back(std::move(token));
  }
  const auto* pieces = std::get_if<SentencePieceSpec>(&spec.encoder);
  if (pieces == nullptr) return tokens;
  using Type = SentencePieceModel::Type;
  for (size_t id = 0; id < tokens.size(); ++id) {
    const bool is_piece = id < pieces->model.pieces.size();
    const Type type = is_piece ? pieces->model.pieces[id].type : Type::kControl;
    DecodedToken& token = tokens[id];
    if (type == Type::kUnknown) token.kind = DecodedToken::Kind::kUnknown;
    if (type == Type::kControl) token.kind = DecodedToken::Kind::kVerbatim;
    if (type == Type::kByte) {
      token.kind = DecodedToken::Kind::kByte;
      token.text.assign(1, static_cast<char>(ByteOfToken(token.text).value_or(0)));
    }
  }
  return tokens;
}

}  // namespace

StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Load(FileSystem& fs,
                                                           const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const bool is_folder, fs.IsDirectory(path));
  std::string file = path;
  if (is_folder) {
    QFT_ASSIGN_OR_RETURN(file, FindFile(fs, path));
  }
  auto spec = ReadSpec(fs, file);
  if (!spec.ok()) return Annotate(spec.status(), file);
  auto tokenizer = Create(*std::move(spec));
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), file);
  return tokenizer;
}

StatusOr<std::shared_ptr<const Tokenizer>> Tokenizer::Create(TokenizerSpec spec) {
  QFT_ASSIGN_OR_RETURN(std::unique_ptr<const SegmentEncoder> encoder, MakeSegmentEncoder(spec));
  QFT_ASSIGN_OR_RETURN(std::vector<DecodedToken> decoded, DecodedTokens(spec));
  return std::shared_ptr<const Tokenizer>(
      new Tokenizer(std::move(spec), std::move(encoder), std::move(decoded)));
}

Tokenizer::Tokenizer(TokenizerSpec spec, std::unique_ptr<const SegmentEncoder> encoder,
                     std::vector<DecodedToken> decoded)
    : special_(static_cast<size_t>(spec.vocabulary.size())),
      encoder_(std::move(encoder)),
      decoded_(std::move(decoded)),
      decoder_(std::move(spec.decoder)),
      frame_(std::move(spec.frame)),
      end_id_(spec.end_id),
      stop_ids_(std::move(spec.stop_ids)),
      files_(std::move(spec.files)) {
  std::vector<std::pair<std::string, AddedToken>> raw;
  for (const AddedToken& token : spec.added_tokens) {
    if (token.special) special_[static_cast<size_t>(token.id)] = true;
    if (!token.normalized) raw.emplace_back(token.content, token);
  }
  finder_ = AddedTokenFinder(raw);
  vocabulary_ = std::move(spec.vocabulary);
}

bool Tokenizer::Stops(int32_t id) const {
  return id == end_id_ || std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end();
}

bool Tokenizer::IsSpecial(int32_t id) const {
  return id >= 0 && id < size() && special_[static_cast<size_t>(id)];
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
  finder_.Divide(text, special, &segments);
  bool is_first = true;
  for (const TextSegment& segment : segments) {
    if (segment.id >= 0) {
      ids->push_back(segment.id);
    } else {
      QFT_RETURN_IF_ERROR(encoder_->Encode(segment.text, is_first, special, ids));
    }
    is_first = false;
  }
  return absl::OkStatus();
}

StatusOr<size_t> Tokenizer::Begin(std::string_view prompt, bool special,
                                  std::vector<int32_t>* ids) const {
  ids->clear();
  QFT_RETURN_IF_ERROR(Encode(prompt, special, ids));
  const std::vector<int32_t>& prefix = frame_.prefix;
  const bool begins_so =
      ids->size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids->begin());
  if (!begins_so) ids->insert(ids->begin(), prefix.begin(), prefix.end());
  return prefix.size();
}

StatusOr<std::string> Tokenizer::Bytes(int32_t id) const {
  if (!Has(id)) return NoToken(id);
  const std::string& text = decoded_[static_cast<size_t>(id)].text;
  const bool has_markers = decoder_.kind != DecoderOptions::Kind::kByteLevel;
  return has_markers ? ReplaceAll(text, kSpaceMarker, " ") : text;
}

StatusOr<std::string> Tokenizer::Decode(const int32_t* ids, size_t count, bool skip_special) const {
  TokenStream stream(*this, skip_special);
  std::string text;
  for (size_t i = 0; i < count; ++i) {
    QFT_ASSIGN_OR_RETURN(const std::string piece, stream.Push(ids[i]));
    text += piece;
  }
  return text + stream.Finish();
}

Status TokenStream::StartAfter(const std::vector<int32_t>& ids) {
  for (const int32_t id : ids) QFT_RETURN_IF_ERROR(Push(id).status());
  run_.Finish();
  return absl::OkStatus();
}

StatusOr<std::string> TokenStream::Push(int32_t id) {
  if (!tokenizer_->Has(id)) return NoToken(id);
  if (skip_special_ && tokenizer_->IsSpecial(id)) return run_.Skip();
  return run_.Push(tokenizer_->decoded_[static_cast<size_t>(id)]);
}

}  // namespace qft
