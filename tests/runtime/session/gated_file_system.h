// A file system whose files can't be opened before a gate is: whoever saves through it stands still
// there.
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "base/file.h"

namespace qft {

class GatedFileSystem final : public FileSystem {
 public:
  explicit GatedFileSystem(FileSystem& real) : real_(real) {}

  void OpenGate() {
    const std::lock_guard<std::mutex> lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  // Until someone stands at the gate.
  void AwaitArrival() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return arrived_; });
  }

  StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override {
    {
      std::unique_lock<std::mutex> lock(mutex_);
      arrived_ = true;
      changed_.notify_all();
      changed_.wait(lock, [this] { return open_; });
    }
    return real_.Open(path, mode);
  }
  Status Rename(const std::string& from, const std::string& to) override {
    return real_.Rename(from, to);
  }
  Status Exchange(const std::string& a, const std::string& b) override {
    return real_.Exchange(a, b);
  }
  Status Unlink(const std::string& path) override { return real_.Unlink(path); }
  Status RemoveDirectory(const std::string& path) override { return real_.RemoveDirectory(path); }
  Status MakeDirectory(const std::string& path) override { return real_.MakeDirectory(path); }
  StatusOr<std::vector<std::string>> List(const std::string& path) override {
    return real_.List(path);
  }
  Status SyncDirectory(const std::string& path) override { return real_.SyncDirectory(path); }
  StatusOr<bool> Exists(const std::string& path) override { return real_.Exists(path); }
  StatusOr<bool> IsDirectory(const std::string& path) override { return real_.IsDirectory(path); }
  StatusOr<bool> IsSymbolicLink(const std::string& path) override {
    return real_.IsSymbolicLink(path);
  }

 private:
  FileSystem& real_;
  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  bool arrived_ = false;
};

}  // namespace qft
