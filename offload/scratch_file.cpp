#include "offload/scratch_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <limits>
#include <system_error>

#include "base/file.h"
#include "offload/store.h"

namespace qft {
namespace {

int OpenUnnamed(const std::string& folder) {
  const int descriptor = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  // The file system has none (EOPNOTSUPP), or the kernel knows nothing of them (EISDIR).
  if (descriptor >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return descriptor;
  std::string path = JoinPath(folder, "qft_offload_XXXXXX");
  const int named = ::mkostemp(path.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(path.c_str());
  return named;
}

// 0, or what is wrong with a transfer of a page: less than all of it is an error too.
template <typename Transfer>
int ErrorOf(const Transfer& transfer) {
  ssize_t moved = 0;
  do {
    moved = transfer();
  } while (moved < 0 && errno == EINTR);
  if (moved < 0) return errno;
  return moved == kStoreAlignment ? 0 : EIO;
}

// 0, or the error of the smallest transfers at the least aligned address that a store makes.
int TransferPage(int descriptor) {
  constexpr int64_t kPage = kStoreAlignment;
  alignas(2 * kPage) std::array<char, 3 * kPage> memory{};
  char* const page = memory.data() + kPage;
  const int error = ErrorOf([&] { return ::pwrite(descriptor, page, kPage, kPage); });
  return error != 0 ? error : ErrorOf([&] { return ::pread(descriptor, page, kPage, kPage); });
}

int64_t AvailableBytes(int descriptor) {
  struct statvfs info {};
  // Some network file systems don't know.
  if (::fstatvfs(descriptor, &info) != 0 || info.f_blocks == 0) {
    return std::numeric_limits<int64_t>::max();
  }
  return static_cast<int64_t>(info.f_bavail) * static_cast<int64_t>(info.f_frsize);
}

Status NoRoom(const std::string& folder, int64_t bytes, int64_t available, int error) {
  return ErrnoError(error, absl::StrCat("reserve ", bytes, " bytes for an offload file in ", folder,
                                        ", which has ", available, " bytes available"));
}

}  // namespace

StatusOr<std::shared_ptr<const ScratchFile>> ScratchFile::Create(const std::string& folder,
                                                                 int64_t bytes) {
  const std::shared_ptr<ScratchFile> file(new ScratchFile(folder));
  QFT_RETURN_IF_ERROR(file->Open(folder));
  QFT_RETURN_IF_ERROR(file->Reserve(folder, bytes));
  QFT_RETURN_IF_ERROR(file->SetDirect());
  return file;
}

ScratchFile::~ScratchFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Status ScratchFile::Open(const std::string& folder) {
  descriptor_ = OpenUnnamed(folder);
  if (descriptor_ < 0) return ErrnoError(errno, "open an offload file in " + folder);
  return absl::OkStatus();
}

Status ScratchFile::Reserve(const std::string& folder, int64_t bytes) const {
  // Growing a file beyond this limit would send SIGXFSZ, which ends the process.
  struct rlimit limit {};
  if (::getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY &&
      limit.rlim_cur < static_cast<rlim_t>(bytes)) {
    return MakeError(ErrorCode::kNoSpace,
                     absl::StrCat(name_, " needs ", bytes, " bytes; the limit of this process on ",
                                  "the size of a file (ulimit -f) is ", limit.rlim_cur));
  }
  const int64_t available = AvailableBytes(descriptor_);
  // Asked first: otherwise the disk would be full for others until the attempt has failed.
  if (available < bytes) return NoRoom(folder, bytes, available, ENOSPC);
  int result = 0;
  do {
    result = ::fallocate(descriptor_, 0, 0, bytes);
  } while (result != 0 && errno == EINTR);
  // Where nothing can be reserved, what is free now has to do.
  if (result != 0 && errno == EOPNOTSUPP) result = ::ftruncate(descriptor_, bytes);
  return result == 0 ? absl::OkStatus() : NoRoom(folder, bytes, available, errno);
}

Status ScratchFile::SetDirect() {
  const int flags = ::fcntl(descriptor_, F_GETFL);
  if (::fcntl(descriptor_, F_SETFL, flags | O_DIRECT) != 0) {
    why_buffered_ = "the file system refuses O_DIRECT: " + std::generic_category().message(errno);
    return absl::OkStatus();
  }
  const int error = TransferPage(descriptor_);
  if (error == 0) return absl::OkStatus();
  if (error != EINVAL) return ErrnoError(error, "write a page to " + name_);
  why_buffered_ =
      absl::StrCat("the file system refuses direct transfers of ", kStoreAlignment, " bytes");
  if (::fcntl(descriptor_, F_SETFL, flags & ~O_DIRECT) != 0) {
    return ErrnoError(errno, "turn off direct transfers for " + name_);
  }
  return absl::OkStatus();
}

}  // namespace qft
