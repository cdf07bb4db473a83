#include "runtime/data/text/record.h"

#include <optional>

#include "absl/strings/str_join.h"
#include "runtime/data/json.h"
#include "runtime/data/text/unicode.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace qft {
namespace {

using nlohmann::json;

struct FormEntry {
  RecordForm form;
  const char* name;
  const char* fields;
  const char* first;   // the record has the form if it has either field
  const char* second;  // nullptr: there is one only
};

constexpr FormEntry kForms[] = {
    {RecordForm::kText, "text", "\"text\"", "text", nullptr},
    {RecordForm::kPromptCompletion, "prompt-completion", "\"prompt\" and \"completion\"", "prompt",
     "completion"},
    {RecordForm::kAlpaca, "alpaca", "\"instruction\" and \"output\"", "instruction", nullptr},
    {RecordForm::kMessages, "messages", "\"messages\"", "messages", nullptr},
    {RecordForm::kShareGpt, "sharegpt", "\"conversations\"", "conversations", nullptr},
};

std::string Quoted(const std::string& text) {
  constexpr size_t kLongest = 40;
  std::string shown = text.size() <= kLongest ? text : text.substr(0, kLongest) + "...";
  return json(std::move(shown)).dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string FoundFields(const json& object) {
  constexpr size_t kMost = 12;
  if (object.empty()) return "it has no fields";
  std::vector<std::string> names;
  for (const auto& item : object.items()) {
    if (names.size() < kMost) names.push_back(Quoted(item.key()));
  }
  return absl::StrCat("it has ", absl::StrJoin(names, ", "),
                      object.size() > kMost ? " and more" : "");
}

StatusOr<std::string> StringOf(const json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end()) {
    return BadData("there is no \"", key, "\"; ", FoundFields(object));
  }
  if (!found->is_string()) return BadData("\"", key, "\" is not a string");
  return found->get<std::string>();
}

bool IsSet(const json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && !found->is_null() && !found->empty() && *found != json("");
}

// kUnsupported if a field is set that would change the document.
Status RefuseFields(const json& object, std::initializer_list<const char*> keys, const char* why) {
  for (const char* key : keys) {
    if (IsSet(object, key)) return Unsupported("\"", key, "\" is not supported: ", why);
  }
  return absl::OkStatus();
}

StatusOr<RecordForm> Recognize(const json& object) {
  std::vector<const FormEntry*> found;
  for (const FormEntry& entry : kForms) {
    if (object.contains(entry.first) ||
        (entry.second != nullptr && object.contains(entry.second))) {
      found.push_back(&entry);
    }
  }
  if (found.size() == 1) return found.front()->form;
  const std::string forms =
      absl::StrJoin(kForms, ", ", [](std::string* out, const FormEntry& entry) {
        absl::StrAppend(out, entry.name, " (", entry.fields, ")");
      });
  if (found.empty()) {
    return BadData("the record has no known form; ", FoundFields(object), "; forms are ", forms);
  }
  return BadData("the record may have the form ", found[0]->name, " or ", found[1]->name, "; ",
                 FoundFields(object), "; --data-form names the one to take");
}

// ---- texts with and without a prompt ------------------------------------------------------------

StatusOr<Record> ReadText(const json& object) {
  Record record;
  QFT_ASSIGN_OR_RETURN(record.text, StringOf(object, "text"));
  if (record.text.empty()) return BadData("\"text\" is empty");
  return record;
}

StatusOr<Record> ReadPromptCompletion(const json& object) {
  Record record;
  record.has_prompt = true;
  record.prompt_has_special = true;
  QFT_ASSIGN_OR_RETURN(record.prompt, StringOf(object, "prompt"));
  QFT_ASSIGN_OR_RETURN(record.text, StringOf(object, "completion"));
  if (record.prompt.empty() && record.text.empty()) {
    return BadData("\"prompt\" and \"completion\" are empty");
  }
  return record;
}

StatusOr<Record> ReadAlpaca(const json& object) {
  Record record;
  record.has_prompt = true;
  QFT_RETURN_IF_ERROR(
      RefuseFields(object, {"system", "history"}, "Alpaca's prompt has no place for it"));
  QFT_ASSIGN_OR_RETURN(const std::string instruction, StringOf(object, "instruction"));
  QFT_ASSIGN_OR_RETURN(record.text, StringOf(object, "output"));
  std::string input;
  if (object.contains("input") && !object["input"].is_null()) {
    QFT_ASSIGN_OR_RETURN(input, StringOf(object, "input"));
  }
  if (instruction.empty()) return BadData("\"instruction\" is empty");
  if (record.text.empty()) return BadData("\"output\" is empty");
  const std::string middle = absl::StrCat("### Instruction:\n", instruction, "\n\n");
  record.prompt =
      input.empty()
          ? absl::StrCat(
                "Below is an instruction that describes a task. Write a response that "
                "appropriately completes the request.\n\n",
                middle, "### Response:\n")
          : absl::StrCat(
                "Below is an instruction that describes a task, paired with an input that "
                "provides further context. Write a response that appropriately completes "
                "the request.\n\n",
                middle, "### Input:\n", input, "\n\n### Response:\n");
  return record;
}

// ---- conversations ------------------------------------------------------------------------------

constexpr char kNoTools[] = "calls of tools are not rendered";

// Whether what the assistant says is learnt: "weight" is 0 or 1, "train" true or false.
StatusOr<bool> IsLearnt(const json& object, const std::string& role) {
  bool learnt = true;
  for (const char* key : {"weight", "train"}) {
    const auto found = object.find(key);
    if (found == object.end() || found->is_null()) continue;
    const bool yes = *found == 1 || *found == true;
    if (!yes && *found != 0 && *found != false) {
      return BadData("\"", key, "\" is ", Quoted(found->dump()), ", must be 0 or 1");
    }
    if (yes && role != "assistant") {
      return Unsupported("\"", key, "\" is set, but of role '", role, "' nothing is learnt");
    }
    learnt = learnt && yes;
  }
  return learnt;
}

StatusOr<ChatMessage> ReadMessage(const json& object) {
  QFT_RETURN_IF_ERROR(RefuseFields(object, {"tool_calls", "function_call"}, kNoTools));
  ChatMessage message;
  QFT_ASSIGN_OR_RETURN(message.role, StringOf(object, "role"));
  QFT_ASSIGN_OR_RETURN(message.content, StringOf(object, "content"));
  const auto reasoning = object.find("reasoning_content");
  if (reasoning != object.end() && !reasoning->is_null()) {
    QFT_ASSIGN_OR_RETURN(message.reasoning, StringOf(object, "reasoning_content"));
    message.has_reasoning = true;
  }
  QFT_ASSIGN_OR_RETURN(message.learnt, IsLearnt(object, message.role));
  return message;
}

StatusOr<std::string> ShareGptRole(const std::string& from) {
  static constexpr const char* kRoles[][2] = {
      {"human", "user"},          {"user", "user"},         {"gpt", "assistant"},
      {"assistant", "assistant"}, {"chatgpt", "assistant"}, {"system", "system"},
      {"tool", "tool"},           {"observation", "tool"},
  };
  for (const auto& [name, role] : kRoles) {
    if (from == name) return std::string(role);
  }
  return BadData("\"from\" is ", Quoted(from),
                 ", must be system, human, user, gpt, assistant, chatgpt, tool or observation");
}

StatusOr<ChatMessage> ReadTurn(const json& object) {
  ChatMessage message;
  QFT_ASSIGN_OR_RETURN(const std::string from, StringOf(object, "from"));
  QFT_ASSIGN_OR_RETURN(message.role, ShareGptRole(from));
  QFT_ASSIGN_OR_RETURN(message.content, StringOf(object, "value"));
  QFT_ASSIGN_OR_RETURN(message.learnt, IsLearnt(object, message.role));
  return message;
}

// The system prompt that some data sets have beside the list of messages.
Status ReadSystem(const json& object, std::vector<ChatMessage>* messages) {
  if (!IsSet(object, "system")) return absl::OkStatus();
  ChatMessage message;
  message.role = "system";
  QFT_ASSIGN_OR_RETURN(message.content, StringOf(object, "system"));
  messages->push_back(std::move(message));
  return absl::OkStatus();
}

StatusOr<Record> ReadConversation(const json& object, const char* key,
                                  StatusOr<ChatMessage> (*read)(const json&)) {
  QFT_RETURN_IF_ERROR(RefuseFields(object, {"tools", "functions"}, kNoTools));
  QFT_RETURN_IF_ERROR(
      RefuseFields(object, {"chat_template_kwargs"}, "the template is rendered without it"));
  const auto list = object.find(key);
  if (list == object.end()) return BadData("there is no \"", key, "\"; ", FoundFields(object));
  if (!list->is_array()) return BadData("\"", key, "\" is not a list");
  if (list->empty()) return BadData("\"", key, "\" is empty");
  Record record;
  QFT_RETURN_IF_ERROR(ReadSystem(object, &record.messages));
  for (size_t i = 0; i < list->size(); ++i) {
    const std::string where = absl::StrCat(key, "[", i, "]");
    if (!(*list)[i].is_object()) return BadData(where, " is not an object");
    StatusOr<ChatMessage> message = read((*list)[i]);
    if (!message.ok()) return Annotate(message.status(), where);
    if (message->role == "system" && i == 0 && !record.messages.empty()) {
      return BadData("\"system\" stands beside a first message of role system");
    }
    record.messages.push_back(*std::move(message));
  }
  return record;
}

void HashBytes(std::string_view text, uint64_t* hash) {
  *hash = XXH3_64bits_withSeed(text.data(), text.size(), *hash);
}

}  // namespace

