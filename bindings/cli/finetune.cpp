#include "bindings/cli/finetune.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <ctime>

#include "bindings/cli/command.h"
#include "bindings/cli/interrupt.h"
#include "bindings/cli/model_path.h"
#include "bindings/cli/report.h"
#include "bindings/cli/sample.h"
#include "bindings/cli/source.h"
#include "bindings/cli/start_codes.h"
#include "bindings/cli/text.h"

namespace qft::cli {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr char kFinetuneExample[] =
    "Example:\n"
    "  qft finetune --model SmolLM2-135M --data questions.jsonl --output runs/first \\\n"
    "      --epochs 1 --learning-rate 2e-5 --export runs/first/export\n"
    "  qft finetune --resume runs/first\n\n"
    "Settings for --set:\n";

std::string FolderByTime() {
  const time_t now = time(nullptr);
  tm parts = {};
  localtime_r(&now, &parts);
  char name[32];
  strftime(name, sizeof(name), "%Y%m%d-%H%M%S", &parts);
  return std::string("runs/") + name;
}

class Finetune : public Command {
 public:
  explicit Finetune(CLI::App& program)
      : Command(program, "finetune", "Fine-tune all parameters of a model on text"), table_(app_) {
    AddFinetuneOptions(app_, &options_, &table_);
    resume_ = app_->add_option("--resume", resume_path_,
                               "Go on from the newest checkpoint of a run, or of --output")
                  ->group("Input and output")
                  ->expected(0, 1);
    app_->add_option("--config", config_path_,
                     "JSON file of options by their long names; the command line wins")
        ->group("Input and output");
    app_->footer(kFinetuneExample + DescribeKeys());
  }

  int Run() override {
    CheckFinetuneOptions(options_);
    Prepare();
    Open();
    PrintPlan(options_, session_, dataset_, steps_);
    if (options_.dry_run) return PrintAllocations();
    return Train();
  }

 private:
  bool resuming() const { return resume_->count() > 0; }

  // Names and folders, before anything slow.
  void Prepare() {
    if (options_.output.empty()) {
      if (resuming() && resume_path_.empty()) throw Usage("--resume needs a run, or --output");
      options_.output = FolderByTime();
    }
    options_.model = FindModel(options_.model);
    MakeAbsolute(&options_.data.files);
    for (std::string* path : {&options_.model, &options_.output, &options_.export_folder}) {
      if (!path->empty()) *path = fs::absolute(*path).lexically_normal().string();
    }
    folder_.root = options_.output;
    if (!options_.export_folder.empty()) CheckIsNew(options_.export_folder, "--export");
    if (!resuming() && !options_.dry_run) CheckIsNew(options_.output, "--output");
    if (resuming()) {
      place_ = FindCheckpoint(resume_path_.empty() ? options_.output : resume_path_);
      checkpoint_ = OpenCheckpoint(place_.path);
      const std::string run = fs::absolute(place_.run.root).lexically_normal().string();
      if (options_.output != run) CheckIsNew(options_.output, "--output");
    }
  }

  void Open() {
    tokenizer_ = LoadTokenizer(options_.model);
    qft_dataset_options data = Sized<qft_dataset_options>();
    data.batch_tokens = options_.settings.micro_batch_tokens;
    data.sequence_tokens = options_.sequence;
    data.held_out_share = options_.held_out;
    data.held_out_limit = options_.held_out_limit;
    data.seed = static_cast<uint64_t>(options_.settings.seed);
    dataset_ = OpenDataset(options_.data, tokenizer_, data);
    steps_ = Steps();
    model_ = LoadModel(options_.model);
    session_ = OpenSession(model_, options_.settings);
    Call(qft_session_check_learning_rate, session_.get(), options_.learning_rate);
  }

  int64_t Steps() const {
    if (options_.steps > 0) return options_.steps;
    const double batches = options_.epochs * static_cast<double>(GetInfo(dataset_).batches);
    const double steps = std::ceil(batches / static_cast<double>(options_.settings.micro_batches));
    if (!(steps < 1e15)) throw Usage("--epochs is too large");
    return std::max<int64_t>(1, static_cast<int64_t>(steps));
  }

  int PrintAllocations() const {
    const json plan = json::parse(CopyText(qft_session_plan_json, session_.get()));
    printf("plan     %s\n", Dump(plan, 2).c_str());
    return 0;
  }

