#include "runtime/data/text/chat_family.h"

#include <unicode/utf8.h>

#include <algorithm>

#include "nlohmann/json.hpp"

namespace qft {
namespace {

template <typename... Parts>
std::string Concat(const Parts&... parts) {
  std::string text;
  (text.append(std::string_view(parts)), ...);
  return text;
}

// str.isspace() of Python: beyond White_Space the separators U+001C to U+001F.
bool IsPythonSpace(UChar32 c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

std::string_view StripNewlinesLeft(std::string_view text) {
  return text.substr(std::min(text.find_first_not_of('\n'), text.size()));
}

std::string_view StripNewlinesRight(std::string_view text) {
  return text.substr(0, text.find_last_not_of('\n') + 1);
}

// ---- ChatML and Qwen ----------------------------------------------------------------------------

constexpr char kStart[] = "<|im_start|>";
constexpr char kEnd[] = "<|im_end|>";

void WriteChatMlMessage(const ChatMessage& message, ChatWriter* writer) {
  writer->Add(Concat(kStart, message.role, "\n"));
  writer->AddSaid(message, Concat(message.content, kEnd));
  writer->Add("\n");
}

void WriteDefaultSystem(const ChatContext& context, ChatWriter* writer) {
  if (context.family.default_system == nullptr || context.messages.front().role == "system") return;
  writer->Add(Concat(kStart, "system\n", context.family.default_system, kEnd, "\n"));
}

void WriteAssistantPrompt(const ChatContext& context, ChatWriter* writer) {
  if (context.generation_prompt) writer->Add(Concat(kStart, "assistant\n"));
}

void WriteChatMl(const ChatContext& context, ChatWriter* writer) {
  WriteDefaultSystem(context, writer);
  for (const ChatMessage& message : context.messages) WriteChatMlMessage(message, writer);
  WriteAssistantPrompt(context, writer);
}

// Answers of tools, one after the other in one turn of the user.
void WriteToolResponse(const ChatContext& context, size_t index, ChatWriter* writer) {
  const auto is_tool = [&context](size_t i) {
    return i < context.messages.size() && context.messages[i].role == "tool";
  };
  if (index == 0 || !is_tool(index - 1)) writer->Add(Concat(kStart, "user"));
  writer->Add(Concat("\n<tool_response>\n", context.messages[index].content, "\n</tool_response>"));
  if (!is_tool(index + 1)) writer->Add(Concat(kEnd, "\n"));
}

void WriteQwen25(const ChatContext& context, ChatWriter* writer) {
  WriteDefaultSystem(context, writer);
  for (size_t i = 0; i < context.messages.size(); ++i) {
    if (context.messages[i].role == "tool") {
      WriteToolResponse(context, i, writer);
    } else {
      WriteChatMlMessage(context.messages[i], writer);
    }
  }
  WriteAssistantPrompt(context, writer);
}

// The last message of the user that is no answer of a tool; what precedes it has its thinking
// taken away.
size_t LastQuery(const std::vector<ChatMessage>& messages) {
  for (size_t i = messages.size(); i-- > 0;) {
    const std::string& content = messages[i].content;
    const bool is_response =
        content.starts_with("<tool_response>") && content.ends_with("</tool_response>");
    if (messages[i].role == "user" && !is_response) return i;
  }
  return messages.size() - 1;
}

struct Thought {
  std::string_view reasoning;
  std::string_view answer;
};

Thought SplitThought(const ChatMessage& message) {
  constexpr std::string_view kOpen = "<think>";
  constexpr std::string_view kClose = "</think>";
  const std::string_view content = message.content;
  if (message.has_reasoning) return {message.reasoning, content};
  const size_t first = content.find(kClose);
  if (first == std::string_view::npos) return {"", content};
  std::string_view reasoning = StripNewlinesRight(content.substr(0, first));
  const size_t open = reasoning.rfind(kOpen);
  if (open != std::string_view::npos) reasoning.remove_prefix(open + kOpen.size());
  return {StripNewlinesLeft(reasoning),
          StripNewlinesLeft(content.substr(content.rfind(kClose) + kClose.size()))};
}

void WriteQwen3Assistant(const ChatMessage& message, bool after_query, bool is_last,
                         ChatWriter* writer) {
  const auto [reasoning, answer] = SplitThought(message);
  std::string text(answer);
  if (after_query && (is_last || !reasoning.empty())) {
    text = Concat("<think>\n", StripNewlinesRight(StripNewlinesLeft(reasoning)), "\n</think>\n\n",
                  StripNewlinesLeft(answer));
  }
  writer->Add(Concat(kStart, "assistant\n"));
  writer->AddSaid(message, Concat(text, kEnd));
  writer->Add("\n");
}

void WriteQwen3(const ChatContext& context, ChatWriter* writer) {
  const size_t last_query = LastQuery(context.messages);
  for (size_t i = 0; i < context.messages.size(); ++i) {
    const ChatMessage& message = context.messages[i];
    if (message.role == "tool") {
      WriteToolResponse(context, i, writer);
    } else if (message.role == "assistant") {
      WriteQwen3Assistant(message, i > last_query, i + 1 == context.messages.size(), writer);
    } else {
      WriteChatMlMessage(message, writer);
    }
  }
  WriteAssistantPrompt(context, writer);
}

// ---- Zephyr and TinyLlama -----------------------------------------------------------------------

void WriteZephyr(const ChatContext& context, ChatWriter* writer) {
  for (const ChatMessage& message : context.messages) {
    writer->Add(Concat("<|", message.role, "|>\n"));
    writer->AddSaid(message, Concat(message.content, context.end));
    writer->Add("\n");
  }
  if (context.generation_prompt) writer->Add("<|assistant|>\n");
}

// ---- Llama --------------------------------------------------------------------------------------

void WriteLlama2(const ChatContext& context, ChatWriter* writer) {
  const bool has_system = context.messages.front().role == "system";
  const size_t first = has_system ? 1 : 0;
  for (size_t i = first; i < context.messages.size(); ++i) {
    std::string content = context.messages[i].content;
    if (i == first && has_system) {
      content = Concat("<<SYS>>\n", context.messages[0].content, "\n<</SYS>>\n\n", content);
    }
    const std::string_view stripped = StripSpace(content);
    if (context.messages[i].role == "user") {
      writer->Add(Concat(context.begin, "[INST] ", stripped, " [/INST]"));
    } else {
      writer->AddSaid(context.messages[i], Concat(" ", stripped, " ", context.end));
    }
  }
}

constexpr char kEndOfTurn[] = "<|eot_id|>";

std::string Llama3Header(std::string_view role) {
  return Concat("<|start_header_id|>", role, "<|end_header_id|>\n\n");
}

void WriteLlama3Message(const ChatMessage& message, ChatWriter* writer) {
  writer->Add(Llama3Header(message.role));
  writer->AddSaid(message, Concat(StripSpace(message.content), kEndOfTurn));
}

void WriteLlama3Prompt(const ChatContext& context, ChatWriter* writer) {
  if (context.generation_prompt) writer->Add(Llama3Header("assistant"));
}

void WriteLlama3(const ChatContext& context, ChatWriter* writer) {
  writer->Add(context.begin);
  for (const ChatMessage& message : context.messages) WriteLlama3Message(message, writer);
  WriteLlama3Prompt(context, writer);
}

void WriteLlama31(const ChatContext& context, ChatWriter* writer) {
  const bool has_system = context.messages.front().role == "system";
  const std::string_view system =
      has_system ? StripSpace(context.messages.front().content) : std::string_view();
  writer->Add(Concat(context.begin, Llama3Header("system"),
                     "Cutting Knowledge Date: December 2023\nToday Date: ", context.date, "\n\n",
                     system, kEndOfTurn));
  for (size_t i = has_system ? 1 : 0; i < context.messages.size(); ++i) {
    const ChatMessage& message = context.messages[i];
    if (message.role == "tool") {
      // The template writes any iterable as JSON, and a string is one.
      writer->Add(
          Concat(Llama3Header("ipython"), nlohmann::json(message.content).dump(), kEndOfTurn));
    } else {
      WriteLlama3Message(message, writer);
    }
  }
  WriteLlama3Prompt(context, writer);
}

// ---- Mistral ------------------------------------------------------------------------------------

// The spaces around the texts are all that the versions differ in, and where the system prompt
// goes.
struct MistralForm {
  const char* open;
  const char* close;
  const char* answer;
  bool strips_answer;
  bool system_at_last;  // before the last message if that is the user's, otherwise nowhere
};

void WriteMistral(const ChatContext& context, const MistralForm& form, ChatWriter* writer) {
  const std::vector<ChatMessage>& messages = context.messages;
  const bool has_system = messages.front().role == "system";
  const size_t first = has_system ? 1 : 0;
  const size_t with_system = form.system_at_last ? messages.size() - 1 : first;
  writer->Add(context.begin);
  for (size_t i = first; i < messages.size(); ++i) {
    const std::string& content = messages[i].content;
    if (messages[i].role == "user") {
      const bool add_system = has_system && i == with_system;
      writer->Add(Concat(form.open, add_system ? messages[0].content : "", add_system ? "\n\n" : "",
                         content, form.close));
    } else {
      const std::string_view answer = form.strips_answer ? StripSpace(content) : content;
      writer->AddSaid(messages[i], Concat(form.answer, answer, context.end));
    }
  }
}

void WriteMistral0(const ChatContext& context, ChatWriter* writer) {
  WriteMistral(context, {"[INST] ", " [/INST]", "", false, false}, writer);
}

void WriteMistral1(const ChatContext& context, ChatWriter* writer) {
  WriteMistral(context, {" [INST] ", " [/INST]", " ", false, false}, writer);
}

void WriteMistral3(const ChatContext& context, ChatWriter* writer) {
  WriteMistral(context, {"[INST] ", "[/INST]", " ", true, true}, writer);
}

void WriteMistral3Tekken(const ChatContext& context, ChatWriter* writer) {
  WriteMistral(context, {"[INST]", "[/INST]", "", false, true}, writer);
}

}  // namespace

std::string_view StripSpace(std::string_view text) {
  const char* bytes = text.data();
  int32_t begin = 0;
  int32_t end = static_cast<int32_t>(text.size());
  while (begin < end) {
    int32_t next = begin;
    UChar32 c = 0;
    U8_NEXT(bytes, next, end, c);
    if (!IsPythonSpace(c)) break;
    begin = next;
  }
  while (end > begin) {
    int32_t previous = end;
    UChar32 c = 0;
    U8_PREV(bytes, begin, previous, c);
    if (!IsPythonSpace(c)) break;
    end = previous;
  }
  return text.substr(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
}

const std::vector<ChatFamily>& ChatFamilies() {
  constexpr auto kAny = ChatOrder::kAny;
  constexpr auto kAlternating = ChatOrder::kAlternating;
  static const auto* const families = new std::vector<ChatFamily>{
      {"chatml", WriteChatMl, kAny, true, false, kEnd, nullptr},
      {"llama-2", WriteLlama2, kAlternating, false, true, nullptr, nullptr},
      {"llama-3", WriteLlama3, kAny, true, true, kEndOfTurn, nullptr},
      {"llama-3.1", WriteLlama31, kAny, true, true, kEndOfTurn, nullptr},
      {"mistral-v0", WriteMistral0, ChatOrder::kAlternatingWithoutSystem, false, true, nullptr,
       nullptr},
      {"mistral-v1", WriteMistral1, kAlternating, false, true, nullptr, nullptr},
      {"mistral-v3", WriteMistral3, kAlternating, false, true, nullptr, nullptr},
      {"mistral-v3-tekken", WriteMistral3Tekken, kAlternating, false, true, nullptr, nullptr},
      {"qwen2", WriteChatMl, kAny, true, false, kEnd, "You are a helpful assistant."},
      {"qwen2.5", WriteQwen25, kAny, true, false, kEnd,
       "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."},
      {"qwen3", WriteQwen3, kAny, true, false, kEnd, nullptr},
      {"smollm2", WriteChatMl, kAny, true, false, kEnd,
       "You are a helpful AI assistant named SmolLM, trained by Hugging Face"},
      {"zephyr", WriteZephyr, kAny, false, false, nullptr, nullptr},
  };
  return *families;
}

}  // namespace qft
