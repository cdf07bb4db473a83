#include "runtime/callback_files.h"

#include <utility>

#include "absl/strings/strip.h"

namespace qft {
namespace {

constexpr char kTemporarySuffix[] = ".tmp";

Status Answer(int32_t answer, const char* callback, const std::string& name) {
  if (answer == 0) return absl::OkStatus();
  return MakeError(ErrorCode::kCancelled,
                   absl::StrCat("the callback ", callback, " returned ", answer, " for ", name),
                   answer);
}

Status NotHere(const char* what) {
  return Unsupported("a caller's storage can't ", what);
}

class SinkFile final : public File {
 public:
  SinkFile(const FileSink& sink, std::string name) : sink_(sink), name_(std::move(name)) {}

  Status Pread(void*, size_t, uint64_t) const override { return NotHere("be read while written"); }
  Status Pwrite(const void* data, size_t size, uint64_t offset) override {
    size_ = offset + size;
    return Answer(sink_.write(name_.c_str(), offset, data, size), "write", name_);
  }
  Status Sync() override { return absl::OkStatus(); }  // finish does it
  StatusOr<uint64_t> Size() const override { return size_; }
  Status Close() override { return absl::OkStatus(); }

 private:
  const FileSink& sink_;
  std::string name_;
  uint64_t size_ = 0;
};

class SourceFile final : public File {
 public:
  SourceFile(const FileSource& source, std::string name, uint64_t size)
      : source_(source), name_(std::move(name)), size_(size) {}

  Status Pread(void* data, size_t size, uint64_t offset) const override {
    if (size > size_ || offset > size_ - size) {
      return Corrupt(name_, ": file ends before offset ", offset + size);
    }
    if (size == 0) return absl::OkStatus();
    return Answer(source_.read(name_.c_str(), offset, data, size), "read", name_);
  }
  Status Pwrite(const void*, size_t, uint64_t) override { return NotHere("be written to"); }
  Status Sync() override { return absl::OkStatus(); }
  StatusOr<uint64_t> Size() const override { return size_; }
  Status Close() override { return absl::OkStatus(); }

 private:
  const FileSource& source_;
  std::string name_;
  uint64_t size_;
};

// What neither kind of storage has: folders and names that change.
class FlatFileSystem : public FileSystem {
 public:
  Status Rename(const std::string&, const std::string&) override { return NotHere("rename"); }
  Status Exchange(const std::string&, const std::string&) override { return NotHere("exchange"); }
  Status Unlink(const std::string&) override { return NotHere("remove files"); }
  Status RemoveDirectory(const std::string&) override { return NotHere("remove folders"); }
  Status MakeDirectory(const std::string&) override { return NotHere("make folders"); }
  StatusOr<std::vector<std::string>> List(const std::string&) override { return NotHere("list"); }
  Status SyncDirectory(const std::string&) override { return absl::OkStatus(); }
  StatusOr<bool> Exists(const std::string&) override { return NotHere("look for files"); }
  StatusOr<bool> IsDirectory(const std::string&) override { return NotHere("have folders"); }
  StatusOr<bool> IsSymbolicLink(const std::string&) override { return NotHere("have links"); }
};

class SinkFileSystem final : public FlatFileSystem {
 public:
  explicit SinkFileSystem(FileSink sink) : sink_(std::move(sink)) {}

  StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override {
    if (mode != OpenMode::kCreate) return NotHere("be read while written");
    const std::string name(absl::StripSuffix(path, kTemporarySuffix));
    return std::unique_ptr<File>(new SinkFile(sink_, name));
  }
  Status Rename(const std::string&, const std::string& to) override {
    return Answer(sink_.finish(to.c_str()), "finish", to);
  }
  // The caller, who is told of the failure, removes what came before it.
  Status Unlink(const std::string&) override { return absl::OkStatus(); }

 private:
  FileSink sink_;
};

class SourceFileSystem final : public FlatFileSystem {
 public:
  explicit SourceFileSystem(FileSource source) : source_(std::move(source)) {}

  StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override {
    if (mode != OpenMode::kRead) return NotHere("be written to");
    uint64_t size = 0;
    QFT_RETURN_IF_ERROR(Answer(source_.size(path.c_str(), &size), "size", path));
    if (size > static_cast<uint64_t>(INT64_MAX)) return Corrupt(path, ": impossible size ", size);
    return std::unique_ptr<File>(new SourceFile(source_, path, size));
  }

 private:
  FileSource source_;
};

}  // namespace

std::unique_ptr<FileSystem> MakeSinkFileSystem(FileSink sink) {
  return std::make_unique<SinkFileSystem>(std::move(sink));
}

std::unique_ptr<FileSystem> MakeSourceFileSystem(FileSource source) {
  return std::make_unique<SourceFileSystem>(std::move(source));
}

}  // namespace qft
