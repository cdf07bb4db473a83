#include "runtime/data/text/chat_template.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_join.h"
#include "runtime/data/json.h"
#include "runtime/data/text/chat_family.h"

namespace qft {
namespace {

using nlohmann::json;

constexpr char kTemplateFile[] = "chat_template.jinja";
constexpr char kConfigFile[] = "tokenizer_config.json";
constexpr char kSpecialFile[] = "special_tokens_map.json";

const std::string* FindFile(const Tokenizer& tokenizer, const char* name) {
  for (const auto& [file, content] : tokenizer.files()) {
    if (file == name) return &content;
  }
  return nullptr;
}

// A file of the tokenizer as a JSON object; an empty one where there is none.
StatusOr<json> ReadObject(const Tokenizer& tokenizer, const char* name) {
  const std::string* text = FindFile(tokenizer, name);
  if (text == nullptr) return json::object();
  QFT_ASSIGN_OR_RETURN(json value, ParseJson(*text, name));
  if (!value.is_object()) return BadData(name, " is not a JSON object");
  return value;
}

// "bos_token" and "eos_token" are strings, or objects with their content.
std::optional<std::string> TokenText(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) return std::nullopt;
  if (found->is_string()) return found->get<std::string>();
  if (found->is_object() && found->contains("content") && (*found)["content"].is_string()) {
    return (*found)["content"].get<std::string>();
  }
  return std::nullopt;
}

StatusOr<std::string> SpecialToken(const Tokenizer& tokenizer, const char* key) {
  for (const char* file : {kConfigFile, kSpecialFile}) {
    QFT_ASSIGN_OR_RETURN(const json object, ReadObject(tokenizer, file));
    if (const auto text = TokenText(object, key)) return *text;
  }
  return std::string();
}

// The text of the template: chat_template.jinja, or "chat_template" of tokenizer_config.json, which
// may be a list of named ones.
StatusOr<std::string> TemplateText(const Tokenizer& tokenizer) {
  if (const std::string* text = FindFile(tokenizer, kTemplateFile)) return *text;
  QFT_ASSIGN_OR_RETURN(const json config, ReadObject(tokenizer, kConfigFile));
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return std::string();
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array()) {
    for (const json& entry : *found) {
      if (entry.is_object() && entry.value("name", json()) == "default" &&
          entry.value("template", json()).is_string()) {
        return entry["template"].get<std::string>();
      }
    }
  }
  return BadData(kConfigFile,
                 ": \"chat_template\" is neither a string nor a list with \"default\"");
}

const ChatFamily* FindFamily(std::string_view name) {
  for (const ChatFamily& family : ChatFamilies()) {
    if (name == family.name) return &family;
  }
  return nullptr;
}

StatusOr<const ChatFamily*> ChooseFamily(const Tokenizer& tokenizer, const std::string& name) {
  if (!name.empty()) {
    if (const ChatFamily* family = FindFamily(name)) return family;
    return Unsupported("there is no chat template '", name, "'; --chat-template takes ",
                       ChatTemplate::Names());
  }
  QFT_ASSIGN_OR_RETURN(const std::string text, TemplateText(tokenizer));
  if (text.empty()) {
    return Unsupported("the model has no chat template; --chat-template names one: ",
                       ChatTemplate::Names());
  }
  const char* recognized = RecognizeChatTemplate(text);
  if (recognized == nullptr) {
    return Unsupported(
        "the model's chat template (hash ", ChatTemplateHash(text),
        ") is none that is known; --chat-template names one to use: ", ChatTemplate::Names());
  }
  return FindFamily(recognized);
}

Status CheckRoles(const ChatFamily& family, const std::vector<ChatMessage>& messages) {
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string& role = messages[i].role;
    const bool has_system = family.order != ChatOrder::kAlternatingWithoutSystem;
    if (role == "user" || role == "assistant" || (role == "system" && has_system) ||
        (role == "tool" && family.has_tool)) {
      continue;
    }
    return BadData("messages[", i, "]: the chat template ", family.name, " has no role '", role,
                   "'; it has ", has_system ? "system, " : "", "user, assistant",
                   family.has_tool ? ", tool" : "");
  }
  return absl::OkStatus();
}

Status CheckOrder(const ChatFamily& family, const std::vector<ChatMessage>& messages) {
  if (family.order == ChatOrder::kAny) return absl::OkStatus();
  const size_t first = messages.front().role == "system" ? 1 : 0;
  if (messages.size() == first) return BadData("there is no message besides the system prompt");
  for (size_t i = first; i < messages.size(); ++i) {
    const char* expected = (i - first) % 2 == 0 ? "user" : "assistant";
    if (messages[i].role == expected) continue;
    return BadData("messages[", i, "]: the role is '", messages[i].role, "'; the chat template ",
                   family.name, " has user and assistant in turn, '", expected, "' here");
  }
  return absl::OkStatus();
}

}  // namespace

std::string ChatTemplate::Names() {
  return absl::StrJoin(ChatFamilies(), ", ", [](std::string* out, const ChatFamily& family) {
    out->append(family.name);
  });
}

StatusOr<ChatTemplate> ChatTemplate::Create(const Tokenizer& tokenizer, const std::string& name,
                                            const std::string& date) {
  QFT_ASSIGN_OR_RETURN(const ChatFamily* family, ChooseFamily(tokenizer, name));
  QFT_ASSIGN_OR_RETURN(std::string begin, SpecialToken(tokenizer, "bos_token"));
  if (begin.empty() && !tokenizer.frame().prefix.empty()) {
    QFT_ASSIGN_OR_RETURN(begin, tokenizer.Bytes(tokenizer.frame().prefix.front()));
  }
  QFT_ASSIGN_OR_RETURN(std::string end, SpecialToken(tokenizer, "eos_token"));
  if (family->needs_begin && begin.empty()) {
    return BadData("the chat template ", family->name,
                   " needs a bos_token, the tokenizer has none");
  }
  if (end.empty() && tokenizer.end_id()) {
    QFT_ASSIGN_OR_RETURN(end, tokenizer.Bytes(*tokenizer.end_id()));
  }
  if (family->end_of_turn == nullptr && end.empty()) {
    return BadData("the chat template ", family->name,
                   " needs an eos_token, the tokenizer has none");
  }
  return ChatTemplate(family, begin, end, date.empty() ? kDefaultDate : date);
}

const char* ChatTemplate::name() const {
  return family_->name;
}

std::string ChatTemplate::EndOfTurn() const {
  return family_->end_of_turn != nullptr ? family_->end_of_turn : end_;
}

StatusOr<RenderedChat> ChatTemplate::Render(const std::vector<ChatMessage>& messages,
                                            bool generation_prompt) const {
  if (messages.empty()) return BadData("the conversation has no message");
  QFT_RETURN_IF_ERROR(CheckRoles(*family_, messages));
  QFT_RETURN_IF_ERROR(CheckOrder(*family_, messages));
  ChatWriter writer;
  family_->write({*family_, begin_, end_, date_, messages, generation_prompt}, &writer);
  return writer.Take();
}

}  // namespace qft
