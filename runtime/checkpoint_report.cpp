#include "runtime/checkpoint_report.h"

#include <algorithm>
#include <charconv>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "runtime/checkpoint_ranges.h"

namespace qft {
namespace {

using nlohmann::ordered_json;

const char* KindName(CheckpointKind kind) {
  switch (kind) {
    case CheckpointKind::kCheckpoint:
      return "checkpoint";
    case CheckpointKind::kTemporary:
      return "temporary";
    case CheckpointKind::kSuperseded:
      return "superseded";
  }
  return "";
}

// The last name of a path, without slashes behind it.
std::string BaseName(const std::string& path) {
  const size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return path;
  const size_t slash = path.find_last_of('/', end);
  const size_t begin = slash == std::string::npos ? 0 : slash + 1;
  return path.substr(begin, end + 1 - begin);
}

// What can't be listed or opened counts nothing: it is found wrong where it is needed.
uint64_t BytesOfFiles(FileSystem& fs, const std::string& folder) {
  const StatusOr<std::vector<std::string>> names = fs.List(folder);
  if (!names.ok()) return 0;
  uint64_t bytes = 0;
  for (const std::string& name : *names) {
    const StatusOr<std::unique_ptr<File>> file = fs.Open(JoinPath(folder, name), OpenMode::kRead);
    if (file.ok()) bytes += (*file)->Size().value_or(0);
  }
  return bytes;
}

// Name, step and bytes, nothing checked.
CheckpointEntry Describe(FileSystem& fs, const std::string& path) {
  CheckpointEntry entry;
  entry.path = path;
  entry.name = BaseName(path);
  if (const auto name = ParseCheckpointName(entry.name)) {
    entry.kind = name->kind;
    entry.step = name->step;
  }
  entry.bytes = BytesOfFiles(fs, path);
  return entry;
}

ordered_json ToJson(const CheckpointEntry& entry) {
  ordered_json json = {{"name", entry.name},
                       {"kind", KindName(entry.kind)},
                       {"step", entry.step},
                       {"bytes", entry.bytes},
                       {"whole", entry.checked() ? ordered_json(entry.whole()) : ordered_json()},
                       {"ranges", ordered_json::array()}};
  for (const CheckedRange& range : entry.ranges) {
    json["ranges"].push_back({{"file", range.file},
                              {"tensor", range.tensor},
                              {"begin", range.begin},
                              {"end", range.end},
                              {"problem", range.problem}});
  }
  return json;
}

}  // namespace

ordered_json EntriesToJson(const std::vector<CheckpointEntry>& entries) {
  ordered_json json = ordered_json::array();
  for (const CheckpointEntry& entry : entries) json.push_back(ToJson(entry));
  return json;
}

std::optional<CheckpointName> ParseCheckpointName(const std::string& name) {
  CheckpointName result;
  absl::string_view digits = name;
  if (!absl::ConsumePrefix(&digits, kCheckpointPrefix)) return std::nullopt;
  if (absl::ConsumeSuffix(&digits, kTemporarySuffix)) {
    result.kind = CheckpointKind::kTemporary;
  } else if (absl::ConsumeSuffix(&digits, kSupersededSuffix)) {
    result.kind = CheckpointKind::kSuperseded;
  }
  const char* end = digits.data() + digits.size();
  const auto parsed = std::from_chars(digits.data(), end, result.step);
  if (parsed.ec != std::errc() || parsed.ptr != end || result.step < 0) return std::nullopt;
  return result;
}

bool CheckpointEntry::whole() const {
  return std::all_of(ranges.begin(), ranges.end(),
                     [](const CheckedRange& range) { return range.problem.empty(); });
}

ordered_json CheckpointReport::ToJson() const {
  return {{"folder", folder}, {"entries", EntriesToJson(entries)}};
}

CheckpointEntry CheckCheckpoint(FileSystem& fs, const std::string& path, CheckpointCheck check) {
  CheckpointEntry entry = Describe(fs, path);
  const StatusOr<Manifest> manifest = ReadManifest(fs, path);
  if (!manifest.ok()) {
    entry.ranges.push_back({kManifestName, "", 0, 0, std::string(manifest.status().message())});
    return entry;
  }
  if (!ParseCheckpointName(entry.name).has_value()) entry.step = manifest->step;
  entry.ranges.push_back({kManifestName, "", 0, manifest->text.size(), ""});
  for (const HashedBytes& file : manifest->files) {
    CheckFile(fs, path, *manifest, file, check, &entry.ranges);
  }
  return entry;
}

StatusOr<bool> IsOneCheckpoint(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const bool is_directory, fs.IsDirectory(path));
  if (!is_directory) {
    return MakeError(ErrorCode::kNotFound, absl::StrCat(path, ": no such folder"));
  }
  if (ParseCheckpointName(BaseName(path)).has_value()) return true;
  return fs.Exists(JoinPath(path, kManifestName));
}

StatusOr<CheckpointReport> ReportCheckpoints(FileSystem& fs, const std::string& path,
                                             CheckpointCheck check) {
  CheckpointReport report;
  QFT_ASSIGN_OR_RETURN(const bool single, IsOneCheckpoint(fs, path));
  if (single) {
    report.folder = ParentPath(path);
    report.entries.push_back(CheckCheckpoint(fs, path, check));
    return report;
  }
  report.folder = path;
  QFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(path));
  for (const std::string& name : names) {
    const auto parsed = ParseCheckpointName(name);
    if (!parsed.has_value()) continue;
    const std::string place = JoinPath(path, name);
    report.entries.push_back(parsed->kind == CheckpointKind::kCheckpoint
                                 ? CheckCheckpoint(fs, place, check)
                                 : Describe(fs, place));
  }
  std::stable_sort(
      report.entries.begin(), report.entries.end(),
      [](const CheckpointEntry& a, const CheckpointEntry& b) { return a.step < b.step; });
  return report;
}

}  // namespace qft
