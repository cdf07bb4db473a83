#include "runtime/data/text/tokenizer_files.h"

#include <utility>

#include "runtime/data/text/json_object.h"

namespace qft {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxFileBytes = uint64_t{256} << 20;

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

// A model may have several: the first ends its texts, each ends an answer.
void AddEndTokens(const json& value, TokenizerSpec* spec) {
  if (!spec->end_id) spec->end_id = EndTokenOf(spec->vocabulary, value);
  for (const json& id : value.is_array() ? value : json::array({value})) {
    const auto stop = id.is_number() ? EndTokenOf(spec->vocabulary, id) : std::nullopt;
    if (stop) spec->stop_ids.push_back(*stop);
  }
}

struct FileBeside {
  const char* name;
  const char* end_key;  // nullptr: nothing to learn there
  bool exported;
};

constexpr FileBeside kFilesBeside[] = {
    {kTokenizerConfigName, "eos_token", true},
    {"special_tokens_map.json", "eos_token", true},
    {"chat_template.jinja", nullptr, true},
    {"config.json", "eos_token_id", false},
    {"generation_config.json", "eos_token_id", true},
};

}  // namespace

StatusOr<std::optional<std::string>> ReadBeside(FileSystem& fs, const std::string& folder,
                                                const std::string& name) {
  const std::string path = JoinPath(folder, name);
  QFT_ASSIGN_OR_RETURN(const bool exists, fs.Exists(path));
  if (!exists) return std::optional<std::string>();
  QFT_ASSIGN_OR_RETURN(std::string text, ReadWholeFile(fs, path, kMaxFileBytes));
  return std::optional<std::string>(std::move(text));
}

Status ReadFilesBeside(FileSystem& fs, const std::string& folder, TokenizerSpec* spec) {
  for (const FileBeside& file : kFilesBeside) {
    QFT_ASSIGN_OR_RETURN(auto text, ReadBeside(fs, folder, file.name));
    if (!text) continue;
    if (file.end_key != nullptr) {
      QFT_ASSIGN_OR_RETURN(const json value, ParseJson(*text, file.name));
      QFT_ASSIGN_OR_RETURN(const Object object, Object::Of(value, file.name));
      const json* end = object.Find(file.end_key);
      if (end != nullptr) AddEndTokens(*end, spec);
    }
    if (file.exported) spec->files.emplace_back(file.name, *std::move(text));
  }
  return absl::OkStatus();
}

void AddMissingConfig(const char* tokenizer_class, TokenizerSpec* spec) {
  for (const auto& [name, text] : spec->files) {
    if (name == kTokenizerConfigName) return;
  }
  json config = {{"tokenizer_class", tokenizer_class}, {"clean_up_tokenization_spaces", false}};
  if (spec->end_id) config["eos_token"] = *spec->vocabulary.Text(*spec->end_id);
  spec->files.emplace_back(kTokenizerConfigName, config.dump(2) + "\n");
}

}  // namespace qft
