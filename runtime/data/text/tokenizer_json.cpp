#include <utility>

#include "runtime/data/text/json_object.h"
#include "runtime/data/text/tokenizer_files.h"
#include "runtime/data/text/tokenizer_json_parts.h"
#include "runtime/data/text/tokenizer_spec.h"

namespace qft {
namespace {

using nlohmann::json;
using Alphabet = BpeOptions::Alphabet;

constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;

// ---- model --------------------------------------------------------------------------------------

Status ReadVocabulary(const Object& model, Vocabulary* vocabulary) {
  const json* vocab = model.Find("vocab");
  if (vocab == nullptr || !vocab->is_object()) return BadData("model.vocab is not an object");
  for (const auto& [text, id] : vocab->items()) {
    QFT_ASSIGN_OR_RETURN(const int64_t number, TokenIdOf(id, "model.vocab: " + text));
    QFT_RETURN_IF_ERROR(vocabulary->Add(text, number, vocab->size()));
  }
  return absl::OkStatus();
}

StatusOr<std::pair<std::string, std::string>> ReadMerge(const json& merge) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
    return std::pair(merge[0].get<std::string>(), merge[1].get<std::string>());
  }
  if (merge.is_string()) {
    const std::string& text = merge.get_ref<const std::string&>();
    const size_t space = text.find(' ');
    if (space != std::string::npos && text.find(' ', space + 1) == std::string::npos) {
      return std::pair(text.substr(0, space), text.substr(space + 1));
    }
  }
  return BadData("model.merges holds something that is not a pair");
}

Status ReadMerges(const Object& model, const Vocabulary& vocabulary,
                  std::vector<MergeRule>* rules) {
  const json* merges = model.Find("merges");
  if (merges == nullptr || !merges->is_array()) return BadData("model.merges is not an array");
  rules->reserve(merges->size());
  for (const json& merge : *merges) {
    QFT_ASSIGN_OR_RETURN(const auto pair, ReadMerge(merge));
    QFT_ASSIGN_OR_RETURN(const MergeRule rule,
                         ResolveMerge(vocabulary, pair.first, pair.second, rules->size()));
    rules->push_back(rule);
  }
  return absl::OkStatus();
}

Status CheckModel(const Object& model) {
  QFT_ASSIGN_OR_RETURN(const std::string type, model.String("type", "BPE"));
  if (type != "BPE") return Refuse("model \"", type, "\" (BPE is)");
  QFT_RETURN_IF_ERROR(model.CheckKeys({"type", "dropout", "unk_token", "continuing_subword_prefix",
                                       "end_of_word_suffix", "fuse_unk", "byte_fallback",
                                       "ignore_merges", "vocab", "merges"}));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    QFT_ASSIGN_OR_RETURN(const std::string value, model.String(key, ""));
    if (!value.empty()) return Refuse("model.", key, " \"", value, "\"");
  }
  const json* dropout = model.Find("dropout");
  if (dropout != nullptr && *dropout != 0) return Refuse("model.dropout");
  return absl::OkStatus();
}

Status ReadModel(const Object& root, Vocabulary* vocabulary, BpeSpec* bpe) {
  const json* value = root.Find("model");
  if (value == nullptr) return BadData("there is no model");
  QFT_ASSIGN_OR_RETURN(const Object model, Object::Of(*value, "model"));
  QFT_RETURN_IF_ERROR(CheckModel(model));
  QFT_RETURN_IF_ERROR(ReadVocabulary(model, vocabulary));
  QFT_RETURN_IF_ERROR(ReadMerges(model, *vocabulary, &bpe->merges));
  BpeOptions& options = bpe->options;
  QFT_ASSIGN_OR_RETURN(options.ignore_merges, model.Bool("ignore_merges", false));
  QFT_ASSIGN_OR_RETURN(options.fuse_unknown, model.Bool("fuse_unk", false));
  QFT_ASSIGN_OR_RETURN(options.byte_fallback, model.Bool("byte_fallback", false));
  if (model.Find("unk_token") != nullptr) {
    QFT_ASSIGN_OR_RETURN(const std::string unknown, model.String("unk_token", ""));
    const auto id = vocabulary->Find(unknown);
    if (!id) return BadData("model.unk_token \"", unknown, "\" is not in the vocabulary");
    options.unknown_id = *id;
  }
  return absl::OkStatus();
}

// ---- added tokens -------------------------------------------------------------------------------

