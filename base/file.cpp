#include "base/file.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace qft {
namespace {

class PosixFile final : public File {
 public:
  explicit PosixFile(std::string path) : path_(std::move(path)) {}
  ~PosixFile() override {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  Status Open(int flags) {
    do {
      descriptor_ = ::open(path_.c_str(), flags, 0666);
    } while (descriptor_ < 0 && errno == EINTR);
    if (descriptor_ < 0) return ErrnoError(errno, "open " + path_);
    struct stat info {};
    if (::fstat(descriptor_, &info) == 0 && S_ISDIR(info.st_mode)) {
      return ErrnoError(EISDIR, "open " + path_);
    }
    return absl::OkStatus();
  }

  Status Pread(void* data, size_t size, uint64_t offset) const override {
    char* out = static_cast<char*>(data);
    while (size > 0) {
      const ssize_t n = ::pread(descriptor_, out, size, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoError(errno, "read " + path_);
      if (n == 0) return Corrupt(path_, ": file ends before offset ", offset + size);
      out += n;
      size -= static_cast<size_t>(n);
      offset += static_cast<uint64_t>(n);
    }
    return absl::OkStatus();
  }

  Status Pwrite(const void* data, size_t size, uint64_t offset) override {
    const char* in = static_cast<const char*>(data);
    while (size > 0) {
      const ssize_t n = ::pwrite(descriptor_, in, size, static_cast<off_t>(offset));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return ErrnoError(errno, "write " + path_);
      if (n == 0) return ErrnoError(ENOSPC, "write " + path_);
      in += n;
      size -= static_cast<size_t>(n);
      offset += static_cast<uint64_t>(n);
    }
    return absl::OkStatus();
  }

  Status Sync() override {
    if (::fsync(descriptor_) != 0) return ErrnoError(errno, "fsync " + path_);
    return absl::OkStatus();
  }

  StatusOr<uint64_t> Size() const override {
    struct stat info {};
    if (::fstat(descriptor_, &info) != 0) return ErrnoError(errno, "stat " + path_);
    return static_cast<uint64_t>(info.st_size);
  }

  Status Close() override {
    const int descriptor = descriptor_;
    descriptor_ = -1;
    if (descriptor >= 0 && ::close(descriptor) != 0 && errno != EINTR) {
      return ErrnoError(errno, "close " + path_);
    }
    return absl::OkStatus();
  }

 private:
  int descriptor_ = -1;
  std::string path_;
};

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

class PosixFileSystemImpl final : public FileSystem {
 public:
  StatusOr<std::unique_ptr<File>> Open(const std::string& path, OpenMode mode) override {
    int flags = O_CLOEXEC;
    if (mode == OpenMode::kRead) flags |= O_RDONLY;
    if (mode == OpenMode::kCreate) flags |= O_RDWR | O_CREAT | O_TRUNC;
    auto file = std::make_unique<PosixFile>(path);
    QFT_RETURN_IF_ERROR(file->Open(flags));
    return file;
  }

  Status Rename(const std::string& from, const std::string& to) override {
    if (::rename(from.c_str(), to.c_str()) != 0) {
      return ErrnoError(errno, "rename " + from + " to " + to);
    }
    return absl::OkStatus();
  }

  Status Exchange(const std::string& a, const std::string& b) override {
    if (::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) != 0) {
      return ErrnoError(errno, "exchange " + a + " and " + b);
    }
    return absl::OkStatus();
  }

  Status Unlink(const std::string& path) override {
    if (::unlink(path.c_str()) != 0) return ErrnoError(errno, "remove " + path);
    return absl::OkStatus();
  }

  Status RemoveDirectory(const std::string& path) override {
    if (::rmdir(path.c_str()) != 0) return ErrnoError(errno, "remove folder " + path);
    return absl::OkStatus();
  }

  Status MakeDirectory(const std::string& path) override {
    if (::mkdir(path.c_str(), 0777) != 0) return ErrnoError(errno, "create folder " + path);
    return absl::OkStatus();
  }

  StatusOr<std::vector<std::string>> List(const std::string& path) override {
    const std::unique_ptr<DIR, CloseFolder> folder(::opendir(path.c_str()));
    if (folder == nullptr) return ErrnoError(errno, "list " + path);
    std::vector<std::string> names;
    errno = 0;
    while (const dirent* entry = ::readdir(folder.get())) {
      const std::string name = entry->d_name;
      if (name != "." && name != "..") names.push_back(name);
      errno = 0;
    }
    if (errno != 0) return ErrnoError(errno, "list " + path);
    std::sort(names.begin(), names.end());
    return names;
  }

  Status SyncDirectory(const std::string& path) override {
    const int descriptor = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0) return ErrnoError(errno, "open folder " + path);
    const int result = ::fsync(descriptor);
    const int error = errno;
    ::close(descriptor);
    if (result != 0) return ErrnoError(error, "fsync folder " + path);
    return absl::OkStatus();
  }

