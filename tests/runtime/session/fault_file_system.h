// A file system whose n-th operation fails, alone or with every operation after it.
#pragma once

#include <algorithm>
#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"

namespace qft {

class FaultFileSystem final : public FileSystem {
 public:
  explicit FaultFileSystem(FileSystem& real) : real_(real) {}

  // Operations are counted from 1; 0: none fails. From then on `count` and `failed` start again.
  void FailAt(int operation, bool all_after, int error_number) {
    count = 0;
    failed = false;
    fail_at_ = operation;
    all_after_ = all_after;
    error_number_ = error_number;
  }

  int count = 0;
  bool failed = false;

  StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override {
    QFT_RETURN_IF_ERROR(Count("open " + path));
    QFT_ASSIGN_OR_RETURN(std::unique_ptr<File> file, real_.Open(path, mode));
    return std::unique_ptr<File>(new FaultFile(*this, std::move(file)));
  }
  Status Rename(const std::string& from, const std::string& to) override {
    QFT_RETURN_IF_ERROR(Count("rename " + from));
    return real_.Rename(from, to);
  }
  Status Exchange(const std::string& a, const std::string& b) override {
    QFT_RETURN_IF_ERROR(Count("exchange " + a));
    return real_.Exchange(a, b);
  }
  Status Unlink(const std::string& path) override {
    QFT_RETURN_IF_ERROR(Count("unlink " + path));
    return real_.Unlink(path);
  }
  Status RemoveDirectory(const std::string& path) override {
    QFT_RETURN_IF_ERROR(Count("remove " + path));
    return real_.RemoveDirectory(path);
  }
  Status MakeDirectory(const std::string& path) override {
    QFT_RETURN_IF_ERROR(Count("make " + path));
    return real_.MakeDirectory(path);
  }
  StatusOr<std::vector<std::string>> List(const std::string& path) override {
    QFT_RETURN_IF_ERROR(Count("list " + path));
    return real_.List(path);
  }
  Status SyncDirectory(const std::string& path) override {
    QFT_RETURN_IF_ERROR(Count("sync " + path));
    return real_.SyncDirectory(path);
  }
  StatusOr<bool> Exists(const std::string& path) override {
    QFT_RETURN_IF_ERROR(Count("exists " + path));
    return real_.Exists(path);
  }
  StatusOr<bool> IsDirectory(const std::string& path) override {
    QFT_RETURN_IF_ERROR(Count("is directory " + path));
    return real_.IsDirectory(path);
  }
  StatusOr<bool> IsSymbolicLink(const std::string& path) override {
    QFT_RETURN_IF_ERROR(Count("is link " + path));
    return real_.IsSymbolicLink(path);
  }

 private:
  class FaultFile final : public File {
   public:
    FaultFile(FaultFileSystem& fs, std::unique_ptr<File> real) : fs_(fs), real_(std::move(real)) {}

    Status Pread(void* data, size_t size, uint64_t offset) const override {
      QFT_RETURN_IF_ERROR(fs_.Count("read"));
      return real_->Pread(data, size, offset);
    }
    // A write that fails has written a part.
    Status Pwrite(const void* data, size_t size, uint64_t offset) override {
      Status counted = fs_.Count("write");
      if (counted.ok()) return real_->Pwrite(data, size, offset);
      real_->Pwrite(data, size / 2, offset).IgnoreError();
      return counted;
    }
    Status Sync() override {
      QFT_RETURN_IF_ERROR(fs_.Count("fsync"));
      return real_->Sync();
    }
    StatusOr<uint64_t> Size() const override {
      QFT_RETURN_IF_ERROR(fs_.Count("size"));
      return real_->Size();
    }
    Status Close() override {
      QFT_RETURN_IF_ERROR(fs_.Count("close"));
      return real_->Close();
    }

   private:
    FaultFileSystem& fs_;
    std::unique_ptr<File> real_;
  };

  Status Count(const std::string& what) {
    ++count;
    if (fail_at_ == 0 || count < fail_at_ || (count > fail_at_ && !all_after_)) {
      return absl::OkStatus();
    }
    failed = true;
    return ErrnoError(error_number_, what);
  }

  FileSystem& real_;
  int fail_at_ = 0;
  bool all_after_ = false;
  int error_number_ = EIO;
};

}  // namespace qft
