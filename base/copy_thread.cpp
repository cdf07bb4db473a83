#include "base/copy_thread.h"

#include <cstring>
#include <system_error>

#include "base/worker_thread.h"

namespace qft {

CopyThread::CopyThread() = default;

CopyThread::~CopyThread() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  work_.notify_one();
  thread_.join();
}

bool CopyThread::EnsureThread() {
  if (thread_.joinable()) return true;
  try {
    thread_ = StartWorker([this] { Loop(); });
  } catch (const std::system_error&) {
    return false;
  }
  return true;
}

void CopyThread::Start(void* to, const void* from, size_t bytes) {
  if (EnsureThread()) {
    const std::lock_guard<std::mutex> lock(mutex_);
    queue_.push_back({to, from, bytes});
    work_.notify_one();
  } else {
    if (bytes > 0) std::memcpy(to, from, bytes);
    const std::lock_guard<std::mutex> lock(mutex_);
    ++finished_;
  }
  ++started_;  // not before: nobody must wait for a copy that memory ran out for
}

void CopyThread::Wait(uint64_t ticket) {
  std::unique_lock<std::mutex> lock(mutex_);
  done_.wait(lock, [&] { return finished_ >= ticket; });
}

void CopyThread::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    work_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
    if (queue_.empty()) return;
    const Copy copy = queue_.front();
    queue_.pop_front();
    lock.unlock();
    if (copy.bytes > 0) std::memcpy(copy.to, copy.from, copy.bytes);
    lock.lock();
    ++finished_;
    done_.notify_all();
  }
}

}  // namespace qft
