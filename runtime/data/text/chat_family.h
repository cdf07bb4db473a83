// How each family of chat templates writes a conversation.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "runtime/data/text/chat_template.h"

namespace qft {

// Collects the text of a conversation and what of it is learnt.
class ChatWriter {
 public:
  void Add(std::string_view text) { chat_.text.append(text); }
  // What `message` says, which is learnt if the assistant says it and the data wants it learnt.
  void AddSaid(const ChatMessage& message, std::string_view text) {
    const size_t begin = chat_.text.size();
    chat_.text.append(text);
    if (message.role != "assistant" || !message.learnt) return;
    chat_.assistant.push_back({begin, chat_.text.size()});
  }
  RenderedChat Take() { return std::move(chat_); }

 private:
  RenderedChat chat_;
};

// What a family's writer is given.
struct ChatContext {
  const ChatFamily& family;
  const std::string& begin;  // bos_token
  const std::string& end;    // eos_token
  const std::string& date;
  const std::vector<ChatMessage>& messages;
  bool generation_prompt;
};

enum class ChatOrder {
  kAny,
  // A first message of role system or none, then user and assistant in turn.
  kAlternating,
  kAlternatingWithoutSystem,
};

struct ChatFamily {
  const char* name;
  void (*write)(const ChatContext& context, ChatWriter* writer);
  ChatOrder order;
  bool has_tool;
  bool needs_begin;            // bos_token
  const char* end_of_turn;     // nullptr: eos_token
  const char* default_system;  // the system prompt where the conversation has none; nullptr: none
};

const std::vector<ChatFamily>& ChatFamilies();

// 32 digits that stand for all that `jinja` can render. Layout, quotes, comments and the texts of
// exceptions do not enter.
std::string ChatTemplateHash(std::string_view jinja);
// The name of the family whose template `jinja` is; nullptr if it is none that is known.
const char* RecognizeChatTemplate(std::string_view jinja);

// Python's str.strip(): white space of Unicode at both ends.
std::string_view StripSpace(std::string_view text);

}  // namespace qft
