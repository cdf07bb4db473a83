#include <cmath>
#include <cstdio>

#include "bindings/cli/command.h"
#include "bindings/cli/data_options.h"
#include "bindings/cli/evaluation.h"
#include "bindings/cli/files.h"
#include "bindings/cli/interrupt.h"
#include "bindings/cli/source.h"

namespace qft::cli {
namespace {

using nlohmann::json;

constexpr char kEvalExample[] =
    "Example:\n"
    "  qft eval --checkpoint runs/first\n"
    "  qft eval --model SmolLM2-135M --data questions.jsonl --all\n\n"
    "With --checkpoint RUN, --model, --data and the held-out part are those of the run.\n"
    "--dump-batches writes a JSON line a batch: token_ids, targets (-1: none), loss_weights,\n"
    "document_ids, each a list with one number a token.";

template <typename T>
json List(const T* values, int64_t count) {
  return values == nullptr ? json() : json(std::vector<T>(values, values + count));
}

class Eval : public Command {
 public:
  explicit Eval(CLI::App& program)
      : Command(program, "eval", "Measure the loss of a model or a checkpoint on text"),
        table_(app_) {
    source_.AddOptions(table_);
    AddDataOptions("Input", &data_, &table_);
    held_out_option_ = table_
                           .Add("Input", "held-out", held_out_,
                                "Share of the documents held out; a run's own otherwise")
                           ->check(CLI::Range(0.0, 0.9));
    held_out_limit_option_ = table_
                                 .Add("Input", "held-out-limit", held_out_limit_,
                                      "Most documents held out; a run's own otherwise")
                                 ->check(CLI::NonNegativeNumber);
    sequence_option_ = table_
                           .Add("Input", "sequence", sequence_,
                                "Longest document in tokens; a run's own otherwise")
                           ->check(CLI::PositiveNumber);
    app_->add_flag("--all", all_, "Every document instead of the held-out part")->group("Input");
    table_.Add("Output", "dump-batches", dump_path_, "Write the batches to a file of JSON lines");
    app_->add_flag("--json", json_, "Print a JSON object")->group("Output");
    app_->footer(kEvalExample);
  }

  int Run() override {
    source_.Locate();
    TakeRunDefaults();
    source_.Open(BatchTokens());
    const Tokenizer tokenizer = LoadTokenizer(source_.model_path());
    const Dataset dataset = OpenData(tokenizer);
    const qft_dataset_info info = GetInfo(dataset);
    const int64_t batches = all_ ? info.batches : info.batches_held_out;
    if (batches == 0) throw Usage("no document is held out; raise --held-out or use --all");
    const BatchSource batch_source = WithDump(all_ ? InOrder(dataset) : HeldOut(dataset));
    Progress progress;
    const auto evaluation = Evaluate(source_.session(), batches, batch_source, &progress);
    if (!evaluation) return kExitInterrupted;
    Print(*evaluation, all_ ? info.documents : info.documents_held_out);
    return 0;
  }

 private:
  static constexpr int64_t kBatchTokens = 2048;

  void TakeRunDefaults() {
    const json& run = source_.run_config();
    TakeRunData(run, &data_);
    if (data_.files.empty()) throw Usage("--data is needed");
    if (held_out_option_->count() == 0) held_out_ = run.value("held-out", held_out_);
    if (held_out_limit_option_->count() == 0) {
      held_out_limit_ = run.value("held-out-limit", held_out_limit_);
    }
    if (sequence_option_->count() == 0) sequence_ = run.value("sequence", sequence_);
  }

  // A batch holds at least one document of the longest kind.
  int64_t BatchTokens() const { return std::max(kBatchTokens, sequence_); }

  Dataset OpenData(const Tokenizer& tokenizer) const {
    qft_dataset_options options = Sized<qft_dataset_options>();
    options.batch_tokens = BatchTokens();
    options.sequence_tokens = sequence_;
    options.held_out_share = all_ ? 0 : held_out_;
    options.held_out_limit = held_out_limit_;
    return OpenDataset(data_, tokenizer, options);
  }

  static BatchSource InOrder(const Dataset& dataset) {
    return [handle = dataset.get()](int64_t, qft_batch* batch) {
      Call(qft_dataset_next, handle, batch, int64_t{1});
    };
  }

  BatchSource WithDump(BatchSource source) {
    if (dump_path_.empty()) return source;
    WriteFile(dump_path_, "");
    return [source = std::move(source), lines = std::make_shared<JsonLines>(dump_path_)](
               int64_t index, qft_batch* batch) {
      source(index, batch);
      lines->Append({{"token_ids", List(batch->token_ids, batch->tokens)},
                     {"targets", List(batch->targets, batch->tokens)},
                     {"loss_weights", List(batch->loss_weights, batch->tokens)},
                     {"document_ids", List(batch->document_ids, batch->tokens)}});
    };
  }

  void Print(const Evaluation& evaluation, int64_t documents) const {
    if (json_) {
      const json result = {{"loss", evaluation.loss},
                           {"perplexity", std::exp(evaluation.loss)},
                           {"documents", documents},
                           {"tokens", evaluation.tokens},
                           {"loss_weight", evaluation.loss_weight},
                           {"seconds", evaluation.seconds}};
      printf("%s\n", Dump(result, -1).c_str());
      return;
    }
    printf("loss         %.6f\nperplexity   %.4f\ndocuments    %lld\ntokens       %lld\n",
           evaluation.loss, std::exp(evaluation.loss), static_cast<long long>(documents),
           static_cast<long long>(evaluation.tokens));
    printf("speed        %.0f tokens/s\n",
           static_cast<double>(evaluation.tokens) / evaluation.seconds);
  }

  OptionTable table_;
  Source source_;
  DataOptions data_;
  double held_out_ = 0.05;
  int64_t held_out_limit_ = 256;
  int64_t sequence_ = 512;
  CLI::Option* held_out_option_ = nullptr;
  CLI::Option* held_out_limit_option_ = nullptr;
  CLI::Option* sequence_option_ = nullptr;
  bool all_ = false;
  std::string dump_path_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeEval(CLI::App& program) {
  return std::make_unique<Eval>(program);
}

}  // namespace qft::cli
