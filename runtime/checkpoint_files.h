// What writing, reading and keeping checkpoints share.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/checkpoint.h"
#include "runtime/checkpoint_report.h"

namespace qft {

// The checkpoint of one folder, with every file that its manifest names present in the size and
// with the hash it says.
StatusOr<CheckpointFiles> VerifyCheckpoint(FileSystem& fs, const std::string& path);
// Steps of the folder's checkpoints, newest first.
StatusOr<std::vector<int64_t>> ListSteps(FileSystem& fs, const std::string& folder);

}  // namespace qft
