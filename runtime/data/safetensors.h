// safetensors files: read whole folders, write one file as a stream.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/hash.h"
#include "base/status.h"
#include "runtime/data/tensor_source.h"

namespace qft {

inline constexpr uint64_t kMaxSafetensorsHeader = 100'000'000;  // as the reference implementation
inline constexpr char kSafetensorsFileName[] = "model.safetensors";
inline constexpr char kSafetensorsIndexName[] = "model.safetensors.index.json";

struct SafetensorsFile {
  std::map<std::string, std::string> metadata;
  std::unique_ptr<StoredTensorSource> tensors;
};

// Opens one file. The header is checked completely: every byte of the file belongs to exactly one
// tensor, whose type and shape ask for just these bytes.
StatusOr<SafetensorsFile> OpenSafetensorsFile(FileSystem& fs, const std::string& path);

// Opens model.safetensors or, where there is none, all the shards that
// model.safetensors.index.json names. Index and shards must name the same tensors.
StatusOr<std::unique_ptr<TensorSource>> OpenSafetensorsFolder(FileSystem& fs,
                                                              const std::string& folder);

// Writes one file whose tensors are declared beforehand and whose data then comes in that order.
// What was written becomes visible under its path only by Finish.
class SafetensorsWriter {
 public:
  // Plain types only. Each tensor must start at a multiple of its element size, as readers that
  // map the file rely on: declare wider types first.
  static StatusOr<std::unique_ptr<SafetensorsWriter>> Create(
      FileSystem& fs, const std::string& path, const std::vector<TensorInfo>& tensors,
      const std::map<std::string, std::string>& metadata);
  ~SafetensorsWriter();

  // The next `size` bytes of data, in any split.
  Status Append(const void* data, uint64_t size);
  // All declared bytes must have come. Durable on success; after any other failure than missing
  // data the writer is over.
  Status Finish();
  // Bytes of the whole file.
  uint64_t size() const { return end_; }
  // xxh3-128 of what was written so far, after Finish of the whole file.
  std::string Hash() const { return hasher_.Hex(); }

 private:
  SafetensorsWriter(FileSystem& fs, std::string path, std::unique_ptr<File> file, uint64_t position,
                    uint64_t end);
  Status Publish(File& file);

  FileSystem& fs_;
  std::string path_;
  std::unique_ptr<File> file_;
  uint64_t position_;
  uint64_t end_;
  Hasher hasher_;
};

}  // namespace qft
