#include <nlohmann/json.hpp>

#include "runtime/data/gguf.h"
#include "runtime/data/text/tokenizer_spec.h"

namespace qft {
namespace {

using nlohmann::ordered_json;
using Kind = PreTokenizerStep::Kind;

// As SentencePieceModel::Type.
constexpr int64_t kTypeControl = 3;
constexpr int64_t kTypeUserDefined = 4;

// Texts of the metadata need not be UTF-8.
constexpr auto kReplaceInvalid = ordered_json::error_handler_t::replace;

// As the tokenizer.json of the models that these names stand for.
constexpr char kLlama3Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr char kQwen2Pattern[] =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// llama.cpp's "default" is a list of its own.
constexpr char kPunctuationPattern[] = R"([\p{P}\$\+<=>\^~\|]+)";
constexpr char kNumberPattern[] = R"(\p{N}+)";
constexpr char kThreeDigitsPattern[] = "[0-9][0-9][0-9]";

PreTokenizerStep SplitStep(const char* pattern) {
  PreTokenizerStep step;
  step.kind = Kind::kSplit;
  step.pattern = pattern;
  return step;
}

PreTokenizerStep DigitsStep() {
  PreTokenizerStep step;
  step.kind = Kind::kDigits;
  step.individual_digits = true;
  return step;
}

PreTokenizerStep ByteLevelStep(bool use_regex) {
  PreTokenizerStep step;
  step.use_regex = use_regex;
  return step;
}

class GgufReader {
 public:
  explicit GgufReader(const GgufMetadata& metadata) : metadata_(metadata) {}

  StatusOr<TokenizerSpec> Read();

 private:
  const GgufValue* Find(std::string_view key) const {
    const auto found = metadata_.find(key);
    return found == metadata_.end() ? nullptr : &found->second;
  }
  std::string Text(std::string_view key, const std::string& missing) const;
  bool Flag(std::string_view key, bool missing) const;
  StatusOr<std::optional<int32_t>> TokenId(const char* key) const;
  StatusOr<const GgufValue*> Strings(const char* key) const;
  Status ReadTokens();
  Status ReadMerges();
  Status ReadPreTokenizer();
  Status ReadConfig(const char* tokenizer_class, bool begins_unasked);
  StatusOr<SentencePieceModel> Pieces() const;
  Status ReadPieces();

  ordered_json TokenizerJson() const;
  ordered_json PreTokenizerJson() const;
  ordered_json PostProcessorJson() const;

