#include <algorithm>
#include <initializer_list>

#include "runtime/data/json.h"
#include "runtime/data/text/tokenizer_spec.h"

namespace qft {
namespace {

using nlohmann::json;
using Kind = PreTokenizerStep::Kind;

constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;

template <typename... Args>
Status Refuse(const Args&... what) {
  return Unsupported("not supported: ", what...);
}

// Typed access to one JSON object; `what` names it in errors.
class Object {
 public:
  static StatusOr<Object> Of(const json& value, std::string what) {
    if (!value.is_object()) return BadData(what, " is not an object");
    return Object(value, std::move(what));
  }

  // nullptr when the key is missing or null.
  const json* Find(const char* key) const {
    const auto found = value_->find(key);
    return found == value_->end() || found->is_null() ? nullptr : &*found;
  }
  StatusOr<std::string> String(const char* key, const std::string& missing) const {
    const json* value = Find(key);
    if (value == nullptr) return missing;
    if (!value->is_string()) return BadData(what_, ".", key, " is not a string");
    return value->get<std::string>();
  }
  StatusOr<bool> Bool(const char* key, bool missing) const {
    const json* value = Find(key);
    if (value == nullptr) return missing;
    if (!value->is_boolean()) return BadData(what_, ".", key, " is not a boolean");
    return value->get<bool>();
  }
  // A key outside of `known` might change the ids.
  Status CheckKeys(std::initializer_list<std::string_view> known) const {
    for (const auto& [key, unused] : value_->items()) {
      if (std::find(known.begin(), known.end(), key) == known.end()) {
        return Refuse(what_, ".", key);
      }
    }
    return absl::OkStatus();
  }
  const std::string& what() const { return what_; }

 private:
  Object(const json& value, std::string what) : value_(&value), what_(std::move(what)) {}

