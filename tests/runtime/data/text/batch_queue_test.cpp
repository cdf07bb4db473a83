#include "runtime/data/text/batch_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <new>
#include <stdexcept>
#include <thread>

namespace qft {
namespace {

constexpr auto kPatience = std::chrono::seconds(60);
// Long enough for a thread that would go on to show it.
constexpr auto kLull = std::chrono::milliseconds(50);

ReadyBatch Numbered(int number) {
  return {{{number}, {}, {}, {}}, {0, static_cast<uint64_t>(number), 1000}};
}

bool Reaches(const std::atomic<int>& made, int count) {
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (made < count && std::chrono::steady_clock::now() < end) std::this_thread::yield();
  return made >= count;
}

TEST(BatchQueue, MakesSoManyAheadAndNoMore) {
  std::atomic<int> made = 0;
  BatchQueue queue([&made]() -> StatusOr<ReadyBatch> { return Numbered(made++); });
  std::this_thread::sleep_for(kLull);
  EXPECT_EQ(made, 0);
  int wanted = 0;
  for (const int ahead : {3, 3, 1, 1, 7, 2, 2, 2, 2, 2, 2, 2}) {
    const auto batch = queue.Pop(static_cast<size_t>(ahead));
    ASSERT_TRUE(batch.ok());
    EXPECT_EQ(batch->batch.token_ids, std::vector<int32_t>{wanted});
    EXPECT_EQ(batch->after.batch, static_cast<uint64_t>(wanted));
    ++wanted;
    ASSERT_TRUE(Reaches(made, wanted + ahead));
    if (ahead == 7) {
      std::this_thread::sleep_for(kLull);
      EXPECT_EQ(made, wanted + ahead);
    }
  }
}

TEST(BatchQueue, AFailureComesAfterWhatWasMadeAndStays) {
  int made = 0;
  BatchQueue queue([&made]() -> StatusOr<ReadyBatch> {
    if (made == 5) return BadData("the sixth");
    return Numbered(made++);
  });
  for (int i = 0; i < 5; ++i) {
    const auto batch = queue.Pop(100);
    ASSERT_TRUE(batch.ok()) << i;
    EXPECT_EQ(batch->batch.token_ids[0], i);
  }
  for (int i = 0; i < 3; ++i) EXPECT_EQ(queue.Pop(100).status(), BadData("the sixth"));
}

TEST(BatchQueue, WhatIsThrownIsAnError) {
  BatchQueue full([]() -> StatusOr<ReadyBatch> { throw std::bad_alloc(); });
  EXPECT_EQ(GetErrorInfo(full.Pop(1).status()).code, ErrorCode::kOutOfMemory);
  BatchQueue broken([]() -> StatusOr<ReadyBatch> { throw std::runtime_error("why"); });
  EXPECT_EQ(broken.Pop(1).status(), Internal("why"));
}

TEST(BatchQueue, EndsWhateverItsThreadDoes) {
  for (int popped = 0; popped < 4; ++popped) {
    for (int i = 0; i < 50; ++i) {
      int made = 0;
      BatchQueue queue([&made]() -> StatusOr<ReadyBatch> {
        if (made == 3) return BadData("no more");
        return Numbered(made++);
      });
      for (int k = 0; k < popped; ++k) EXPECT_TRUE(queue.Pop(2).ok());
    }
  }
}

}  // namespace
}  // namespace qft
