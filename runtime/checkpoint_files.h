// What writing, reading and pruning checkpoints share: the names on disk, and what makes a folder a
// checkpoint.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/checkpoint.h"

namespace qft {

inline constexpr int kFormatVersion = 2;
inline constexpr char kManifestName[] = "manifest.json";
inline constexpr char kStatesName[] = "states.safetensors";
inline constexpr char kPrefix[] = "step_";
inline constexpr char kTemporarySuffix[] = ".tmp";
inline constexpr char kSupersededSuffix[] = ".superseded";
inline constexpr size_t kCopyBytes = 4 << 20;

StatusOr<std::string> HashFile(FileSystem& fs, const std::string& path, uint64_t& size);
// The manifest of one folder, with every file it names present in the size and with the hash it
// says.
StatusOr<CheckpointFiles> VerifyCheckpoint(FileSystem& fs, const std::string& path);
// Steps of the folder's checkpoints, newest first.
StatusOr<std::vector<int64_t>> ListSteps(FileSystem& fs, const std::string& folder);

}  // namespace qft
