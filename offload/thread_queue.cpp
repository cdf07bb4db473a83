// Requests by threads that call pread and pwrite.
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/worker_thread.h"
#include "offload/request_queue.h"

namespace qft {
namespace {

// More than a disk needs to be busy; each costs a stack.
constexpr int kMostThreads = 8;

// Owned by the queue and by its threads: one that the kernel does not let go outlives the queue.
struct Shared {
  std::shared_ptr<const ScratchFile> file;
  std::mutex mutex;
  std::condition_variable work;
  std::condition_variable news;  // completions or a Wake
  // With room for all that can be in flight: neither grows.
  std::vector<Request> requests;
  std::vector<Completion> completions;
  int busy = 0;
  bool woken = false;
  bool stopping = false;
};

int64_t Transfer(int descriptor, const Request& request) {
  const auto bytes = static_cast<size_t>(request.bytes);
  const ssize_t moved = request.write
                            ? ::pwrite(descriptor, request.data, bytes, request.file_offset)
                            : ::pread(descriptor, request.data, bytes, request.file_offset);
  return moved < 0 ? -errno : moved;
}

void Serve(Shared& shared) {
  std::unique_lock lock(shared.mutex);
  while (true) {
    shared.work.wait(lock, [&] { return shared.stopping || !shared.requests.empty(); });
    if (shared.stopping) return;
    const Request request = shared.requests.front();
    shared.requests.erase(shared.requests.begin());
    ++shared.busy;
    lock.unlock();
    const int64_t result = Transfer(shared.file->descriptor(), request);
    lock.lock();
    --shared.busy;
    shared.completions.push_back({request.id, result});
    shared.news.notify_one();
  }
}

class ThreadQueue final : public RequestQueue {
 public:
  ThreadQueue(std::shared_ptr<const ScratchFile> file, int depth)
      : shared_(std::make_shared<Shared>()) {
    shared_->file = std::move(file);
    shared_->requests.reserve(static_cast<size_t>(depth));
    shared_->completions.reserve(static_cast<size_t>(depth));
    threads_.reserve(static_cast<size_t>(QueueThreads(depth)));  // a thread may not be lost
    try {
      for (int i = 0; i < QueueThreads(depth); ++i) {
        threads_.push_back(StartWorker([shared = shared_] { Serve(*shared); }));
      }
    } catch (...) {
      Stop();
      throw;
    }
  }
  ~ThreadQueue() override { Stop(); }

  Status Register(void* /*memory*/, size_t /*bytes*/) override { return absl::OkStatus(); }

  Status Submit(absl::Span<const Request> requests) override {
    {
      const std::scoped_lock lock(shared_->mutex);
      shared_->requests.insert(shared_->requests.end(), requests.begin(), requests.end());
    }
    if (requests.size() == 1) {
      shared_->work.notify_one();
    } else {
      shared_->work.notify_all();
    }
    return absl::OkStatus();
  }

  StatusOr<size_t> Collect(absl::Span<Completion> out, std::chrono::milliseconds timeout) override {
    std::unique_lock lock(shared_->mutex);
    shared_->news.wait_for(lock, timeout,
                           [&] { return shared_->woken || !shared_->completions.empty(); });
    shared_->woken = false;
    std::vector<Completion>& completions = shared_->completions;
    const size_t count = std::min(out.size(), completions.size());
    std::copy_n(completions.begin(), count, out.begin());
    completions.erase(completions.begin(), completions.begin() + static_cast<ptrdiff_t>(count));
    return count;
  }

  void Wake() override {
    const std::scoped_lock lock(shared_->mutex);
    shared_->woken = true;
    shared_->news.notify_one();
  }

 private:
  void Stop() {
    bool stuck = false;
    {
      const std::scoped_lock lock(shared_->mutex);
      shared_->stopping = true;
      stuck = shared_->busy > 0;
    }
    shared_->work.notify_all();
    for (std::thread& thread : threads_) {
      if (stuck) {
        thread.detach();
      } else {
        thread.join();
      }
    }
  }

  std::shared_ptr<Shared> shared_;
  std::vector<std::thread> threads_;
};

}  // namespace

int QueueThreads(int depth) {
  return std::min(depth, kMostThreads);
}

std::unique_ptr<RequestQueue> MakeThreadQueue(std::shared_ptr<const ScratchFile> file, int depth) {
  return std::make_unique<ThreadQueue>(std::move(file), depth);
}

}  // namespace qft
