// Whether the bytes of a checkpoint's file are those that its manifest tells of.
#pragma once

#include <string>
#include <vector>

#include "runtime/checkpoint_report.h"

namespace qft {

// Appends what was looked at of one file of the checkpoint at `path`: the file, and with kHashes,
// for which it is read once, each tensor in it.
void CheckFile(FileSystem& fs, const std::string& path, const Manifest& manifest,
               const HashedBytes& file, CheckpointCheck check, std::vector<CheckedRange>* ranges);

}  // namespace qft
