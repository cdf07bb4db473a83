// Requests by io_uring, with the file and the callers' memory registered where the kernel lets it.
#include <liburing.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>
#include <utility>
#include <vector>

#include "offload/request_queue.h"

namespace qft {
namespace {

// The kernel takes no larger one.
constexpr size_t kRegisteredBufferBytes = size_t{1} << 30;

std::string Reason(int error) {
  return std::generic_category().message(error);
}

Status NotUsable(const std::string& why) {
  return MakeError(ErrorCode::kUnsupported, "io_uring can't be used here: " + why);
}

class UringQueue final : public RequestQueue {
 public:
  explicit UringQueue(std::shared_ptr<const ScratchFile> file) : file_(std::move(file)) {}
  ~UringQueue() override {
    // A ring goes some time after its descriptor, and with it its hold on memory and file. What is
    // in flight the kernel ends on its own; waiting for it here could take for ever.
    if (in_flight_ == 0 && registered_file_) io_uring_unregister_files(&ring_);
    if (in_flight_ == 0 && !registered_.empty()) io_uring_unregister_buffers(&ring_);
    if (has_ring_) io_uring_queue_exit(&ring_);
    if (wake_ >= 0) ::close(wake_);
  }

  Status Open(int depth) {
    QFT_RETURN_IF_ERROR(MakeRing(static_cast<unsigned>(depth)));
    QFT_RETURN_IF_ERROR(CheckOperations());
    const int descriptor = file_->descriptor();
    registered_file_ = io_uring_register_files(&ring_, &descriptor, 1) == 0;
    wake_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (wake_ < 0) return ErrnoError(errno, "make an eventfd");
    return absl::OkStatus();
  }

  // No thread is inside the kernel with this ring then (Collect waits in poll), and none of its
  // requests is in flight: old kernels wait for that.
  Status Register(void* memory, size_t bytes) override {
    std::vector<iovec> parts;
    auto* const begin = static_cast<std::byte*>(memory);
    for (size_t at = 0; at < bytes; at += kRegisteredBufferBytes) {
      parts.push_back({begin + at, std::min(kRegisteredBufferBytes, bytes - at)});
    }
    const int result =
        io_uring_register_buffers(&ring_, parts.data(), static_cast<unsigned>(parts.size()));
    if (result != 0) return ErrnoError(-result, "register the memory of transfers with io_uring");
    registered_ = {begin, bytes};
    return absl::OkStatus();
  }

  Status Submit(absl::Span<const Request> requests) override {
    for (const Request& request : requests) {
      io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
      if (sqe == nullptr) return Internal("more requests than the depth of an io_uring");
      Prepare(sqe, request);
    }
    in_flight_ += requests.size();
    return Flush();
  }

  StatusOr<size_t> Collect(absl::Span<Completion> out, std::chrono::milliseconds timeout) override {
    if (io_uring_sq_ready(&ring_) > 0) QFT_RETURN_IF_ERROR(Flush());
    size_t count = Take(out);
    if (count > 0) return count;
    std::array<pollfd, 2> waited{{{ring_.ring_fd, POLLIN, 0}, {wake_, POLLIN, 0}}};
    const int ready = ::poll(waited.data(), waited.size(), static_cast<int>(timeout.count()));
    if (ready < 0 && errno != EINTR) return ErrnoError(errno, "wait for an io_uring");
    uint64_t wakes = 0;
    if (::read(wake_, &wakes, sizeof(wakes)) < 0 && errno != EAGAIN) {
      return ErrnoError(errno, "read an eventfd");
    }
    return Take(out);
  }

  void Wake() override {
    constexpr uint64_t kOne = 1;
    // It fails only where the counter is full: then the poll ends anyway.
    [[maybe_unused]] const ssize_t written = ::write(wake_, &kOne, sizeof(kOne));
  }

 private:
  Status MakeRing(unsigned depth) {
    // Completions then wait for the thread's next system call rather than interrupt its work.
    int result = io_uring_queue_init(depth, &ring_, IORING_SETUP_COOP_TASKRUN);
    // Linux before 5.19
    if (result == -EINVAL) result = io_uring_queue_init(depth, &ring_, 0);
    if (result != 0) return NotUsable(Reason(-result));
    has_ring_ = true;
    return absl::OkStatus();
  }

