#include <cstdio>

#include "bindings/cli/command.h"
#include "bindings/cli/files.h"
#include "bindings/cli/run_folder.h"
#include "bindings/cli/source.h"

namespace qft::cli {
namespace {

constexpr char kCreateExample[] =
    "Example:\n"
    "  qft create --config config.json --tokenizer tokenizer.json --output start\n"
    "  qft finetune --model start --data text.jsonl --learning-rate 1e-3";

constexpr int64_t kMicroBatchTokens = 16;

// A model with random weights, to train from nothing.
class Create : public Command {
 public:
  explicit Create(CLI::App& program)
      : Command(program, "create", "Make a model with random weights, to train from nothing"),
        table_(app_) {
    table_.Add("Model", "config", config_, "Hugging Face config.json with the model's shape")
        ->required();
    table_.Add("Model", "tokenizer", tokenizer_, "tokenizer.json or .model, or what holds one");
    table_.Add("Model", "seed", seed_, "Seed of the weights")->check(CLI::NonNegativeNumber);
    table_.Add("Output", "output", output_, "Folder to write, new or empty")->required();
    app_->footer(kCreateExample);
  }

  int Run() override {
    CheckIsNew(output_, "--output");
    const std::string config = ReadText(config_, kMaxConfigBytes);
    const Model model = Make<Model>(qft_model_create_random, config.data(), config.size(),
                                    static_cast<uint64_t>(seed_));
    Settings settings;
    settings.infer = true;
    settings.micro_batch_tokens = kMicroBatchTokens;
    settings.set = {"states=fp32", "arithmetic=float"};
    const Session session = OpenSession(model, settings);
    const Tokenizer tokenizer = tokenizer_.empty() ? Tokenizer() : LoadTokenizer(tokenizer_);
    Call(qft_export, session.get(), model.get(), tokenizer.get(), output_.data(), output_.size());
    printf("created %s\n", output_.c_str());
    return 0;
  }

 private:
  OptionTable table_;
  std::string config_;
  std::string tokenizer_;
  std::string output_;
  int64_t seed_ = 0;
};

}  // namespace

std::unique_ptr<Command> MakeCreate(CLI::App& program) {
  return std::make_unique<Create>(program);
}

}  // namespace qft::cli