StatusOr<RecordForm> FindRecordForm(std::string_view name) {
  std::string names = "auto";
  if (name == names) return RecordForm::kAuto;
  for (const FormEntry& entry : kForms) {
    if (name == entry.name) return entry.form;
    absl::StrAppend(&names, ", ", entry.name);
  }
  return MakeError(ErrorCode::kOutOfRange,
                   absl::StrCat("there is no form of data '", std::string(name),
                                "'; --data-form takes ", names));
}

StatusOr<Record> ParseRecord(std::string_view line, RecordForm form) {
  if (!IsUtf8(line)) return BadData("the line is not UTF-8");
  auto parsed = ParseJson(line, "the line");
  if (!parsed.ok()) return BadData(parsed.status().message());
  if (!parsed->is_object()) return BadData("the line is not a JSON object");
  if (form == RecordForm::kAuto) {
    QFT_ASSIGN_OR_RETURN(form, Recognize(*parsed));
  }
  switch (form) {
    case RecordForm::kPromptCompletion:
      return ReadPromptCompletion(*parsed);
    case RecordForm::kAlpaca:
      return ReadAlpaca(*parsed);
    case RecordForm::kMessages:
      return ReadConversation(*parsed, "messages", ReadMessage);
    case RecordForm::kShareGpt:
      return ReadConversation(*parsed, "conversations", ReadTurn);
    default:
      return ReadText(*parsed);
  }
}

uint64_t ContentHash(const Record& record) {
  // The lengths of the hashes' inputs keep "a" + "bc" and "ab" + "c" apart.
  uint64_t hash = record.has_prompt ? 1 : 0;
  HashBytes(record.prompt, &hash);
  HashBytes(record.text, &hash);
  for (const ChatMessage& message : record.messages) {
    HashBytes(message.role, &hash);
    HashBytes(message.content, &hash);
    HashBytes(message.reasoning, &hash);
  }
  return hash;
}

}  // namespace qft
