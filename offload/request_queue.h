// The lowest layer of a store: requests of one file go in, completions come out. io_uring and a
// pool of threads implement it, tests put a faulty one in between. A request may complete short or
// with an error that asks for another try: that is the business of the layer above
// (offload/disk.h).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/types/span.h"
#include "base/status.h"
#include "offload/scratch_file.h"
#include "offload/store.h"

namespace qft {

struct Request {
  int id = 0;  // unique among those in flight
  bool write = false;
  std::byte* data = nullptr;  // read from only where `write`
  int64_t bytes = 0;
  int64_t file_offset = 0;
};

struct Completion {
  int id = 0;
  int64_t result = 0;  // bytes moved, or a negated errno
};

// Submit and Collect are called by one thread; Wake by any.
class RequestQueue {
 public:
  // Gives up what is in flight: the memory of such requests may still be written to afterwards.
  virtual ~RequestQueue() = default;

  // Declares memory that requests will use; before the first of them. An error means that requests
  // work without, only slower.
  virtual Status Register(void* memory, size_t bytes) = 0;
  // At most the queue's depth may be in flight at once. Throws std::bad_alloc before it takes any.
  virtual Status Submit(absl::Span<const Request> requests) = 0;
  // Waits for a completion, a Wake or the timeout; returns how many completions are in `out`.
  virtual StatusOr<size_t> Collect(absl::Span<Completion> out,
                                   std::chrono::milliseconds timeout) = 0;
  // Ends a Collect that waits, or the next one.
  virtual void Wake() = 0;
};

struct QueueChoice {
  std::unique_ptr<RequestQueue> queue;
  StoreBackend backend = StoreBackend::kAuto;
  std::string why;  // empty: the first choice
};

// For kAuto io_uring where it works, else threads. kIoUring is kUnsupported where it does not.
StatusOr<QueueChoice> MakeQueue(StoreBackend backend, std::shared_ptr<const ScratchFile> file,
                                int depth);

StatusOr<std::unique_ptr<RequestQueue>> MakeUringQueue(std::shared_ptr<const ScratchFile> file,
                                                       int depth);
std::unique_ptr<RequestQueue> MakeThreadQueue(std::shared_ptr<const ScratchFile> file, int depth);
// Of a thread queue of this depth.
int QueueThreads(int depth);

}  // namespace qft