  StatusOr<bool> Exists(const std::string& path) override {
    struct stat info {};
    if (::stat(path.c_str(), &info) == 0) return true;
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return ErrnoError(errno, "stat " + path);
  }

  StatusOr<bool> IsDirectory(const std::string& path) override {
    struct stat info {};
    if (::stat(path.c_str(), &info) == 0) return S_ISDIR(info.st_mode);
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return ErrnoError(errno, "stat " + path);
  }
  StatusOr<bool> IsSymbolicLink(const std::string& path) override {
    struct stat info {};
    if (::lstat(path.c_str(), &info) == 0) return S_ISLNK(info.st_mode);
    if (errno == ENOENT || errno == ENOTDIR) return false;
    return ErrnoError(errno, "stat " + path);
  }
};

}  // namespace

FileSystem& PosixFileSystem() {
  static PosixFileSystemImpl instance;
  return instance;
}

StatusOr<std::string> ReadWholeFile(FileSystem& fs, const std::string& path, uint64_t size_limit) {
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, fs.Open(path, OpenMode::kRead));
  QFT_ASSIGN_OR_RETURN(const uint64_t size, file->Size());
  if (size > size_limit) {
    return BadData(path, ": ", size, " bytes, more than the ", size_limit, " this file may have");
  }
  std::string content(size, '\0');
  QFT_RETURN_IF_ERROR(file->Pread(content.data(), size, 0));
  return content;
}

Status WriteFileDurably(FileSystem& fs, const std::string& path, std::string_view content) {
  const std::string temporary = path + ".tmp";
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<File> file, fs.Open(temporary, OpenMode::kCreate));
  QFT_RETURN_IF_ERROR(file->Pwrite(content.data(), content.size(), 0));
  QFT_RETURN_IF_ERROR(file->Sync());
  QFT_RETURN_IF_ERROR(file->Close());
  QFT_RETURN_IF_ERROR(fs.Rename(temporary, path));
  return fs.SyncDirectory(ParentPath(path));
}

Status MakeDirectories(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const bool is_directory, fs.IsDirectory(path));
  if (is_directory) return absl::OkStatus();
  const std::string parent = ParentPath(path);
  if (parent != path) QFT_RETURN_IF_ERROR(MakeDirectories(fs, parent));
  Status made = fs.MakeDirectory(path);
  if (!made.ok() && GetErrorInfo(made).native_code == EEXIST) {
    QFT_ASSIGN_OR_RETURN(const bool now_directory, fs.IsDirectory(path));
    if (now_directory) made = absl::OkStatus();
  }
  QFT_RETURN_IF_ERROR(made);
  return fs.SyncDirectory(parent);
}

Status RemoveTree(FileSystem& fs, const std::string& path) {
  QFT_ASSIGN_OR_RETURN(const bool link, fs.IsSymbolicLink(path));
  if (link) return fs.Unlink(path);
  QFT_ASSIGN_OR_RETURN(const bool exists, fs.Exists(path));
  if (!exists) return absl::OkStatus();
  QFT_ASSIGN_OR_RETURN(const bool is_directory, fs.IsDirectory(path));
  if (!is_directory) return fs.Unlink(path);
  QFT_ASSIGN_OR_RETURN(const std::vector<std::string> names, fs.List(path));
  for (const std::string& name : names) QFT_RETURN_IF_ERROR(RemoveTree(fs, JoinPath(path, name)));
  return fs.RemoveDirectory(path);
}

std::string JoinPath(const std::string& folder, const std::string& name) {
  if (folder.empty() || folder.back() == '/') return folder + name;
  return folder + "/" + name;
}

std::string ParentPath(const std::string& path) {
  const size_t end = path.find_last_not_of('/');
  if (end == std::string::npos) return path.empty() ? "." : "/";
  const size_t slash = path.find_last_of('/', end);
  if (slash == std::string::npos) return ".";
  const size_t last = path.find_last_not_of('/', slash);
  return last == std::string::npos ? "/" : path.substr(0, last + 1);
}

}  // namespace qft
