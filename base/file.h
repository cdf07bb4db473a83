// The file layer. Nothing else in the tree opens a file for writing, so that one fault-injecting
// implementation of FileSystem reaches every byte that libqft makes durable. What offload/ writes
// is worth nothing after the process and has a seam of its own (offload/request_queue.h).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace qft {

// One open file. Not thread-safe for writing; Pread may be called concurrently.
class File {
 public:
  virtual ~File() = default;

  // Reads exactly `size` bytes at `offset`; a short file is kCorrupt. EINTR and short reads are
  // retried inside.
  virtual Status Pread(void* data, size_t size, uint64_t offset) const = 0;
  virtual Status Pwrite(const void* data, size_t size, uint64_t offset) = 0;
  // After a failed Sync the file must not be synced again (the kernel may have dropped the pages).
  virtual Status Sync() = 0;
  virtual StatusOr<uint64_t> Size() const = 0;
  // Reports what close(2) reports; the destructor closes silently.
  virtual Status Close() = 0;
};

enum class OpenMode { kRead, kCreate };

class FileSystem {
 public:
  virtual ~FileSystem() = default;

  virtual StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) = 0;
  virtual Status Rename(const std::string& from, const std::string& to) = 0;
  // Both paths exist and change places in one step.
  virtual Status Exchange(const std::string& a, const std::string& b) = 0;
  virtual Status Unlink(const std::string& path) = 0;
  virtual Status RemoveDirectory(const std::string& path) = 0;
  virtual Status MakeDirectory(const std::string& path) = 0;
  virtual StatusOr<std::vector<std::string>> List(const std::string& path) = 0;
  virtual Status SyncDirectory(const std::string& path) = 0;
  virtual StatusOr<bool> Exists(const std::string& path) = 0;
  virtual StatusOr<bool> IsDirectory(const std::string& path) = 0;
  virtual StatusOr<bool> IsSymbolicLink(const std::string& path) = 0;
};

// The POSIX implementation; one immutable object for the whole process.
FileSystem& PosixFileSystem();

StatusOr<std::string> ReadWholeFile(FileSystem& fs, const std::string& path, uint64_t size_limit);
// Creates or replaces `path` durably: temporary file beside it, fsync, rename, fsync of the folder.
Status WriteFileDurably(FileSystem& fs, const std::string& path, std::string_view content);
// mkdir -p. What it made is durable on return.
Status MakeDirectories(FileSystem& fs, const std::string& path);
// rm -r, following no symbolic link; a path that does not exist is success.
Status RemoveTree(FileSystem& fs, const std::string& path);

std::string JoinPath(const std::string& folder, const std::string& name);
std::string ParentPath(const std::string& path);

}  // namespace qft
