#include "bindings/cli/source.h"

#include <cstdio>

#include "bindings/cli/failure.h"
#include "bindings/cli/model_path.h"

namespace qft::cli {
namespace {

constexpr int32_t kLogWarning = 1;

void OnLog(void*, int32_t level, const char* message, size_t length) {
  if (level > kLogWarning) return;
  fprintf(stderr, "qft: %.*s\n", static_cast<int>(length), message);
}

}  // namespace

qft_session_options SessionOptions() {
  qft_session_options options = Sized<qft_session_options>();
  options.log = OnLog;
  return options;
}

Model LoadModel(const std::string& path) {
  return Make<Model>(qft_model_load, path.data(), path.size());
}

Tokenizer LoadTokenizer(const std::string& path) {
  return Make<Tokenizer>(qft_tokenizer_load, path.data(), path.size());
}

Tokenizer LoadTokenizerIfAny(const std::string& path) {
  qft_tokenizer* tokenizer = nullptr;
  std::string message;
  const qft_status status = Try(&message, qft_tokenizer_load, path.data(), path.size(), &tokenizer);
  if (status != QFT_OK && status != QFT_ERROR_FILE_NOT_FOUND) throw Failure(message);
  return Tokenizer(tokenizer);
}

Session OpenSession(const Model& model, const Settings& settings) {
  const Config config = MakeConfig(settings);
  const qft_session_options options = SessionOptions();
  return Make<Session>(qft_session_open, model.get(), config.get(), &options);
}

Checkpoint OpenCheckpoint(const std::filesystem::path& path) {
  const std::string name = path.string();
  qft_checkpoint* raw = nullptr;
  const char* warning = "";
  Call(qft_checkpoint_open, name.data(), name.size(), &raw, &warning);
  if (warning != nullptr && *warning != '\0') {
    fprintf(stderr, "qft: %s\nqft: `qft checkpoint verify %s` tells what is damaged\n", warning,
            name.c_str());
  }
  return Checkpoint(raw);
}

void Source::AddOptions(OptionTable& options) {
  options.Add(
      "Input", "model", model_path_,
      "Hugging Face folder, GGUF file, or ORG/NAME in the local Hugging Face cache (default: "
      "the run's)");
  options.Add("Input", "checkpoint", checkpoint_path_,
              "A run's folder, its checkpoints or one of them (default: the model as it is)");
  options.Add("Machine", "threads", threads_, "Threads; 0: one a processor");
  options.AddList("Machine", "set", set_,
                  "KEY=VALUE: a setting of the session, e.g. arithmetic=float");
}

void Source::Locate() {
  if (!checkpoint_path_.empty()) place_ = FindCheckpoint(checkpoint_path_);
  if (model_path_.empty()) model_path_ = place_.config.value("model", "");
  model_path_ = FindModel(model_path_);
  if (model_path_.empty()) {
    throw Usage(checkpoint_path_.empty() ? "--model or --checkpoint is needed"
                                         : "--model is needed: the checkpoint's run is not known");
  }
}

void Source::Open(int64_t micro_batch_tokens) {
  Settings settings = InferenceSettings(place_.config);
  settings.set.insert(settings.set.end(), set_.begin(), set_.end());
  settings.threads = threads_;
  settings.micro_batch_tokens = micro_batch_tokens;
  model_ = LoadModel(model_path_);
  session_ = OpenSession(model_, settings);
  if (checkpoint_path_.empty()) return;
  const Checkpoint checkpoint = OpenCheckpoint(place_.path);
  Call(qft_session_restore, session_.get(), checkpoint.get());
}

}  // namespace qft::cli
