// What `qft finetune` can be told.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "bindings/cli/data_options.h"
#include "bindings/cli/options.h"
#include "bindings/cli/settings.h"

namespace qft::cli {

struct FinetuneOptions {
  std::string model;
  DataOptions data;
  std::string output;
  std::string export_folder;
  Settings settings;

  int64_t steps = 0;  // 0: from epochs
  double epochs = 1;
  int64_t sequence = 512;
  double learning_rate = 1e-5;
  std::string schedule = "cosine";
  int64_t warmup = -1;  // -1: a fiftieth of the steps
  double minimum_share = 0.1;
  double max_minutes = 0;  // 0: no limit

  double held_out = 0.05;
  int64_t held_out_limit = 256;
  int64_t eval_every = 0;
  std::vector<std::string> samples;

  int64_t save_every = 500;
  int64_t keep = 2;
  int64_t keep_every = 0;
  bool dry_run = false;
};

// Registers the options; `table` knows those that config.json keeps.
void AddFinetuneOptions(CLI::App* app, FinetuneOptions* options, OptionTable* table);

// What the parser cannot know: combinations and ranges. Bad usage is a Failure.
void CheckFinetuneOptions(const FinetuneOptions& options);

// QFT_SCHEDULE_* of a name.
int32_t ScheduleKind(const std::string& name);

}  // namespace qft::cli
