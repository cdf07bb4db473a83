// The chat templates of the families that libqft trains, written natively: conversations become the
// text that `apply_chat_template` of Hugging Face transformers makes of them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "runtime/data/text/tokenizer.h"

namespace qft {

struct ChatMessage {
  std::string role;  // system, user, assistant or tool
  std::string content;
  std::string reasoning;  // what the assistant thought, where has_reasoning
  bool has_reasoning = false;
  bool learnt = true;  // of what the assistant says
};

struct RenderedChat {
  struct Span {
    size_t begin = 0;
    size_t end = 0;
  };

  std::string text;
  // What is learnt of what the assistant says, in bytes of `text`: all that follows the generation
  // prompt up to and with the token that ends the turn.
  std::vector<Span> assistant;
};

struct ChatFamily;

class ChatTemplate {
 public:
  // "26 Jul 2024", the date in the texts of Llama 3.1 to 3.3 unless another is given.
  static constexpr char kDefaultDate[] = "26 Jul 2024";

  // name: one of Names(); empty: the one that the tokenizer's files hold. date: empty for
  // kDefaultDate. kUnsupported: an unknown name, a template that is not recognised, or none; the
  // message lists the names.
  static StatusOr<ChatTemplate> Create(const Tokenizer& tokenizer, const std::string& name,
                                       const std::string& date);
  // "chatml, llama-2, ..."
  static std::string Names();

  const char* name() const;
  // The text of the token that ends the assistant's turn.
  std::string EndOfTurn() const;

  // generation_prompt: ends with what precedes the assistant's next turn. kBadData: roles, or an
  // order of them, that the template does not have ("messages[2]: ...").
  StatusOr<RenderedChat> Render(const std::vector<ChatMessage>& messages,
                                bool generation_prompt) const;

 private:
  ChatTemplate(const ChatFamily* family, std::string begin, std::string end, std::string date)
      : family_(family), begin_(std::move(begin)), end_(std::move(end)), date_(std::move(date)) {}

  const ChatFamily* family_;
  std::string begin_;  // bos_token
  std::string end_;    // eos_token
  std::string date_;
};

}  // namespace qft
