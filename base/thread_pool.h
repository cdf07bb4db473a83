// A fixed set of worker threads. The caller only waits: every task runs on a worker, because
// workers carry per-thread settings (one OpenMP thread for oneDNN) that must not leak to callers.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace qft {

class ThreadPool {
 public:
  // `threads` >= 1. `on_start` runs once on each worker before its first task.
  ThreadPool(int threads, void (*on_start)());
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()); }

  // Calls body(task, worker) for each task in [0, tasks) and returns when all are done. Which
  // worker takes which task is not defined: a body's result must not depend on it. Not reentrant;
  // one ParallelFor at a time.
  template <typename Body>
  void ParallelFor(int64_t tasks, const Body& body) {
    static_assert(std::is_invocable_v<const Body&, int64_t, int>);
    Run(
        tasks,
        [](const void* context, int64_t task, int worker) {
          (*static_cast<const Body*>(context))(task, worker);
        },
        &body);
  }

 private:
  using TaskFunction = void (*)(const void* context, int64_t task, int worker);

  void Run(int64_t tasks, TaskFunction function, const void* context);
  void WorkerLoop(int worker, void (*on_start)());
  void Stop();

  std::mutex mutex_;
  std::condition_variable work_ready_;
  std::condition_variable work_done_;
  uint64_t generation_ = 0;
  int active_workers_ = 0;
  bool stopping_ = false;
  TaskFunction function_ = nullptr;
  const void* context_ = nullptr;
  int64_t tasks_ = 0;
  std::atomic<int64_t> next_task_{0};
  std::vector<std::thread> workers_;
};

}  // namespace qft
