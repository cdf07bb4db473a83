#include "bindings/cli/finetune_options.h"

#include <map>

#include "bindings/cli/failure.h"

namespace qft::cli {
namespace {

const std::map<std::string, int32_t>& Schedules() {
  static const std::map<std::string, int32_t> schedules = {{"constant", QFT_SCHEDULE_CONSTANT},
                                                           {"linear", QFT_SCHEDULE_LINEAR},
                                                           {"cosine", QFT_SCHEDULE_COSINE},
                                                           {"wsd", QFT_SCHEDULE_WSD}};
  return schedules;
}

void AddInputAndLength(FinetuneOptions* o, OptionTable* t) {
  t->Add("Input and output", "model", o->model,
         "Hugging Face folder, GGUF file, or ORG/NAME in the local Hugging Face cache")
      ->required();
  AddDataOptions("Input and output", &o->data, t)->required();
  t->Add("Input and output", "output", o->output,
         "Folder of the run, new (default: runs/<date and time>)");
  t->Add("Input and output", "export", o->export_folder,
         "Write the tuned model here at the end, for transformers");
  t->Add("Length", "epochs", o->epochs, "Passes over the data")->check(CLI::PositiveNumber);
  t->Add("Length", "steps", o->steps, "Updates; 0: as --epochs says")
      ->check(CLI::NonNegativeNumber);
  t->Add("Length", "max-minutes", o->max_minutes,
         "Train and evaluate no longer than this; 0: no limit")
      ->check(CLI::NonNegativeNumber);
}

void AddLearning(FinetuneOptions* o, OptionTable* t) {
  const std::string batch = "Batch";
  t->Add(batch, "micro-batch-tokens", o->settings.micro_batch_tokens, "Tokens at a time in memory")
      ->check(CLI::PositiveNumber);
  t->Add(batch, "micro-batches", o->settings.micro_batches, "Micro-batches a step")
      ->check(CLI::PositiveNumber);
  t->Add(batch, "sequence", o->sequence, "Longest document in tokens; longer ones are cut")
      ->check(CLI::PositiveNumber);
  const std::string group = "Learning";
  t->Add(group, "learning-rate", o->learning_rate,
         "Largest learning rate, of Lion (about a tenth of AdamW's)")
      ->check(CLI::PositiveNumber);
  t->Add(group, "schedule", o->schedule, "constant, linear, cosine or wsd")
      ->check(CLI::IsMember({"constant", "linear", "cosine", "wsd"}));
  t->Add(group, "warmup", o->warmup, "Steps of linear warm-up; -1: a fiftieth of the steps")
      ->check(CLI::Range(int64_t{-1}, INT64_MAX));
  t->Add(group, "minimum-share", o->minimum_share, "Share of the learning rate left at the end")
      ->check(CLI::Range(0.0, 1.0));
  t->Add(group, "weight-decay", o->settings.weight_decay, "Decoupled weight decay");
  t->Add(group, "clip-norm", o->settings.clip_norm, "Largest norm of the gradient; 0: no clipping");
  t->Add(group, "seed", o->settings.seed, "Of the order of the data and of the rounding");
  t->AddList(group, "freeze", o->settings.freeze,
             "Tensors that stay as they are, e.g. 'model.layers.0.*'");
  t->AddList(group, "group", o->settings.groups,
             "'PATTERN:LR_FACTOR[:WEIGHT_DECAY]' sets tensors apart");
}

void AddEvaluationAndSaving(FinetuneOptions* o, OptionTable* t) {
  const std::string group = "Evaluation";
  t->Add(group, "held-out", o->held_out, "Share of the documents kept for evaluation")
      ->check(CLI::Range(0.0, 0.9));
  t->Add(group, "held-out-limit", o->held_out_limit, "Most documents kept; 0: no limit")
      ->check(CLI::NonNegativeNumber);
  t->Add(group, "eval-every", o->eval_every, "Steps between evaluations; 0: before and after only")
      ->check(CLI::NonNegativeNumber);
  t->AddList(group, "sample", o->samples, "A prompt whose answer is shown before and after");
  const std::string saving = "Checkpoints";
  t->Add(saving, "save-every", o->save_every, "Steps between checkpoints; 0: at the end only")
      ->check(CLI::NonNegativeNumber);
  t->Add(saving, "keep", o->keep, "Checkpoints kept, the newest; 0: all")
      ->check(CLI::NonNegativeNumber);
  t->Add(saving, "keep-every", o->keep_every,
         "Keep the first checkpoint of every so many steps too; 0: no more")
      ->check(CLI::NonNegativeNumber);
}

}  // namespace

void AddFinetuneOptions(CLI::App* app, FinetuneOptions* o, OptionTable* t) {
  AddInputAndLength(o, t);
  AddLearning(o, t);
  AddEvaluationAndSaving(o, t);
  t->Add("Machine", "threads", o->settings.threads, "Threads; 0: one a processor");
  t->AddList("Machine", "set", o->settings.set, "KEY=VALUE: any of the settings listed below");
  app->add_flag("--dry-run", o->dry_run, "Open everything, show the plan and its memory, stop")
      ->group("Machine");
}

void CheckFinetuneOptions(const FinetuneOptions& o) {
  if (o.sequence > o.settings.micro_batch_tokens) {
    throw Usage("--sequence must not be larger than --micro-batch-tokens");
  }
}

int32_t ScheduleKind(const std::string& name) {
  return Schedules().at(name);
}

}  // namespace qft::cli
