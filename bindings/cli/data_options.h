// Which data a command reads and how its records are taken: what finetune, eval and data share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bindings/cli/handles.h"
#include "bindings/cli/options.h"

namespace qft::cli {

struct DataOptions {
  std::vector<std::string> files;  // PATH or PATH=WEIGHT
  std::string form = "auto";
  std::string chat_template;
  std::string chat_date;
  int64_t memory = 0;  // bytes of tokens; 0: no limit
  bool skip_bad = false;
};

// Registers --data, --data-form, --chat-template, --chat-date, --data-memory, --skip-bad-records.
// The file option is returned.
CLI::Option* AddDataOptions(const std::string& group, DataOptions* options, OptionTable* table);
// --chat-template and --chat-date alone.
void AddChatOptions(const std::string& group, std::string* name, std::string* date,
                    OptionTable* table);

struct DataFileOption {
  std::string path;
  double weight = 0;  // 0: none was given
};

// "PATH=0.7" unless there is a file of that whole name.
DataFileOption ParseDataFile(const std::string& text);
// Paths become absolute, weights stay.
void MakeAbsolute(std::vector<std::string>* files);
// What a run's config.json says, where `options` has no files of its own.
void TakeRunData(const nlohmann::json& run, DataOptions* options);

// The batches' sizes and what is held out are set in `rest`, all else comes from `options`.
Dataset OpenDataset(const DataOptions& options, const Tokenizer& tokenizer,
                    qft_dataset_options rest);

}  // namespace qft::cli
