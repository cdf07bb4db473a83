// Which checkpoints of a folder stay.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/checkpoint_report.h"

namespace qft {

struct Retention {
  int64_t keep = 1;         // the newest whole ones, at least 1
  int64_t keep_every = 0;   // and the first whole one of every so many steps; 0: none
  bool superseded = false;  // what is superseded goes too
  bool dry_run = false;     // only tells
};

struct PruneReport {
  std::string folder;
  bool dry_run = false;
  std::vector<CheckpointEntry> removed;
  std::vector<CheckpointEntry> kept;

  nlohmann::ordered_json ToJson() const;
};

// Removes what `retention` does not keep, and what torn saves left behind: temporary folders of
// steps up to the newest checkpoint's, as a later one may be a save that is under way. A checkpoint
// that is not whole counts for nothing: it stays beside newer ones that are kept and goes with
// older ones. The newest is verified by its hashes before anything goes. Errors: kCorrupt (it is
// not whole), kOutOfRange, kInvalidArgument (`folder` is a checkpoint), kNotFound, kIo.
StatusOr<PruneReport> PruneCheckpoints(FileSystem& fs, const std::string& folder,
                                       const Retention& retention);

}  // namespace qft
