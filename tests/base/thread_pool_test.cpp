#include "base/thread_pool.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>

namespace qft {
namespace {

std::atomic<int> starts{0};

TEST(ThreadPool, RunsEachTaskOnceOnAWorker) {
  const std::thread::id caller = std::this_thread::get_id();
  for (const int threads : {1, 2, 5}) {
    ThreadPool pool(threads, nullptr);
    for (const int64_t tasks : {0, 1, 3, 1000}) {
      std::vector<std::atomic<int>> seen(static_cast<size_t>(tasks));
      std::atomic<bool> on_caller{false};
      std::atomic<bool> bad_worker{false};
      pool.ParallelFor(tasks, [&](int64_t task, int worker) {
        ++seen[static_cast<size_t>(task)];
        if (std::this_thread::get_id() == caller) on_caller = true;
        if (worker < 0 || worker >= threads) bad_worker = true;
      });
      for (const std::atomic<int>& count : seen) EXPECT_EQ(count, 1);
      EXPECT_FALSE(on_caller);
      EXPECT_FALSE(bad_worker);
    }
  }
}

TEST(ThreadPool, StartsEachWorkerOnce) {
  starts = 0;
  {
    ThreadPool pool(3, [] { ++starts; });
    pool.ParallelFor(10, [](int64_t, int) {});
  }
  EXPECT_EQ(starts, 3);
}

TEST(ThreadPool, ManyShortRunsFollowEachOther) {
  ThreadPool pool(4, nullptr);
  int64_t total = 0;
  for (int round = 0; round < 5000; ++round) {
    std::atomic<int64_t> sum{0};
    pool.ParallelFor(7, [&](int64_t task, int) { sum += task; });
    total += sum;
  }
  EXPECT_EQ(total, 5000 * 21);
}

}  // namespace
}  // namespace qft
