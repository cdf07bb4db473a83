// SentencePiece's tokenizer.model.
#include <utility>

#include "runtime/data/git_lfs.h"
#include "runtime/data/text/json_object.h"
#include "runtime/data/text/tokenizer_files.h"
#include "runtime/data/text/tokenizer_json_parts.h"
#include "runtime/data/text/tokenizer_spec.h"

namespace qft {
namespace {

using nlohmann::json;
using Type = SentencePieceModel::Type;

constexpr uint64_t kMaxFileBytes = uint64_t{64} << 20;
constexpr size_t kMaxIdDigits = 9;

DecoderOptions DecoderOf(const SentencePieceModel& model) {
  DecoderOptions decoder;
  decoder.kind = DecoderOptions::Kind::kSentencePiece;
  decoder.strips_first_space = model.add_dummy_prefix || model.remove_extra_whitespaces;
  decoder.strips_more_spaces = model.remove_extra_whitespaces;
  decoder.unknown_text = model.unknown_text;
  return decoder;
}

std::optional<int32_t> ControlToken(const TokenizerSpec& spec, const std::string& text) {
  const auto id = spec.vocabulary.Find(text);
  const auto& pieces = std::get<SentencePieceSpec>(spec.encoder).model.pieces;
  const bool is_control = id && static_cast<size_t>(*id) < pieces.size() &&
                          pieces[static_cast<size_t>(*id)].type == Type::kControl;
  return is_control ? id : std::nullopt;
}

// {"32000": {"content": "<|im_start|>", ...}, ...}
Status ReadAddedTokensDecoder(const json& list, TokenizerSpec* spec) {
  if (!list.is_object()) return BadData("added_tokens_decoder is not an object");
  const size_t expected = static_cast<size_t>(spec->vocabulary.size()) + list.size();
  const auto& pieces = std::get<SentencePieceSpec>(spec->encoder).model.pieces;
  for (const auto& [key, value] : list.items()) {
    const bool is_number = !key.empty() && key.size() <= kMaxIdDigits &&
                           key.find_first_not_of("0123456789") == std::string::npos;
    if (!is_number) return BadData("added_tokens_decoder: \"", key, "\" is not a token id");
    const auto id = static_cast<int32_t>(std::stol(key));
    QFT_ASSIGN_OR_RETURN(AddedToken token, ReadAddedToken(value, id));
    // The model's own tokens are known already.
    if (static_cast<size_t>(id) < pieces.size()) continue;
    QFT_RETURN_IF_ERROR(AddToken(std::move(token), expected, spec));
  }
  return absl::OkStatus();
}

// As transformers' LlamaTokenizer reads its configuration.
Status ReadOptions(const Object& config, TokenizerSpec* spec) {
  QFT_ASSIGN_OR_RETURN(const bool legacy, config.Bool("legacy", true));
  std::get<SentencePieceSpec>(spec->encoder).prefix_first_only = !legacy;
  QFT_ASSIGN_OR_RETURN(const bool begins, config.Bool("add_bos_token", true));
  if (!begins) spec->frame.prefix.clear();
  QFT_ASSIGN_OR_RETURN(const bool ends, config.Bool("add_eos_token", false));
  if (ends && spec->end_id) spec->frame.suffix = {*spec->end_id};
  return absl::OkStatus();
}

}  // namespace

StatusOr<TokenizerSpec> SpecOfSentencePieces(SentencePieceModel model) {
  TokenizerSpec spec;
  for (size_t id = 0; id < model.pieces.size(); ++id) {
    const SentencePieceModel::Piece& piece = model.pieces[id];
    QFT_RETURN_IF_ERROR(
        spec.vocabulary.Add(piece.text, static_cast<int64_t>(id), model.pieces.size()));
    if (piece.type != Type::kControl) continue;
    AddedToken token;
    token.id = static_cast<int32_t>(id);
    token.content = piece.text;
    token.special = true;
    spec.added_tokens.push_back(std::move(token));
  }
  spec.decoder = DecoderOf(model);
  spec.encoder = SentencePieceSpec{std::move(model), false};
  const auto& kept = std::get<SentencePieceSpec>(spec.encoder).model;
  if (const auto begin = ControlToken(spec, kept.begin_text)) spec.frame.prefix = {*begin};
  spec.end_id = ControlToken(spec, kept.end_text);
  return spec;
}

StatusOr<TokenizerSpec> ParseTokenizerModel(const std::string& bytes) {
  QFT_ASSIGN_OR_RETURN(SentencePieceModel model, ParseSentencePieceModel(bytes));
  QFT_ASSIGN_OR_RETURN(TokenizerSpec spec, SpecOfSentencePieces(std::move(model)));
  spec.files.emplace_back("tokenizer.model", bytes);
  return spec;
}

StatusOr<TokenizerSpec> ReadTokenizerModel(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const std::string bytes, ReadWholeFile(fs, path, kMaxFileBytes));
  QFT_RETURN_IF_ERROR(RefuseGitLfsPointer(bytes));
  QFT_ASSIGN_OR_RETURN(TokenizerSpec spec, ParseTokenizerModel(bytes));
  const std::string folder = ParentPath(path);
  QFT_ASSIGN_OR_RETURN(const auto text, ReadBeside(fs, folder, kTokenizerConfigName));
  QFT_ASSIGN_OR_RETURN(const json value, ParseJson(text.value_or("{}"), kTokenizerConfigName));
  QFT_ASSIGN_OR_RETURN(const Object config, Object::Of(value, kTokenizerConfigName));
  if (const json* list = config.Find("added_tokens_decoder")) {
    QFT_RETURN_IF_ERROR(ReadAddedTokensDecoder(*list, &spec));
  }
  const std::optional<int32_t> models_own = std::exchange(spec.end_id, std::nullopt);
  QFT_RETURN_IF_ERROR(ReadFilesBeside(fs, folder, &spec));
  if (!spec.end_id) spec.end_id = models_own;
  QFT_RETURN_IF_ERROR(ReadOptions(config, &spec));
  AddMissingConfig("LlamaTokenizer", &spec);
  return spec;
}

}  // namespace qft