  // A filter of system calls may allow to make rings and not to use them.
  Status CheckOperations() {
    io_uring_probe* const probe = io_uring_get_probe_ring(&ring_);
    if (probe == nullptr) return NotUsable("the kernel doesn't say what its rings can do");
    const bool supported = io_uring_opcode_supported(probe, IORING_OP_READ) != 0 &&
                           io_uring_opcode_supported(probe, IORING_OP_WRITE) != 0;
    io_uring_free_probe(probe);
    if (!supported) return NotUsable("the kernel is too old (it has no IORING_OP_READ)");
    io_uring_prep_nop(io_uring_get_sqe(&ring_));
    const int submitted = io_uring_submit(&ring_);
    if (submitted < 0) return NotUsable(Reason(-submitted));
    io_uring_cqe* completion = nullptr;
    const int waited = io_uring_wait_cqe(&ring_, &completion);
    if (waited != 0) return NotUsable(Reason(-waited));
    io_uring_cqe_seen(&ring_, completion);
    return absl::OkStatus();
  }

  void Prepare(io_uring_sqe* sqe, const Request& request) const {
    const int fd = registered_file_ ? 0 : file_->descriptor();
    const auto bytes = static_cast<unsigned>(request.bytes);
    const auto offset = static_cast<uint64_t>(request.file_offset);
    const int buffer = RegisteredBuffer(request);
    if (buffer >= 0 && request.write) {
      io_uring_prep_write_fixed(sqe, fd, request.data, bytes, offset, buffer);
    } else if (buffer >= 0) {
      io_uring_prep_read_fixed(sqe, fd, request.data, bytes, offset, buffer);
    } else if (request.write) {
      io_uring_prep_write(sqe, fd, request.data, bytes, offset);
    } else {
      io_uring_prep_read(sqe, fd, request.data, bytes, offset);
    }
    if (registered_file_) io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data64(sqe, static_cast<uint64_t>(request.id));
  }

  // Of the buffer that holds all of the request's memory, or -1.
  int RegisteredBuffer(const Request& request) const {
    const std::byte* const begin = registered_.data();
    if (request.data < begin || request.data + request.bytes > begin + registered_.size()) {
      return -1;
    }
    const auto first = static_cast<size_t>(request.data - begin) / kRegisteredBufferBytes;
    const auto last =
        static_cast<size_t>(request.data + request.bytes - 1 - begin) / kRegisteredBufferBytes;
    return first == last ? static_cast<int>(first) : -1;
  }

  // What the kernel does not take now stays in the ring for the next time.
  Status Flush() {
    const int result = io_uring_submit(&ring_);
    if (result >= 0 || result == -EAGAIN || result == -EBUSY || result == -EINTR) {
      return absl::OkStatus();
    }
    return ErrnoError(-result, "submit to an io_uring");
  }

  size_t Take(absl::Span<Completion> out) {
    size_t count = 0;
    io_uring_cqe* completion = nullptr;
    while (count < out.size() && io_uring_peek_cqe(&ring_, &completion) == 0) {
      out[count++] = {static_cast<int>(completion->user_data), completion->res};
      io_uring_cqe_seen(&ring_, completion);
    }
    in_flight_ -= count;
    return count;
  }

  std::shared_ptr<const ScratchFile> file_;
  io_uring ring_{};
  bool has_ring_ = false;
  bool registered_file_ = false;
  absl::Span<std::byte> registered_;
  size_t in_flight_ = 0;
  int wake_ = -1;
};

}  // namespace

StatusOr<std::unique_ptr<RequestQueue>> MakeUringQueue(std::shared_ptr<const ScratchFile> file,
                                                       int depth) {
  auto queue = std::make_unique<UringQueue>(std::move(file));
  QFT_RETURN_IF_ERROR(queue->Open(depth));
  return queue;
}

}  // namespace qft
