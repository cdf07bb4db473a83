// The layout of a run's folder and how a path someone types leads to a checkpoint.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

namespace qft::cli {

struct RunFolder {
  std::filesystem::path root;

  std::filesystem::path config() const { return root / "config.json"; }
  std::filesystem::path metrics() const { return root / "metrics.jsonl"; }
  std::filesystem::path summary() const { return root / "summary.json"; }
  std::filesystem::path checkpoints() const { return root / "checkpoints"; }
};

// Where a checkpoint is, and the run it belongs to where that is known.
struct CheckpointPlace {
  std::filesystem::path path;                        // a checkpoint or a folder of them
  RunFolder run;                                     // root empty: unknown
  nlohmann::json config = nlohmann::json::object();  // the run's config.json
};

// path: a run's folder, its folder of checkpoints, or one checkpoint.
CheckpointPlace FindCheckpoint(const std::string& path);

// Whether path looks like what FindCheckpoint takes, rather than like a model.
bool IsCheckpoint(const std::string& path);

// Fails when the folder already has something in it, so that nothing is learnt after hours.
void CheckIsNew(const std::string& folder, const std::string& what);

}  // namespace qft::cli