  const GgufMetadata& metadata_;
  TokenizerSpec spec_;
  BpeSpec bpe_;
  ordered_json config_;
};

std::string GgufReader::Text(std::string_view key, const std::string& missing) const {
  const GgufValue* value = Find(key);
  const std::string* text = value != nullptr && !value->is_array ? value->String() : nullptr;
  return text != nullptr ? *text : missing;
}

bool GgufReader::Flag(std::string_view key, bool missing) const {
  const GgufValue* value = Find(key);
  return value != nullptr && !value->is_array ? value->Bool().value_or(missing) : missing;
}

StatusOr<const GgufValue*> GgufReader::Strings(const char* key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return BadData("the file has no ", key);
  if (!value->is_array || value->type != GgufType::kString) {
    return BadData(key, " is not an array of strings");
  }
  return value;
}

StatusOr<std::optional<int32_t>> GgufReader::TokenId(const char* key) const {
  const GgufValue* value = Find(key);
  if (value == nullptr) return std::optional<int32_t>();
  const auto id = value->Integer();
  if (value->is_array || !id || spec_.vocabulary.Text(*id) == nullptr) {
    return BadData(key, " names no token");
  }
  return std::optional<int32_t>(static_cast<int32_t>(*id));
}

Status GgufReader::ReadTokens() {
  QFT_ASSIGN_OR_RETURN(const GgufValue* tokens, Strings("tokenizer.ggml.tokens"));
  const GgufValue* types = Find("tokenizer.ggml.token_type");
  if (types != nullptr && (!types->is_array || types->count != tokens->count)) {
    return BadData("tokenizer.ggml.token_type does not fit tokenizer.ggml.tokens");
  }
  for (size_t id = 0; id < tokens->strings.size(); ++id) {
    const std::string& text = tokens->strings[id];
    QFT_RETURN_IF_ERROR(
        spec_.vocabulary.Add(text, static_cast<int64_t>(id), tokens->strings.size()));
    const int64_t type = types != nullptr ? types->Integer(id).value_or(0) : 0;
    if (type != kTypeControl && type != kTypeUserDefined) continue;
    AddedToken added;
    added.id = static_cast<int32_t>(id);
    added.content = text;
    added.special = type == kTypeControl;
    spec_.added_tokens.push_back(std::move(added));
  }
  return absl::OkStatus();
}

Status GgufReader::ReadMerges() {
  QFT_ASSIGN_OR_RETURN(const GgufValue* merges, Strings("tokenizer.ggml.merges"));
  bpe_.merges.reserve(merges->strings.size());
  for (const std::string& text : merges->strings) {
    const size_t space = text.find(' ');
    if (space == std::string::npos) return BadData("tokenizer.ggml.merges holds no pair");
    QFT_ASSIGN_OR_RETURN(const MergeRule rule,
                         ResolveMerge(spec_.vocabulary, text.substr(0, space),
                                      text.substr(space + 1), bpe_.merges.size()));
    bpe_.merges.push_back(rule);
  }
  return absl::OkStatus();
}

Status GgufReader::ReadPreTokenizer() {
  const std::string name = Text("tokenizer.ggml.pre", "default");
  if (name == "gpt-2") {
    bpe_.steps = {ByteLevelStep(true)};
  } else if (name == "smollm") {
    bpe_.steps = {DigitsStep(), ByteLevelStep(true)};
  } else if (name == "llama-bpe") {
    bpe_.steps = {SplitStep(kLlama3Pattern), ByteLevelStep(false)};
    bpe_.options.ignore_merges = true;
  } else if (name == "qwen2") {
    bpe_.steps = {SplitStep(kQwen2Pattern), ByteLevelStep(false)};
    bpe_.normalizer.emplace_back();  // NFC
  } else if (name == "default") {
    bpe_.steps = {SplitStep(kPunctuationPattern), ByteLevelStep(true)};
    bpe_.steps.insert(bpe_.steps.begin() + 1,
                      {SplitStep(kNumberPattern), SplitStep(kThreeDigitsPattern)});
  } else {
    return Unsupported("not supported: tokenizer.ggml.pre \"", name, "\"");
  }
  return absl::OkStatus();
}

// begins_unasked: with the token for it, where the file doesn't say.
Status GgufReader::ReadConfig(const char* tokenizer_class, bool begins_unasked) {
  config_["tokenizer_class"] = tokenizer_class;
  config_["clean_up_tokenization_spaces"] = false;
  for (const auto& [name, key] : {std::pair("bos_token", "tokenizer.ggml.bos_token_id"),
                                  std::pair("eos_token", "tokenizer.ggml.eos_token_id"),
                                  std::pair("unk_token", "tokenizer.ggml.unknown_token_id"),
                                  std::pair("pad_token", "tokenizer.ggml.padding_token_id")}) {
    QFT_ASSIGN_OR_RETURN(const std::optional<int32_t> id, TokenId(key));
    if (id) config_[name] = *spec_.vocabulary.Text(*id);
  }
  QFT_ASSIGN_OR_RETURN(spec_.end_id, TokenId("tokenizer.ggml.eos_token_id"));
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"}) {
    QFT_ASSIGN_OR_RETURN(const std::optional<int32_t> stop, TokenId(key));
    if (stop) spec_.stop_ids.push_back(*stop);
  }
  spec_.frame = {};
  if (Flag("tokenizer.ggml.add_bos_token", begins_unasked)) {
    QFT_ASSIGN_OR_RETURN(const std::optional<int32_t> begin_id,
                         TokenId("tokenizer.ggml.bos_token_id"));
    if (begin_id) spec_.frame.prefix = {*begin_id};
  }
  const std::string chat_template = Text("tokenizer.chat_template", "");
  if (!chat_template.empty()) config_["chat_template"] = chat_template;
  return absl::OkStatus();
}

ordered_json GgufReader::PreTokenizerJson() const {
  ordered_json steps = ordered_json::array();
  for (const PreTokenizerStep& step : bpe_.steps) {
    if (step.kind == Kind::kDigits) {
      steps.push_back({{"type", "Digits"}, {"individual_digits", step.individual_digits}});
    } else if (step.kind == Kind::kSplit) {
      steps.push_back({{"type", "Split"},
                       {"pattern", {{"Regex", step.pattern}}},
                       {"behavior", "Isolated"},
                       {"invert", false}});
    } else {
      steps.push_back({{"type", "ByteLevel"},
                       {"add_prefix_space", false},
                       {"trim_offsets", true},
                       {"use_regex", step.use_regex}});
    }
  }
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

ordered_json GgufReader::PostProcessorJson() const {
  if (spec_.frame.prefix.empty()) return nullptr;
  const int32_t id = spec_.frame.prefix[0];
  const std::string& text = *spec_.vocabulary.Text(id);
  const auto special = [&text](int type) {
    return ordered_json{{"SpecialToken", {{"id", text}, {"type_id", type}}}};
  };
  const auto sequence = [](const char* id, int type) {
    return ordered_json{{"Sequence", {{"id", id}, {"type_id", type}}}};
  };
  ordered_json single = ordered_json::array({special(0), sequence("A", 0)});
  ordered_json pair =
      ordered_json::array({special(0), sequence("A", 0), special(1), sequence("B", 1)});
  ordered_json token = {
      {"id", text}, {"ids", ordered_json::array({id})}, {"tokens", ordered_json::array({text})}};
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", {{text, token}}}};
}

ordered_json GgufReader::TokenizerJson() const {
  ordered_json added = ordered_json::array();
  for (const AddedToken& token : spec_.added_tokens) {
    added.push_back({{"id", token.id},
                     {"content", token.content},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", token.special}});
  }
  // Straight into the ordered map's storage: its own look-up by key is linear.
  ordered_json::object_t vocab;
  for (int64_t id = 0; id < spec_.vocabulary.size(); ++id) {
    vocab.Container::emplace_back(*spec_.vocabulary.Text(id), id);
  }
  ordered_json merges = ordered_json::array();
  for (const MergeRule& rule : bpe_.merges) {
    merges.push_back(*spec_.vocabulary.Text(rule.left) + " " + *spec_.vocabulary.Text(rule.right));
  }
  ordered_json model = {{"type", "BPE"},
                        {"dropout", nullptr},
                        {"unk_token", nullptr},
                        {"continuing_subword_prefix", nullptr},
                        {"end_of_word_suffix", nullptr},
                        {"fuse_unk", false},
                        {"byte_fallback", false},
                        {"ignore_merges", bpe_.options.ignore_merges}};
  model["vocab"] = std::move(vocab);
  model["merges"] = std::move(merges);
  const ordered_json decoder = {{"type", "ByteLevel"},
                                {"add_prefix_space", true},
                                {"trim_offsets", true},
                                {"use_regex", true}};
  const bool nfc = !bpe_.normalizer.empty();
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", added},
          {"normalizer", nfc ? ordered_json{{"type", "NFC"}} : ordered_json(nullptr)},
          {"pre_tokenizer", PreTokenizerJson()},
          {"post_processor", PostProcessorJson()},
          {"decoder", decoder},
          {"model", std::move(model)}};
}

StatusOr<SentencePieceModel> GgufReader::Pieces() const {
  QFT_ASSIGN_OR_RETURN(const GgufValue* tokens, Strings("tokenizer.ggml.tokens"));
  const GgufValue* types = Find("tokenizer.ggml.token_type");
  const GgufValue* scores = Find("tokenizer.ggml.scores");
  for (const GgufValue* values : {types, scores}) {
    if (values == nullptr || !values->is_array || values->count != tokens->count) {
      return BadData("tokenizer.ggml.", values == types ? "token_type" : "scores",
                     " does not fit tokenizer.ggml.tokens");
    }
  }
  SentencePieceModel model;
  model.algorithm = SentencePieceModel::Algorithm::kBpe;
  for (size_t id = 0; id < tokens->strings.size(); ++id) {
    const int64_t type = types->Integer(id).value_or(0);
    if (type < 1 || type > static_cast<int64_t>(SentencePieceModel::Type::kByte)) {
      return BadData("tokenizer.ggml.token_type of token ", id, " is ", type);
    }
    const auto score = static_cast<float>(scores->Number(id).value_or(0));
    model.pieces.push_back(
        {tokens->strings[id], score, static_cast<SentencePieceModel::Type>(type)});
    if (model.pieces.back().type == SentencePieceModel::Type::kByte) model.byte_fallback = true;
  }
  model.add_dummy_prefix = Flag("tokenizer.ggml.add_space_prefix", true);
  model.remove_extra_whitespaces = Flag("tokenizer.ggml.remove_extra_whitespaces", false);
  return model;
}

// The export is a tokenizer.model again: a tokenizer.json knows no scores.
Status GgufReader::ReadPieces() {
  QFT_ASSIGN_OR_RETURN(SentencePieceModel model, Pieces());
  QFT_RETURN_IF_ERROR(CheckSentencePieceModel(model));
  const std::string bytes = WriteSentencePieceModel(model);
  QFT_ASSIGN_OR_RETURN(spec_, SpecOfSentencePieces(std::move(model)));
  const std::optional<int32_t> models_own = spec_.end_id;
  QFT_RETURN_IF_ERROR(ReadConfig("LlamaTokenizer", /*begins_unasked=*/true));
  if (!spec_.end_id) spec_.end_id = models_own;
  config_["legacy"] = true;
  config_["add_bos_token"] = !spec_.frame.prefix.empty();
  config_["add_eos_token"] = Flag("tokenizer.ggml.add_eos_token", false);
  if (config_["add_eos_token"] == true && spec_.end_id) spec_.frame.suffix = {*spec_.end_id};
  spec_.files.emplace_back("tokenizer.model", bytes);
  spec_.files.emplace_back("tokenizer_config.json",
                           config_.dump(2, ' ', false, kReplaceInvalid) + "\n");
  return absl::OkStatus();
}

StatusOr<TokenizerSpec> GgufReader::Read() {
  const std::string model = Text("tokenizer.ggml.model", "");
  if (model.empty()) return BadData("the file holds no tokenizer");
  if (model == "llama") {
    QFT_RETURN_IF_ERROR(ReadPieces());
    return std::move(spec_);
  }
  if (model != "gpt2") {
    return Unsupported("not supported: tokenizer.ggml.model \"", model,
                       "\" (\"gpt2\" and \"llama\" are)");
  }
  QFT_RETURN_IF_ERROR(ReadPreTokenizer());
  QFT_RETURN_IF_ERROR(ReadTokens());
  QFT_RETURN_IF_ERROR(ReadMerges());
  QFT_RETURN_IF_ERROR(ReadConfig("PreTrainedTokenizerFast", /*begins_unasked=*/false));
  spec_.files.emplace_back("tokenizer.json",
                           TokenizerJson().dump(1, ' ', false, kReplaceInvalid) + "\n");
  spec_.files.emplace_back("tokenizer_config.json",
                           config_.dump(2, ' ', false, kReplaceInvalid) + "\n");
  spec_.encoder = std::move(bpe_);
  return std::move(spec_);
}

}  // namespace

StatusOr<TokenizerSpec> ReadTokenizerGguf(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const GgufFile file, OpenGguf(fs, path));
  return GgufReader(file.metadata).Read();
}

}  // namespace qft
