#include "base/thread_pool.h"

#include "base/worker_thread.h"

namespace qft {

ThreadPool::ThreadPool(int threads, void (*on_start)()) {
  workers_.reserve(threads);
  try {
    for (int i = 0; i < threads; ++i) {
      workers_.push_back(StartWorker([this, i, on_start] { WorkerLoop(i, on_start); }));
    }
  } catch (...) {
    Stop();  // a thread that is destroyed before it was joined ends the process
    throw;
  }
}

ThreadPool::~ThreadPool() {
  Stop();
}

void ThreadPool::Stop() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  work_ready_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::Run(int64_t tasks, TaskFunction function, const void* context) {
  if (tasks <= 0) return;
  std::unique_lock<std::mutex> lock(mutex_);
  function_ = function;
  context_ = context;
  tasks_ = tasks;
  next_task_.store(0, std::memory_order_relaxed);
  active_workers_ = threads();
  ++generation_;
  work_ready_.notify_all();
  work_done_.wait(lock, [this] { return active_workers_ == 0; });
}

void ThreadPool::WorkerLoop(int worker, void (*on_start)()) {
  if (on_start != nullptr) on_start();
  uint64_t seen = 0;
  for (;;) {
    std::unique_lock<std::mutex> lock(mutex_);
    work_ready_.wait(lock, [&] { return stopping_ || generation_ != seen; });
    if (stopping_) return;
    seen = generation_;
    const TaskFunction function = function_;
    const void* context = context_;
    const int64_t tasks = tasks_;
    lock.unlock();
    for (int64_t task = next_task_.fetch_add(1, std::memory_order_relaxed); task < tasks;
         task = next_task_.fetch_add(1, std::memory_order_relaxed)) {
      function(context, task, worker);
    }
    lock.lock();
    if (--active_workers_ == 0) work_done_.notify_one();
  }
}

}  // namespace qft
