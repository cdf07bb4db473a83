// manifest.json: what a checkpoint is and what each of its bytes should be.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/status.h"

namespace qft {

inline constexpr int kCheckpointFormatVersion = 2;
inline constexpr char kManifestName[] = "manifest.json";
inline constexpr char kStatesName[] = "states.safetensors";
inline constexpr size_t kCheckpointCopyBytes = 4 << 20;  // read or written at a time

// What the manifest says of a file, or of a tensor's data.
struct HashedBytes {
  std::string name;
  uint64_t bytes = 0;
  std::string hash;  // xxh3-128
};

struct Manifest {
  std::string text;
  int64_t step = 0;
  std::string blob;
  std::vector<HashedBytes> files;    // ascending by name, states.safetensors among them
  std::vector<HashedBytes> tensors;  // ascending by name
};

// The text of manifest.json, whose last key is the hash of all that stands before it.
std::string SealManifest(const nlohmann::ordered_json& manifest);

// The manifest of the checkpoint at `path`. Errors: kFileNotFound; kCorrupt; kUnsupported (another
// format version, which is whole as far as can be told).
StatusOr<Manifest> ReadManifest(FileSystem& fs, const std::string& path);

}  // namespace qft
