#include <cstdio>

#include "bindings/cli/command.h"
#include "bindings/cli/files.h"
#include "bindings/cli/generation_options.h"
#include "bindings/cli/interrupt.h"
#include "bindings/cli/source.h"

namespace qft::cli {
namespace {

constexpr char kGenerateExample[] =
    "Example:\n"
    "  qft generate --checkpoint runs/first --prompt 'Question: What does the noun \"keel\" "
    "mean?'\n"
    "  echo 'Once upon a time' | qft generate --model SmolLM2-135M --prompt -";

constexpr size_t kLongestPrompt = 16 << 20;

// Writes a piece as it comes; stops when the person or the reader of the output has gone.
int32_t Stream(void*, const char* text, size_t length) {
  if (Interrupted()) return 1;
  const bool written = fwrite(text, 1, length, stdout) == length && fflush(stdout) == 0;
  return written ? 0 : 1;
}

class Generate : public Command {
 public:
  explicit Generate(CLI::App& program)
      : Command(program, "generate", "Continue a prompt, token by token"), table_(app_) {
    source_.AddOptions(table_);
    CLI::Option* prompt =
        table_.Add("Prompt", "prompt", prompt_, "The text to continue; - reads standard input");
    table_.Add("Prompt", "prompt-file", prompt_file_, "A file that holds it; - is standard input")
        ->excludes(prompt);
    AddGenerationOptions(&generation_, &table_);
    app_->footer(kGenerateExample);
  }

  int Run() override {
    const std::string prompt = ReadPrompt();
    source_.Locate();
    source_.Open(kSessionTokens);
    const Tokenizer tokenizer = LoadTokenizer(source_.model_path());
    const qft_generate_options options = ToLibrary(generation_);
    std::string message;
    size_t needed = 0;
    const qft_status status =
        Try(&message, qft_generate, source_.session().get(), tokenizer.get(), prompt.data(),
            prompt.size(), &options, Stream, nullptr, nullptr, size_t{0}, &needed);
    printf("\n");
    if (Interrupted()) return kExitInterrupted;
    if (status != QFT_OK) throw Failure(message);
    return 0;
  }

 private:
  std::string ReadPrompt() const {
    if (!prompt_file_.empty()) return ReadText(prompt_file_, kLongestPrompt);
    if (prompt_.empty()) throw Usage("--prompt or --prompt-file is needed");
    return prompt_ == "-" ? ReadText("-", kLongestPrompt) : prompt_;
  }

  OptionTable table_;
  Source source_;
  std::string prompt_;
  std::string prompt_file_;
  GenerationOptions generation_;
};

}  // namespace

std::unique_ptr<Command> MakeGenerate(CLI::App& program) {
  return std::make_unique<Generate>(program);
}

}  // namespace qft::cli
