#include <cstdio>

#include "bindings/cli/command.h"
#include "bindings/cli/source.h"

namespace qft::cli {
namespace {

constexpr char kExportExample[] =
    "Example:\n"
    "  qft export --checkpoint runs/first --output tuned\n"
    "  qft export --model SmolLM2-135M.gguf --output folder-for-transformers";

class Export : public Command {
 public:
  explicit Export(CLI::App& program)
      : Command(program, "export", "Write a model as bf16 safetensors that transformers loads"),
        table_(app_) {
    source_.AddOptions(table_);
    table_.Add("Output", "output", output_, "Folder to write, new or empty")->required();
    app_->footer(kExportExample);
  }

  int Run() override {
    CheckIsNew(output_, "--output");
    source_.Locate();
    source_.Open(kSessionTokens);
    const Tokenizer tokenizer = LoadTokenizerIfAny(source_.model_path());
    if (!tokenizer) fprintf(stderr, "qft: the model has no tokenizer; none is exported\n");
    Call(qft_export, source_.session().get(), source_.model().get(), tokenizer.get(),
         output_.data(), output_.size());
    printf("exported to %s\n", output_.c_str());
    return 0;
  }

 private:
  OptionTable table_;
  Source source_;
  std::string output_;
};

}  // namespace

std::unique_ptr<Command> MakeExport(CLI::App& program) {
  return std::make_unique<Export>(program);
}

}  // namespace qft::cli
