// Asynchronous storage of bytes outside memory, on NVMe for instance, for one session: worth
// nothing after a crash, part of no checkpoint. docs/offload.md says what is promised.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"

namespace qft {

class RequestQueue;

// Of offsets, sizes and memory of transfers.
constexpr int64_t kStoreAlignment = 4096;
constexpr int64_t WholePages(int64_t bytes) {
  return (bytes + kStoreAlignment - 1) / kStoreAlignment * kStoreAlignment;
}

enum class StoreBackend { kAuto, kIoUring, kThreads };

// Puts something between a store and each of its queues, for tests.
using WrapQueue = std::function<std::unique_ptr<RequestQueue>(std::unique_ptr<RequestQueue>)>;

struct StoreOptions {
  // One file in each, bytes striped over them by blocks. A folder may be named more than once.
  std::vector<std::string> folders;
  int64_t bytes = 0;
  int64_t block_bytes = 1 << 20;  // of a stripe and of the largest request
  int depth = 32;                 // requests in flight a file, 1 to 4096
  StoreBackend backend = StoreBackend::kAuto;
  // A request that isn't answered within is an error.
  std::chrono::milliseconds timeout{30000};
  WrapQueue wrap_queue;  // empty: none
};

struct StoreReport {
  StoreBackend backend = StoreBackend::kAuto;  // in use, never kAuto
  // For people: backend, what it lacks and why.
  std::string description;
  bool direct = false;      // past the page cache, in all folders
  bool registered = false;  // memory was, with io_uring
  // Bytes a second that the preflight measured.
  double preflight_read = 0;
  double preflight_write = 0;
  // Since Open. Seconds in which at least one transfer of the kind was under way.
  int64_t bytes_read = 0;
  int64_t bytes_written = 0;
  double seconds_reading = 0;
  double seconds_writing = 0;
};

// All functions may be called from any thread.
//
// Errors are sticky: after the first, a wrong argument included, every Wait returns it at once and
// nothing more is started.
class Store {
 public:
  // Reserves the space, and tries it with a write and a read that are compared: takes less than
  // half a second where a disk writes 100 MB/s.
  static StatusOr<std::unique_ptr<Store>> Open(const StoreOptions& options);
  // As Close, for those who know that it succeeds.
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  // Page-aligned memory that transfers will use; once, before the first of them. Where the kernel
  // can't pin it the report says so, and all works without.
  Status Register(void* memory, size_t bytes);

  // Return a ticket, 1 and up; they wait only while 256 transfers are under way. The memory belongs
  // to the store until Wait(ticket) has returned OK or Close has. Transfers under way at once
  // happen in any order: one that overlaps another waits for it first, unless both read. What is
  // read must have been written.
  uint64_t StartRead(void* data, int64_t bytes, int64_t offset);
  uint64_t StartWrite(const void* data, int64_t bytes, int64_t offset);

  // Whether Wait would return at once.
  bool Done(uint64_t ticket);
  // In any order, any number of times.
  Status Wait(uint64_t ticket);

  StoreReport Report() const;

  // Starts nothing more and waits for what is in flight, at most the timeout. kTimeout: the disk
  // still has not answered, and may write to memory of transfers as long as the process lives.
  Status Close();

 private:
  class Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace qft
