#include "runtime/checkpoint_retention.h"

#include <algorithm>
#include <set>

#include "runtime/checkpoint_files.h"

namespace qft {
namespace {

using nlohmann::ordered_json;

bool IsCheckpoint(const CheckpointEntry& entry) {
  return entry.kind == CheckpointKind::kCheckpoint;
}

// Steps of whole checkpoints, ascending.
std::vector<int64_t> WholeSteps(const std::vector<CheckpointEntry>& entries) {
  std::vector<int64_t> steps;
  for (const CheckpointEntry& entry : entries) {
    if (IsCheckpoint(entry) && entry.whole()) steps.push_back(entry.step);
  }
  return steps;
}

// The first step in each [n, n + 1) * every, n > 0: what is one once stays one, whatever is saved
// later, and a save that came a step late is one too.
std::set<int64_t> Milestones(const std::vector<int64_t>& steps, int64_t every) {
  std::set<int64_t> milestones;
  if (every == 0) return milestones;
  int64_t last = 0;
  for (const int64_t step : steps) {
    if (step / every > last) milestones.insert(step);
    last = step / every;
  }
  return milestones;
}

// Moves the entries that go to `removed`, the others to `kept`.
void Divide(std::vector<CheckpointEntry> entries, const Retention& retention, PruneReport* report) {
  const std::vector<int64_t> steps = WholeSteps(entries);
  const std::set<int64_t> milestones = Milestones(steps, retention.keep_every);
  const auto keep = std::min<size_t>(static_cast<size_t>(retention.keep), steps.size());
  const int64_t newest = steps.back();
  const int64_t oldest_kept = steps[steps.size() - keep];
  for (CheckpointEntry& entry : entries) {
    bool goes = false;
    switch (entry.kind) {
      case CheckpointKind::kCheckpoint:
        goes = entry.step < oldest_kept && !(entry.whole() && milestones.count(entry.step) > 0);
        break;
      case CheckpointKind::kTemporary:
        goes = entry.step <= newest;
        break;
      case CheckpointKind::kSuperseded:
        goes = retention.superseded;
        break;
    }
    (goes ? report->removed : report->kept).push_back(std::move(entry));
  }
}

// A checkpoint is renamed first, so that a crash half way leaves no folder that looks like one.
Status Remove(FileSystem& fs, const CheckpointEntry& entry) {
  if (!IsCheckpoint(entry)) return RemoveTree(fs, entry.path);
  const std::string temporary = entry.path + kTemporarySuffix;
  QFT_RETURN_IF_ERROR(RemoveTree(fs, temporary));
  QFT_RETURN_IF_ERROR(fs.Rename(entry.path, temporary));
  return RemoveTree(fs, temporary);
}

Status VerifyNewest(FileSystem& fs, CheckpointEntry& newest) {
  newest = CheckCheckpoint(fs, newest.path, CheckpointCheck::kHashes);
  for (const CheckedRange& range : newest.ranges) {
    if (range.problem.empty()) continue;
    return Corrupt(JoinPath(newest.path, range.file), ": ", range.problem,
                   "; nothing was removed: put the newest checkpoint back or remove it first");
  }
  return absl::OkStatus();
}

}  // namespace

ordered_json PruneReport::ToJson() const {
  uint64_t freed = 0;
  for (const CheckpointEntry& entry : removed) freed += entry.bytes;
  ordered_json json = {{"folder", folder}, {"dry_run", dry_run}, {"freed_bytes", freed}};
  json["removed"] = EntriesToJson(removed);
  json["kept"] = EntriesToJson(kept);
  return json;
}

Status SetAsideLater(FileSystem& fs, const std::string& folder, int64_t step) {
  QFT_ASSIGN_OR_RETURN(const std::vector<int64_t> steps, ListSteps(fs, folder));
  // The newest last, and each durably: at no time is one of those between the newest, which would
  // be neither the state before nor the one after.
  for (auto later = steps.rbegin(); later != steps.rend(); ++later) {
    if (*later <= step) continue;
    const std::string path = JoinPath(folder, absl::StrCat(kCheckpointPrefix, *later));
    QFT_RETURN_IF_ERROR(RemoveTree(fs, path + kSupersededSuffix));
    QFT_RETURN_IF_ERROR(fs.Rename(path, path + kSupersededSuffix));
    QFT_RETURN_IF_ERROR(fs.SyncDirectory(folder));
  }
  return absl::OkStatus();
}

StatusOr<PruneReport> PruneCheckpoints(FileSystem& fs, const std::string& folder,
                                       const Retention& retention) {
  if (retention.keep < 1 || retention.keep_every < 0) {
    return MakeError(ErrorCode::kOutOfRange, absl::StrCat("keep is ", retention.keep,
                                                          ", keep_every ", retention.keep_every));
  }
  QFT_ASSIGN_OR_RETURN(const bool single, IsOneCheckpoint(fs, folder));
  if (single) return InvalidArgument(folder, ": a checkpoint, not a folder of them");
  QFT_ASSIGN_OR_RETURN(CheckpointReport found,
                       ReportCheckpoints(fs, folder, CheckpointCheck::kSizes));
  PruneReport report{folder, retention.dry_run, {}, {}};
  const auto newest = std::find_if(found.entries.rbegin(), found.entries.rend(), IsCheckpoint);
  if (newest == found.entries.rend()) {
    report.kept = std::move(found.entries);
    return report;
  }
  QFT_RETURN_IF_ERROR(VerifyNewest(fs, *newest));
  Divide(std::move(found.entries), retention, &report);
  if (retention.dry_run) return report;
  // A save that was killed may have renamed the newest and not synced it.
  QFT_RETURN_IF_ERROR(fs.SyncDirectory(folder));
  for (const CheckpointEntry& entry : report.removed) QFT_RETURN_IF_ERROR(Remove(fs, entry));
  return report;
}

}  // namespace qft