Status ReadAddedTokens(const Object& root, TokenizerSpec* spec) {
  const json* list = root.Find("added_tokens");
  if (list == nullptr) return absl::OkStatus();
  if (!list->is_array()) return BadData("added_tokens is not an array");
  const size_t expected = static_cast<size_t>(spec->vocabulary.size()) + list->size();
  for (const json& value : *list) {
    const json* id = value.is_object() && value.contains("id") ? &value["id"] : nullptr;
    if (id == nullptr) return BadData("an added token has no id");
    QFT_ASSIGN_OR_RETURN(const int64_t number, TokenIdOf(*id, "added_tokens[].id"));
    QFT_ASSIGN_OR_RETURN(AddedToken token, ReadAddedToken(value, static_cast<int32_t>(number)));
    QFT_RETURN_IF_ERROR(AddToken(std::move(token), expected, spec));
  }
  return absl::OkStatus();
}

// ---- all of it ----------------------------------------------------------------------------------

// The parts must speak of the same alphabet.
Status ReadAlphabet(const Object& root, BpeSpec* bpe, DecoderOptions* decoder) {
  if (const json* pre_tokenizer = root.Find("pre_tokenizer")) {
    QFT_RETURN_IF_ERROR(ReadPreTokenizer(*pre_tokenizer, &bpe->steps, &bpe->metaspace));
  }
  const bool is_byte_level = !bpe->steps.empty();
  bpe->options.alphabet = is_byte_level ? Alphabet::kBytes : Alphabet::kCharacters;
  if (is_byte_level && bpe->options.byte_fallback) {
    return Refuse("model.byte_fallback with a ByteLevel pre_tokenizer");
  }
  const json* value = root.Find("decoder");
  if (value != nullptr) {
    QFT_ASSIGN_OR_RETURN(*decoder, ReadDecoder(*value));
  } else if (!is_byte_level) {
    return Refuse("a tokenizer without decoder that is not byte-level");
  }
  if ((decoder->kind == DecoderOptions::Kind::kByteLevel) != is_byte_level) {
    return Refuse(is_byte_level ? "a ByteLevel pre_tokenizer with another decoder"
                                : "a ByteLevel decoder with another pre_tokenizer");
  }
  return absl::OkStatus();
}

Status CheckFrame(const Vocabulary& vocabulary, const TextFrame& frame) {
  for (const auto* ids : {&frame.prefix, &frame.suffix}) {
    for (const int32_t id : *ids) {
      if (vocabulary.Text(id) == nullptr) return BadData("post_processor: there is no token ", id);
    }
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<TokenizerSpec> ParseTokenizerJson(const std::string& text, const std::string& what) {
  QFT_ASSIGN_OR_RETURN(const json value, ParseJson(text, what));
  QFT_ASSIGN_OR_RETURN(const Object root, Object::Of(value, what));
  QFT_RETURN_IF_ERROR(
      root.CheckKeys({"version", "truncation", "padding", "added_tokens", "normalizer",
                      "pre_tokenizer", "post_processor", "decoder", "model"}));
  TokenizerSpec spec;
  BpeSpec bpe;
  QFT_RETURN_IF_ERROR(ReadModel(root, &spec.vocabulary, &bpe));
  QFT_RETURN_IF_ERROR(ReadAddedTokens(root, &spec));
  if (const json* normalizer = root.Find("normalizer")) {
    QFT_RETURN_IF_ERROR(ReadNormalizer(*normalizer, &bpe.normalizer));
  }
  QFT_RETURN_IF_ERROR(ReadAlphabet(root, &bpe, &spec.decoder));
  if (const json* processor = root.Find("post_processor")) {
    QFT_RETURN_IF_ERROR(ReadPostProcessor(*processor, &spec.frame));
    QFT_RETURN_IF_ERROR(CheckFrame(spec.vocabulary, spec.frame));
  }
  spec.encoder = std::move(bpe);
  spec.files.emplace_back("tokenizer.json", text);
  return spec;
}

StatusOr<TokenizerSpec> ReadTokenizerJson(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs, path, kMaxFileBytes));
  QFT_ASSIGN_OR_RETURN(TokenizerSpec spec, ParseTokenizerJson(text, "tokenizer.json"));
  QFT_RETURN_IF_ERROR(ReadFilesBeside(fs, ParentPath(path), &spec));
  AddMissingConfig("PreTrainedTokenizerFast", &spec);
  return spec;
}

}  // namespace qft
