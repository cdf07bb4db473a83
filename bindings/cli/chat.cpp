#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "bindings/cli/command.h"
#include "bindings/cli/data_options.h"
#include "bindings/cli/generation_options.h"
#include "bindings/cli/interrupt.h"
#include "bindings/cli/source.h"

namespace qft::cli {
namespace {

constexpr char kChatExample[] =
    "Example:\n"
    "  qft chat --model SmolLM2-135M-Instruct --temperature 0.7\n"
    "  printf 'Hello\\nTell me more\\n' | qft chat --checkpoint runs/first\n\n"
    "Each line is a turn. /reset begins a new conversation, /exit or the end of the input ends it.";

constexpr int64_t kAnswerTokens = 512;

struct Turn {
  std::string role;
  std::string content;
};

// Takes an answer as it comes: to the screen and to the conversation.
int32_t OnPiece(void* answer, const char* text, size_t length) {
  static_cast<std::string*>(answer)->append(text, length);
  const bool written = fwrite(text, 1, length, stdout) == length && fflush(stdout) == 0;
  return written && !Interrupted() ? 0 : 1;
}

class Chat : public Command {
 public:
  explicit Chat(CLI::App& program)
      : Command(program, "chat", "Talk with a model, turn after turn"), table_(app_) {
    source_.AddOptions(table_);
    AddChatOptions("Conversation", &chat_template_, &chat_date_, &table_);
    table_.Add("Conversation", "system", system_, "The system prompt (default: the template's)");
    generation_.max_tokens = kAnswerTokens;
    AddGenerationOptions(&generation_, &table_);
    app_->footer(kChatExample);
  }

  int Run() override {
    source_.Locate();
    tokenizer_ = LoadTokenizer(source_.model_path());
    if (chat_template_.empty()) chat_template_ = source_.run_config().value("chat-template", "");
    // A template that cannot be used is told before the model is loaded.
    int32_t end = 0;
    const qft_chat_options options = ChatOptions();
    Call(qft_chat_get_end, tokenizer_.get(), &options, &end);
    source_.Open(kSessionTokens);
    Begin();
    std::string line;
    while (ReadLine(&line)) {
      if (line == "/exit") break;
      if (line == "/reset") {
        Begin();
      } else if (!line.empty()) {
        Answer(line, end);
        if (Interrupted()) break;
      }
    }
    if (terminal_) printf("\n");
    return Interrupted() ? kExitInterrupted : 0;
  }

 private:
  qft_chat_options ChatOptions() const {
    qft_chat_options options = Sized<qft_chat_options>();
    options.chat_template = chat_template_.data();
    options.chat_template_length = chat_template_.size();
    options.chat_date = chat_date_.data();
    options.chat_date_length = chat_date_.size();
    return options;
  }

  void Begin() {
    turns_.clear();
    if (!system_.empty()) turns_.push_back({"system", system_});
  }

  // False at the end of the input, or when the person wants to go.
  bool ReadLine(std::string* line) const {
    if (terminal_) {
      printf("> ");
      fflush(stdout);
      // Unlike a read, a poll does not go on after a signal.
      pollfd input = {STDIN_FILENO, POLLIN, 0};
      if (std::cin.rdbuf()->in_avail() <= 0) poll(&input, 1, -1);
    }
    if (Interrupted() || !std::getline(std::cin, *line)) return false;
    if (!line->empty() && line->back() == '\r') line->pop_back();
    return true;
  }

  std::string Prompt() const {
    std::vector<qft_chat_message> messages;
    for (const Turn& turn : turns_) {
      messages.push_back(Sized<qft_chat_message>());
      messages.back().role = turn.role.data();
      messages.back().role_length = turn.role.size();
      messages.back().content = turn.content.data();
      messages.back().content_length = turn.content.size();
    }
    const qft_chat_options options = ChatOptions();
    const qft_chat_message* first = messages.data();
    return CopyText(qft_chat_render, tokenizer_.get(), first, static_cast<int64_t>(messages.size()),
                    &options);
  }

  // What the conversation keeps of an answer: not the space before it that the template writes.
  std::string Content(const std::string& prompt, const std::string& answer) {
    if (!answer.starts_with(' ')) return answer;
    turns_.push_back({"assistant", answer.substr(1)});
    const bool is_written = Prompt().starts_with(prompt + answer);
    turns_.pop_back();
    return is_written ? answer.substr(1) : answer;
  }

  void Answer(const std::string& line, int32_t end) {
    turns_.push_back({"user", line});
    const std::string prompt = Prompt();
    qft_generate_options options = ToLibrary(generation_);
    options.stop_ids = &end;
    options.stop_count = 1;
    options.prompt_is_whole = 1;
    options.seed += turns_.size();  // else equal turns would have equal luck
    std::string answer;
    std::string message;
    size_t needed = 0;
    const qft_status status =
        Try(&message, qft_generate, source_.session().get(), tokenizer_.get(), prompt.data(),
            prompt.size(), &options, static_cast<qft_text_callback>(OnPiece),
            static_cast<void*>(&answer), nullptr, size_t{0}, &needed);
    printf("\n");
    fflush(stdout);
    if (status != QFT_OK && !Interrupted()) throw Failure(message);
    turns_.push_back({"assistant", Content(prompt, answer)});
  }

  OptionTable table_;
  Source source_;
  std::string chat_template_;
  std::string chat_date_;
  std::string system_;
  GenerationOptions generation_;
  Tokenizer tokenizer_;
  std::vector<Turn> turns_;
  const bool terminal_ = isatty(STDIN_FILENO) == 1;
};

}  // namespace

std::unique_ptr<Command> MakeChat(CLI::App& program) {
  return std::make_unique<Chat>(program);
}

}  // namespace qft::cli