  const json* value_;
  std::string what_;
};

StatusOr<int64_t> IntegerOf(const json& value, const std::string& what) {
  if (!value.is_number_integer() || value > json(INT32_MAX) || value < json(0)) {
    return BadData(what, " is not a token id");
  }
  return value.get<int64_t>();
}

// ---- normalizer ---------------------------------------------------------------------------------

Status ReadNormalizer(const json& value, std::vector<NormalForm>* forms) {
  QFT_ASSIGN_OR_RETURN(const Object object, Object::Of(value, "normalizer"));
  QFT_ASSIGN_OR_RETURN(const std::string type, object.String("type", ""));
  if (type == "Sequence") {
    const json* parts = object.Find("normalizers");
    if (parts == nullptr || !parts->is_array()) return BadData("normalizer.normalizers");
    for (const json& part : *parts) QFT_RETURN_IF_ERROR(ReadNormalizer(part, forms));
    return absl::OkStatus();
  }
  for (const auto& [name, form] :
       {std::pair("NFC", NormalForm::kNfc), std::pair("NFD", NormalForm::kNfd),
        std::pair("NFKC", NormalForm::kNfkc), std::pair("NFKD", NormalForm::kNfkd)}) {
    if (type == name) {
      forms->push_back(form);
      return absl::OkStatus();
    }
  }
  return Refuse("normalizer \"", type, "\"");
}

// ---- pre-tokenizer ------------------------------------------------------------------------------

StatusOr<SplitBehavior> BehaviorOf(const std::string& name) {
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return Refuse("pre_tokenizer Split with behavior \"", name, "\"");
}

StatusOr<PreTokenizerStep> ReadSplit(const Object& object) {
  PreTokenizerStep step;
  step.kind = Kind::kSplit;
  QFT_RETURN_IF_ERROR(object.CheckKeys({"type", "pattern", "behavior", "invert"}));
  QFT_ASSIGN_OR_RETURN(const std::string behavior, object.String("behavior", ""));
  QFT_ASSIGN_OR_RETURN(step.behavior, BehaviorOf(behavior));
  QFT_ASSIGN_OR_RETURN(step.invert, object.Bool("invert", false));
  const json* pattern = object.Find("pattern");
  if (pattern == nullptr) return BadData("pre_tokenizer Split has no pattern");
  QFT_ASSIGN_OR_RETURN(const Object fields, Object::Of(*pattern, "pre_tokenizer.pattern"));
  QFT_RETURN_IF_ERROR(fields.CheckKeys({"Regex", "String"}));
  step.literal = fields.Find("String") != nullptr;
  QFT_ASSIGN_OR_RETURN(step.pattern, fields.String(step.literal ? "String" : "Regex", ""));
  if (step.pattern.empty()) return BadData("pre_tokenizer Split has an empty pattern");
  return step;
}

StatusOr<PreTokenizerStep> ReadStep(const Object& object, const std::string& type) {
  PreTokenizerStep step;
  if (type == "Split") return ReadSplit(object);
  if (type == "Digits") {
    step.kind = Kind::kDigits;
    QFT_RETURN_IF_ERROR(object.CheckKeys({"type", "individual_digits"}));
    QFT_ASSIGN_OR_RETURN(step.individual_digits, object.Bool("individual_digits", false));
    return step;
  }
  if (type == "ByteLevel") {
    QFT_RETURN_IF_ERROR(
        object.CheckKeys({"type", "add_prefix_space", "trim_offsets", "use_regex"}));
    QFT_ASSIGN_OR_RETURN(step.add_prefix_space, object.Bool("add_prefix_space", true));
    QFT_ASSIGN_OR_RETURN(step.use_regex, object.Bool("use_regex", true));
    return step;
  }
  return Refuse("pre_tokenizer \"", type, "\"");
}

Status ReadSteps(const json& value, std::vector<PreTokenizerStep>* steps) {
  QFT_ASSIGN_OR_RETURN(const Object object, Object::Of(value, "pre_tokenizer"));
  QFT_ASSIGN_OR_RETURN(const std::string type, object.String("type", ""));
  if (type != "Sequence") {
    QFT_ASSIGN_OR_RETURN(PreTokenizerStep step, ReadStep(object, type));
    steps->push_back(std::move(step));
    return absl::OkStatus();
  }
  const json* parts = object.Find("pretokenizers");
  if (parts == nullptr || !parts->is_array()) return BadData("pre_tokenizer.pretokenizers");
  for (const json& part : *parts) QFT_RETURN_IF_ERROR(ReadSteps(part, steps));
  return absl::OkStatus();
}

Status ReadPreTokenizer(const Object& root, std::vector<PreTokenizerStep>* steps) {
  const json* value = root.Find("pre_tokenizer");
  if (value == nullptr) return Refuse("a tokenizer without pre_tokenizer (not byte-level)");
  QFT_RETURN_IF_ERROR(ReadSteps(*value, steps));
  for (size_t i = 0; i < steps->size(); ++i) {
    const bool is_last = i + 1 == steps->size();
    if (((*steps)[i].kind == Kind::kByteLevel) != is_last) {
      return Refuse("a pre_tokenizer that does not end with its only ByteLevel");
    }
  }
  if (steps->empty()) return Refuse("an empty pre_tokenizer");
  return absl::OkStatus();
}

// ---- model --------------------------------------------------------------------------------------

Status ReadVocabulary(const Object& model, Vocabulary* vocabulary) {
  const json* vocab = model.Find("vocab");
  if (vocab == nullptr || !vocab->is_object()) return BadData("model.vocab is not an object");
  for (const auto& [text, id] : vocab->items()) {
    QFT_ASSIGN_OR_RETURN(const int64_t number, IntegerOf(id, "model.vocab: " + text));
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

Status ReadMerges(const Object& model, TokenizerSpec* spec) {
  const json* merges = model.Find("merges");
  if (merges == nullptr || !merges->is_array()) return BadData("model.merges is not an array");
  spec->merges.reserve(merges->size());
  for (const json& merge : *merges) {
    QFT_ASSIGN_OR_RETURN(const auto pair, ReadMerge(merge));
    QFT_ASSIGN_OR_RETURN(const MergeRule rule,
                         ResolveMerge(spec->vocabulary, pair.first, pair.second));
    spec->merges.push_back(rule);
  }
  return absl::OkStatus();
}

Status CheckModel(const Object& model) {
  QFT_ASSIGN_OR_RETURN(const std::string type, model.String("type", "BPE"));
  if (type != "BPE") return Refuse("model \"", type, "\" (byte-level BPE is)");
  QFT_RETURN_IF_ERROR(model.CheckKeys({"type", "dropout", "unk_token", "continuing_subword_prefix",
                                       "end_of_word_suffix", "fuse_unk", "byte_fallback",
                                       "ignore_merges", "vocab", "merges"}));
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    QFT_ASSIGN_OR_RETURN(const std::string value, model.String(key, ""));
    if (!value.empty()) return Refuse("model.", key, " \"", value, "\"");
  }
  QFT_ASSIGN_OR_RETURN(const bool byte_fallback, model.Bool("byte_fallback", false));
  if (byte_fallback) return Refuse("model.byte_fallback");
  const json* dropout = model.Find("dropout");
  if (dropout != nullptr && *dropout != 0) return Refuse("model.dropout");
  return absl::OkStatus();
}

Status ReadModel(const Object& root, TokenizerSpec* spec) {
  const json* value = root.Find("model");
  if (value == nullptr) return BadData("there is no model");
  QFT_ASSIGN_OR_RETURN(const Object model, Object::Of(*value, "model"));
  QFT_RETURN_IF_ERROR(CheckModel(model));
  QFT_RETURN_IF_ERROR(ReadVocabulary(model, &spec->vocabulary));
  QFT_RETURN_IF_ERROR(ReadMerges(model, spec));
  QFT_ASSIGN_OR_RETURN(spec->bpe.ignore_merges, model.Bool("ignore_merges", false));
  QFT_ASSIGN_OR_RETURN(spec->bpe.fuse_unknown, model.Bool("fuse_unk", false));
  if (model.Find("unk_token") != nullptr) {
    QFT_ASSIGN_OR_RETURN(const std::string unknown, model.String("unk_token", ""));
    const auto id = spec->vocabulary.Find(unknown);
    if (!id) return BadData("model.unk_token \"", unknown, "\" is not in the vocabulary");
    spec->bpe.unknown_id = *id;
  }
  return absl::OkStatus();
}

// ---- added tokens -------------------------------------------------------------------------------

StatusOr<AddedToken> ReadAddedToken(const json& value) {
  AddedToken token;
  QFT_ASSIGN_OR_RETURN(const Object object, Object::Of(value, "added_tokens[]"));
  QFT_RETURN_IF_ERROR(object.CheckKeys(
      {"id", "content", "special", "normalized", "single_word", "lstrip", "rstrip"}));
  const json* id = object.Find("id");
  if (id == nullptr) return BadData("an added token has no id");
  QFT_ASSIGN_OR_RETURN(const int64_t number, IntegerOf(*id, "added_tokens[].id"));
  token.id = static_cast<int32_t>(number);
  QFT_ASSIGN_OR_RETURN(token.content, object.String("content", ""));
  if (token.content.empty()) return BadData("the added token ", token.id, " has no content");
  QFT_ASSIGN_OR_RETURN(token.special, object.Bool("special", false));
  QFT_ASSIGN_OR_RETURN(token.normalized, object.Bool("normalized", !token.special));
  QFT_ASSIGN_OR_RETURN(token.single_word, object.Bool("single_word", false));
  QFT_ASSIGN_OR_RETURN(token.lstrip, object.Bool("lstrip", false));
  QFT_ASSIGN_OR_RETURN(token.rstrip, object.Bool("rstrip", false));
  return token;
}

Status ReadAddedTokens(const Object& root, TokenizerSpec* spec) {
  const json* list = root.Find("added_tokens");
  if (list == nullptr) return absl::OkStatus();
  if (!list->is_array()) return BadData("added_tokens is not an array");
  const size_t expected = static_cast<size_t>(spec->vocabulary.size()) + list->size();
  for (const json& value : *list) {
    QFT_ASSIGN_OR_RETURN(const AddedToken token, ReadAddedToken(value));
    if (spec->vocabulary.Find(token.content) != token.id) {
      QFT_RETURN_IF_ERROR(spec->vocabulary.Add(token.content, token.id, expected));
    }
    spec->added_tokens.push_back(token);
  }
  return absl::OkStatus();
}

Status CheckDecoder(const Object& root) {
  const json* value = root.Find("decoder");
  if (value == nullptr) return absl::OkStatus();
  QFT_ASSIGN_OR_RETURN(const Object decoder, Object::Of(*value, "decoder"));
  QFT_ASSIGN_OR_RETURN(const std::string type, decoder.String("type", ""));
  return type == "ByteLevel" ? absl::OkStatus() : Refuse("decoder \"", type, "\"");
}

// ---- files beside tokenizer.json ----------------------------------------------------------------

// The id that `value` of "eos_token" or "eos_token_id" names: a text, an object with its content,
// an id, or a list of ids whose first counts.
std::optional<int32_t> EndTokenOf(const Vocabulary& vocabulary, const json& value) {
  if (value.is_string()) return vocabulary.Find(value.get_ref<const std::string&>());
  if (value.is_object() && value.contains("content")) {
    return EndTokenOf(vocabulary, value["content"]);
  }
  if (value.is_array() && !value.empty() && !value[0].is_array()) {
    return EndTokenOf(vocabulary, value[0]);
  }
  if (!value.is_number_integer() || value < json(0) || value >= json(vocabulary.size())) {
    return std::nullopt;
  }
  const auto id = value.get<int32_t>();
  if (vocabulary.Text(id) == nullptr) return std::nullopt;  // ids may have holes
  return id;
}

// The content of an optional file.
StatusOr<std::optional<std::string>> ReadBeside(FileSystem& fs, const std::string& folder,
                                                const std::string& name) {
  const std::string path = JoinPath(folder, name);
  QFT_ASSIGN_OR_RETURN(const bool exists, fs.Exists(path));
  if (!exists) return std::optional<std::string>();
  QFT_ASSIGN_OR_RETURN(std::string text, ReadWholeFile(fs, path, kMaxFileBytes));
  return std::optional<std::string>(std::move(text));
}

struct FileBeside {
  const char* name;
  const char* end_key;  // nullptr: nothing to learn there
  bool exported;
};

constexpr char kConfigName[] = "tokenizer_config.json";
constexpr FileBeside kFilesBeside[] = {
    {kConfigName, "eos_token", true},
    {"special_tokens_map.json", "eos_token", true},
    {"chat_template.jinja", nullptr, true},
    {"config.json", "eos_token_id", false},
};

Status ReadFilesBeside(FileSystem& fs, const std::string& folder, TokenizerSpec* spec) {
  for (const FileBeside& file : kFilesBeside) {
    QFT_ASSIGN_OR_RETURN(auto text, ReadBeside(fs, folder, file.name));
    if (!text) continue;
    if (file.end_key != nullptr) {
      QFT_ASSIGN_OR_RETURN(const json value, ParseJson(*text, file.name));
      QFT_ASSIGN_OR_RETURN(const Object object, Object::Of(value, file.name));
      const json* end = object.Find(file.end_key);
      if (end != nullptr && !spec->end_id) spec->end_id = EndTokenOf(spec->vocabulary, *end);
    }
    if (file.exported) spec->files.emplace_back(file.name, *std::move(text));
  }
  return absl::OkStatus();
}

// Without the file, transformers would guess the tokenizer's class from the model's family.
void AddMissingConfig(TokenizerSpec* spec) {
  for (const auto& [name, text] : spec->files) {
    if (name == kConfigName) return;
  }
  json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"clean_up_tokenization_spaces", false}};
  if (spec->end_id) config["eos_token"] = *spec->vocabulary.Text(*spec->end_id);
  spec->files.emplace_back(kConfigName, config.dump(2) + "\n");
}

}  // namespace