  int Train() {
    fs::create_directories(folder_.checkpoints());
    const StartCodes start_codes(model_, session_, folder_.root);
    Outcome outcome;
    for (const std::string& prompt : options_.samples) {
      outcome.samples.push_back({prompt, Answer(session_, tokenizer_, prompt), ""});
    }
    RunState state;
    if (resuming()) {
      Call(qft_session_restore, session_.get(), checkpoint_.get());
      state = RunState::FromBlob(checkpoint_, dataset_);
      checkpoint_.reset();
    }
    WriteFile(folder_.config(), Dump(table_.ToJson(), 2) + "\n");
    Training training(options_, folder_, session_, dataset_, steps_, state);
    RecordStart(training);
    try {
      outcome.reason = training.Run();
      if (outcome.reason != StopReason::kInterrupted) Finish(training, start_codes, &outcome);
    } catch (const Failure& failure) {
      RecordEnd(training, "failed", failure.what());
      throw;
    }
    if (outcome.reason == StopReason::kInterrupted) return Stopped(training);
    RecordEnd(training, Name(outcome.reason), "");
    return 0;
  }

  void RecordStart(Training& training) const {
    training.metrics().Append({{"type", "start"},
                               {"step", training.state().step},
                               {"steps", steps_},
                               {"time", time(nullptr)},
                               {"resumed", resuming()},
                               {"options", table_.ToJson()},
                               {"engine", Engine(session_)},
                               {"build", json::parse(qft_build_info())},
                               {"state_bytes", StateBytes(session_)}});
    if (resuming()) {
      training.progress().Print(
          Format("resumed at step %lld", static_cast<long long>(training.state().step)));
    }
  }

  static void RecordEnd(Training& training, const std::string& reason, const std::string& error) {
    json record = {{"type", "end"},
                   {"step", training.state().step},
                   {"reason", reason},
                   {"skipped", training.state().skipped},
                   {"tokens", training.state().tokens},
                   {"tokens_per_second", training.state().TokensPerSecond()},
                   {"data_share", training.state().DataShare()},
                   {"time", time(nullptr)}};
    if (!error.empty()) record["error"] = error;
    training.metrics().Append(record);
  }

  void Finish(Training& training, const StartCodes& start_codes, Outcome* outcome) const {
    outcome->loss_after = training.EvaluateNow();
    if (Interrupted()) {
      outcome->reason = StopReason::kInterrupted;
      return;
    }
    for (Sample& sample : outcome->samples) {
      sample.after = Answer(session_, tokenizer_, sample.prompt);
    }
    outcome->codes_changed = start_codes.ChangedShare(session_);
    const json summary = Summarize(options_, session_, training, *outcome);
    WriteFile(folder_.summary(), Dump(summary, 2) + "\n");
    if (!options_.export_folder.empty()) {
      Call(qft_export, session_.get(), model_.get(), tokenizer_.get(),
           options_.export_folder.data(), options_.export_folder.size());
    }
    PrintSummary(summary, folder_);
    if (!options_.export_folder.empty())
      printf("exported to     %s\n", options_.export_folder.c_str());
  }

  int Stopped(Training& training) const {
    RecordEnd(training, Name(StopReason::kInterrupted), "");
    if (training.state().step == 0) {
      fs::remove_all(folder_.root);  // it was new, and has nothing to go on from
      fprintf(stderr, "qft: interrupted before the first step; nothing is kept\n");
    } else {
      fprintf(stderr,
              "qft: interrupted after step %lld, saved; resume with\n  qft finetune --resume %s\n",
              static_cast<long long>(training.state().step), folder_.root.c_str());
    }
    return kExitInterrupted;
  }

  OptionTable table_;
  FinetuneOptions options_;
  CLI::Option* resume_ = nullptr;
  std::string resume_path_;
  std::string config_path_;
  RunFolder folder_;
  CheckpointPlace place_;
  Checkpoint checkpoint_;
  Tokenizer tokenizer_;
  Dataset dataset_;
  Model model_;
  Session session_;
  int64_t steps_ = 0;
};

bool IsResume(const std::string& argument) {
  return argument == "--resume" || argument.rfind("--resume=", 0) == 0;
}

}  // namespace

std::vector<std::string> WithConfiguration(const std::vector<std::string>& arguments,
                                           const CLI::App& app) {
  std::vector<std::string> merged = {arguments.front()};
  const auto append = [&](const json& config, const std::string& source) {
    for (std::string& argument : ArgumentsFromConfig(config, source, app, arguments)) {
      merged.push_back(std::move(argument));
    }
  };
  if (std::any_of(arguments.begin(), arguments.end(), IsResume)) {
    std::string path = FindArgument(arguments, "resume");
    if (path.empty()) path = FindArgument(arguments, "output");
    if (path.empty()) throw Usage("--resume needs a run, or --output");
    CheckpointPlace place = FindCheckpoint(path);
    if (!place.config.empty()) {
      place.config["output"] = place.run.root.string();
      append(place.config, place.run.config().string());
    }
  }
  const std::string file = FindArgument(arguments, "config");
  if (!file.empty()) append(ReadJson(file), file);
  merged.insert(merged.end(), arguments.begin() + 1, arguments.end());
  return merged;
}

std::unique_ptr<Command> MakeFinetune(CLI::App& program) {
  return std::make_unique<Finetune>(program);
}

}  // namespace qft::cli
