// What lies in a folder of checkpoints and whether it is whole, byte range by byte range.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "runtime/checkpoint_manifest.h"

namespace qft {

inline constexpr char kCheckpointPrefix[] = "step_";
inline constexpr char kTemporarySuffix[] = ".tmp";
inline constexpr char kSupersededSuffix[] = ".superseded";

enum class CheckpointKind {
  kCheckpoint,  // step_N
  kTemporary,   // step_N.tmp: a save that has not ended, or was torn; never loaded
  kSuperseded,  // step_N.superseded: of a course that was left; never loaded
};

// A folder's place among checkpoints, from its name alone; nothing for other names.
struct CheckpointName {
  CheckpointKind kind = CheckpointKind::kCheckpoint;
  int64_t step = 0;
};
std::optional<CheckpointName> ParseCheckpointName(const std::string& name);

enum class CheckpointCheck {
  kSizes,   // manifest whole, files there and of the size that it says
  kHashes,  // and every byte what it was
};

// Bytes [begin, end) of a file. tensor: empty where they belong to none, or to no certain one.
struct CheckedRange {
  std::string file;
  std::string tensor;
  uint64_t begin = 0;
  uint64_t end = 0;
  std::string problem;  // empty: these bytes are what was written
};

struct CheckpointEntry {
  std::string name;  // in its folder
  std::string path;
  CheckpointKind kind = CheckpointKind::kCheckpoint;
  int64_t step = 0;    // of its name, by which a folder's newest is found; else the manifest's
  uint64_t bytes = 0;  // of all its files, whether the manifest knows them or not
  std::vector<CheckedRange> ranges;  // empty: not looked at

  bool checked() const { return !ranges.empty(); }
  bool whole() const;
};

nlohmann::ordered_json EntriesToJson(const std::vector<CheckpointEntry>& entries);

struct CheckpointReport {
  std::string folder;
  std::vector<CheckpointEntry> entries;  // ascending by step

  nlohmann::ordered_json ToJson() const;
};

// One checkpoint, whatever is wrong with it.
CheckpointEntry CheckCheckpoint(FileSystem& fs, const std::string& path, CheckpointCheck check);
// Whether `path` is a checkpoint, whole or not, rather than a folder of them.
// Errors: kNotFound (no such folder), kIo.
StatusOr<bool> IsOneCheckpoint(FileSystem& fs, const std::string& path);
// path: a checkpoint, or a folder of them. What is temporary or superseded is looked at only where
// path names it. Errors: kNotFound (no such folder), kIo.
StatusOr<CheckpointReport> ReportCheckpoints(FileSystem& fs, const std::string& path,
                                             CheckpointCheck check);

}  // namespace qft
