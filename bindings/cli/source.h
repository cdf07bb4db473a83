// A model, with or without a checkpoint over it, opened for use: what eval, generate and export
// share.
#pragma once

#include <string>
#include <vector>

#include "bindings/cli/options.h"
#include "bindings/cli/run_folder.h"
#include "bindings/cli/settings.h"

namespace qft::cli {

// The library's warnings on stderr.
qft_session_options SessionOptions();

Model LoadModel(const std::string& path);
Tokenizer LoadTokenizer(const std::string& path);
// Null where the model has none.
Tokenizer LoadTokenizerIfAny(const std::string& path);
Session OpenSession(const Model& model, const Settings& settings);
// The newest whole checkpoint at `path`; ones passed over are told on stderr.
Checkpoint OpenCheckpoint(const std::filesystem::path& path);

// The micro-batch of sessions that generate or export.
constexpr int64_t kSessionTokens = 256;

class Source {
 public:
  // --model, --checkpoint, --threads, --set.
  void AddOptions(OptionTable& options);
  // Finds model, run and checkpoint; before Open. run_config() is known from here on.
  void Locate();
  // Loads the model and opens the session. micro_batch_tokens: of the session.
  void Open(int64_t micro_batch_tokens);

  const std::string& model_path() const { return model_path_; }
  const Model& model() const { return model_; }
  const Session& session() const { return session_; }
  // The run's config.json; empty without a run.
  const nlohmann::json& run_config() const { return place_.config; }

 private:
  std::string model_path_;
  std::string checkpoint_path_;
  int64_t threads_ = 0;
  std::vector<std::string> set_;
  CheckpointPlace place_;
  Model model_;
  Session session_;
};

}  // namespace qft::cli
