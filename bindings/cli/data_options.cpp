#include "bindings/cli/data_options.h"

#include <cstdlib>
#include <filesystem>

#include "bindings/cli/failure.h"

namespace qft::cli {
namespace {

namespace fs = std::filesystem;

}  // namespace

CLI::Option* AddDataOptions(const std::string& group, DataOptions* o, OptionTable* t) {
  CLI::Option* files = t->AddList(
      group, "data", o->files,
      "JSON lines or a file of tokens; PATH=WEIGHT mixes several, each with its own --data");
  t->Add(group, "data-form", o->form,
         "text, prompt-completion, alpaca, messages or sharegpt; auto: as the fields tell");
  AddChatOptions(group, &o->chat_template, &o->chat_date, t);
  t->Add(group, "data-memory", o->memory,
         "Most memory for tokens, e.g. 512M; others are read again from their file; 0: no limit")
      ->transform(CLI::AsSizeValue(true));
  t->AddFlag(group, "skip-bad-records", o->skip_bad,
             "Leave out records that are wrong, instead of stopping");
  return files;
}

void AddChatOptions(const std::string& group, std::string* name, std::string* date,
                    OptionTable* table) {
  table->Add(group, "chat-template", *name,
             "chatml, llama-2, llama-3, llama-3.1, mistral-v0, mistral-v1, mistral-v3, "
             "mistral-v3-tekken, qwen2, qwen2.5, qwen3, smollm2 or zephyr (default: the model's)");
  table->Add(group, "chat-date", *date, "Date in the texts of llama-3.1 (default: 26 Jul 2024)");
}

DataFileOption ParseDataFile(const std::string& text) {
  const size_t equals = text.rfind('=');
  std::error_code ignored;
  if (equals == std::string::npos || equals + 1 == text.size() || fs::exists(text, ignored)) {
    return {text, 0};
  }
  char* end = nullptr;
  const double weight = strtod(text.c_str() + equals + 1, &end);
  if (*end != '\0') return {text, 0};
  if (!(weight > 0)) throw Usage("--data " + text + ": the weight must be above 0");
  return {text.substr(0, equals), weight};
}

void MakeAbsolute(std::vector<std::string>* files) {
  for (std::string& text : *files) {
    const DataFileOption file = ParseDataFile(text);
    const std::string path = fs::absolute(file.path).lexically_normal().string();
    text = path + text.substr(file.path.size());
  }
}

void TakeRunData(const nlohmann::json& run, DataOptions* o) {
  if (!o->files.empty() || !run.contains("data")) return;
  // Runs of versions before mixtures have one path.
  if (run["data"].is_string()) {
    o->files = {run["data"].get<std::string>()};
  } else {
    o->files = run["data"].get<std::vector<std::string>>();
  }
  if (o->form == DataOptions().form) o->form = run.value("data-form", o->form);
  if (o->chat_template.empty()) o->chat_template = run.value("chat-template", "");
  if (o->chat_date.empty()) o->chat_date = run.value("chat-date", "");
  if (o->memory == 0) o->memory = run.value("data-memory", o->memory);
  if (!o->skip_bad) o->skip_bad = run.value("skip-bad-records", false);
}

Dataset OpenDataset(const DataOptions& options, const Tokenizer& tokenizer,
                    qft_dataset_options rest) {
  rest.form = options.form.data();
  rest.form_length = options.form.size();
  rest.chat_template = options.chat_template.data();
  rest.chat_template_length = options.chat_template.size();
  rest.chat_date = options.chat_date.data();
  rest.chat_date_length = options.chat_date.size();
  rest.memory_limit = options.memory;
  rest.skip_bad = options.skip_bad ? 1 : 0;
  std::vector<DataFileOption> parsed;
  for (const std::string& text : options.files) parsed.push_back(ParseDataFile(text));
  std::vector<qft_dataset_file> files;
  for (const DataFileOption& file : parsed) {
    files.push_back(Sized<qft_dataset_file>());
    files.back().path = file.path.data();
    files.back().path_length = file.path.size();
    files.back().weight = file.weight;
  }
  const qft_dataset_file* first = files.data();
  return Make<Dataset>(qft_dataset_open_files, first, static_cast<int64_t>(files.size()),
                       tokenizer.get(), &rest);
}

}  // namespace qft::cli
