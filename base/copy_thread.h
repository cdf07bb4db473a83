// Copies of memory in a thread of its own, beside what the caller does.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <thread>

namespace qft {

// Start by one thread; Wait by any.
class CopyThread {
 public:
  CopyThread();
  // Ends the copies that were started first.
  ~CopyThread();
  CopyThread(const CopyThread&) = delete;
  CopyThread& operator=(const CopyThread&) = delete;

  // Queues a copy. Copies happen in the order of the calls. Where there can be no thread, it has
  // happened when the call returns.
  void Start(void* to, const void* from, size_t bytes);
  // How many were started: the ticket of the last one.
  uint64_t started() const { return started_; }
  // Until the first `ticket` copies are done.
  void Wait(uint64_t ticket);

 private:
  struct Copy {
    void* to;
    const void* from;
    size_t bytes;
  };

  bool EnsureThread();
  void Loop();

  std::mutex mutex_;
  std::condition_variable work_;
  std::condition_variable done_;
  std::deque<Copy> queue_;
  uint64_t started_ = 0;   // by the thread that starts copies alone
  uint64_t finished_ = 0;  // under the mutex
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace qft
