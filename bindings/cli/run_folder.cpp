#include "bindings/cli/run_folder.h"

#include "bindings/cli/failure.h"
#include "bindings/cli/files.h"

namespace qft::cli {
namespace {

namespace fs = std::filesystem;

fs::path WithoutTrailingSlash(const std::string& path) {
  const fs::path clean = fs::absolute(path).lexically_normal();
  return clean.has_filename() ? clean : clean.parent_path();
}

// The run around a folder of checkpoints or one checkpoint in it; empty when there is none.
fs::path RunAround(const fs::path& path) {
  if (path.filename() == "checkpoints") return path.parent_path();
  if (path.parent_path().filename() == "checkpoints") return path.parent_path().parent_path();
  return {};
}

}  // namespace

CheckpointPlace FindCheckpoint(const std::string& path) {
  const fs::path clean = WithoutTrailingSlash(path);
  CheckpointPlace place;
  if (!fs::exists(clean)) throw Failure(path + ": no such checkpoint or run");
  const RunFolder run{clean};
  if (fs::is_directory(run.checkpoints())) {
    place.path = run.checkpoints();
    place.run = run;
  } else {
    if (fs::exists(run.metrics())) throw Failure(path + ": this run has saved no checkpoint");
    place.path = clean;
    place.run = RunFolder{RunAround(clean)};
  }
  if (!place.run.root.empty() && fs::exists(place.run.config())) {
    place.config = ReadJson(place.run.config());
  }
  return place;
}

bool IsCheckpoint(const std::string& path) {
  const fs::path clean = WithoutTrailingSlash(path);
  return fs::is_directory(clean / "checkpoints") || fs::exists(clean / "manifest.json") ||
         clean.filename() == "checkpoints";
}

void CheckIsNew(const std::string& folder, const std::string& what) {
  std::error_code ignored;
  if (fs::exists(folder) && !(fs::is_directory(folder) && fs::is_empty(folder, ignored))) {
    throw Usage(folder + ": " + what + " must be a new or an empty folder");
  }
}

}  // namespace qft::cli
