#include <algorithm>
#include <charconv>
#include <optional>

#include "absl/strings/match.h"
#include "runtime/checkpoint_files.h"

namespace qft {
namespace {

// N of "step_N", nothing for other names.
std::optional<int64_t> StepOfName(const std::string& name) {
  const std::string prefix = kPrefix;
  if (name.rfind(prefix, 0) != 0) return std::nullopt;
  int64_t step = 0;
  const char* end = name.data() + name.size();
  const auto parsed = std::from_chars(name.data() + prefix.size(), end, step);
  if (parsed.ec != std::errc() || parsed.ptr != end || step < 0) return std::nullopt;
  return step;
}

// Temporary folders of steps up to `newest`: a later one may be a save that is being prepared.
Status RemoveTornSaves(FileSystem& fs, const std::string& folder, int64_t newest) {
  QFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(folder));
  for (const std::string& name : names) {
    if (!absl::EndsWith(name, kTemporarySuffix)) continue;
    const std::optional<int64_t> step =
        StepOfName(name.substr(0, name.size() - (sizeof(kTemporarySuffix) - 1)));
    if (step.has_value() && *step <= newest) {
      QFT_RETURN_IF_ERROR(RemoveTree(fs, JoinPath(folder, name)));
    }
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<std::vector<int64_t>> ListSteps(FileSystem& fs, const std::string& folder) {
  QFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(folder));
  std::vector<int64_t> steps;
  for (const std::string& name : names) {
    if (const std::optional<int64_t> step = StepOfName(name)) steps.push_back(*step);
  }
  std::sort(steps.rbegin(), steps.rend());
  return steps;
}

Status SetAsideLater(FileSystem& fs, const std::string& folder, int64_t step) {
  QFT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListSteps(fs, folder));
  for (const int64_t later : steps) {
    if (later <= step) break;
    const std::string path = JoinPath(folder, absl::StrCat(kPrefix, later));
    QFT_RETURN_IF_ERROR(RemoveTree(fs, path + kSupersededSuffix));
    QFT_RETURN_IF_ERROR(fs.Rename(path, path + kSupersededSuffix));
  }
  return absl::OkStatus();
}

Status PruneCheckpoints(FileSystem& fs, const std::string& folder, int64_t keep) {
  QFT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListSteps(fs, folder));
  if (steps.empty() || keep <= 0) return absl::OkStatus();
  QFT_RETURN_IF_ERROR(
      VerifyCheckpoint(fs, JoinPath(folder, absl::StrCat(kPrefix, steps[0]))).status());
  QFT_RETURN_IF_ERROR(RemoveTornSaves(fs, folder, steps[0]));
  for (size_t i = static_cast<size_t>(keep); i < steps.size(); ++i) {
    // Renamed first, so that a crash half way leaves no folder that looks like a checkpoint.
    const std::string path = JoinPath(folder, absl::StrCat(kPrefix, steps[i]));
    QFT_RETURN_IF_ERROR(fs.Rename(path, path + kTemporarySuffix));
    QFT_RETURN_IF_ERROR(RemoveTree(fs, path + kTemporarySuffix));
  }
  return absl::OkStatus();
}

}  // namespace qft