StatusOr<TokenizerSpec> ParseTokenizerJson(const std::string& text, const std::string& what) {
  QFT_ASSIGN_OR_RETURN(const json value, ParseJson(text, what));
  QFT_ASSIGN_OR_RETURN(const Object root, Object::Of(value, what));
  QFT_RETURN_IF_ERROR(
      root.CheckKeys({"version", "truncation", "padding", "added_tokens", "normalizer",
                      "pre_tokenizer", "post_processor", "decoder", "model"}));
  TokenizerSpec spec;
  QFT_RETURN_IF_ERROR(ReadModel(root, &spec));
  QFT_RETURN_IF_ERROR(ReadAddedTokens(root, &spec));
  if (const json* normalizer = root.Find("normalizer")) {
    QFT_RETURN_IF_ERROR(ReadNormalizer(*normalizer, &spec.normal_forms));
  }
  QFT_RETURN_IF_ERROR(ReadPreTokenizer(root, &spec.steps));
  QFT_RETURN_IF_ERROR(CheckDecoder(root));
  spec.files.emplace_back("tokenizer.json", text);
  return spec;
}

StatusOr<TokenizerSpec> ReadTokenizerJson(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const std::string text, ReadWholeFile(fs, path, kMaxFileBytes));
  QFT_ASSIGN_OR_RETURN(TokenizerSpec spec, ParseTokenizerJson(text, "tokenizer.json"));
  QFT_RETURN_IF_ERROR(ReadFilesBeside(fs, ParentPath(path), &spec));
  AddMissingConfig(&spec);
  return spec;
}

}  // namespace qft
