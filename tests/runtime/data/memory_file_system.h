// Files in memory, so that thousands of broken ones cost nothing to try.
#pragma once

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"

namespace qft {

class MemoryFileSystem final : public FileSystem {
 public:
  // Path to content. Folders exist as long as a file lies in them.
  std::map<std::string, std::string> files;
  bool fail_sync = false;

  StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override {
    if (mode == OpenMode::kCreate) files[path].clear();
    if (!files.contains(path)) return MakeError(ErrorCode::kFileNotFound, "open " + path);
    return std::unique_ptr<File>(new MemoryFile(&files[path], &fail_sync));
  }
  Status Rename(const std::string& from, const std::string& to) override {
    files[to] = files.at(from);
    return Unlink(from);
  }
  Status Exchange(const std::string& a, const std::string& b) override {
    std::swap(files.at(a), files.at(b));
    return absl::OkStatus();
  }
  Status Unlink(const std::string& path) override {
    files.erase(path);
    return absl::OkStatus();
  }
  Status RemoveDirectory(const std::string&) override { return absl::OkStatus(); }
  Status MakeDirectory(const std::string&) override { return absl::OkStatus(); }
  StatusOr<std::vector<std::string>> List(const std::string&) override {
    return Unsupported("List");
  }
  Status SyncDirectory(const std::string&) override { return absl::OkStatus(); }
  StatusOr<bool> Exists(const std::string& path) override {
    QFT_ASSIGN_OR_RETURN(const bool folder, IsDirectory(path));
    return folder || files.contains(path);
  }
  StatusOr<bool> IsDirectory(const std::string& path) override {
    return std::any_of(files.begin(), files.end(),
                       [&](const auto& file) { return file.first.starts_with(path + "/"); });
  }
  StatusOr<bool> IsSymbolicLink(const std::string&) override { return false; }

 private:
  class MemoryFile final : public File {
   public:
    MemoryFile(std::string* content, const bool* fail_sync)
        : content_(content), fail_sync_(fail_sync) {}

    Status Pread(void* data, size_t size, uint64_t offset) const override {
      if (offset > content_->size() || size > content_->size() - offset) return Corrupt("short");
      if (size > 0) std::memcpy(data, content_->data() + offset, size);
      return absl::OkStatus();
    }
    Status Pwrite(const void* data, size_t size, uint64_t offset) override {
      content_->resize(std::max(content_->size(), offset + size));
      if (size > 0) std::memcpy(content_->data() + offset, data, size);
      return absl::OkStatus();
    }
    Status Sync() override {
      return *fail_sync_ ? MakeError(ErrorCode::kIo, "sync") : absl::OkStatus();
    }
    StatusOr<uint64_t> Size() const override { return content_->size(); }
    Status Close() override { return absl::OkStatus(); }

   private:
    std::string* content_;
    const bool* fail_sync_;
  };
};

}  // namespace qft
