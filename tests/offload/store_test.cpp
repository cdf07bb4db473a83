#include "offload/store.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "tests/offload/faulty_queue.h"
#include "tests/offload/store_fixture.h"

namespace qft {
namespace {

INSTANTIATE_TEST_SUITE_P(Backends, StoreTest,
                         ::testing::Values(StoreBackend::kIoUring, StoreBackend::kThreads),
                         BackendName);

// Transfers of random ranges, up to eight at a time, beside memory that holds what must be there.
class RandomTransfers {
 public:
  RandomTransfers(Store& store, int64_t bytes, unsigned seed)
      : store_(store), bytes_(bytes), random_(seed), model_(bytes, seed), lane_(bytes / kLanes) {}

  // All is written once, so that all may be read.
  Status Fill() { return store_.Wait(store_.StartWrite(model_.data(), bytes_, 0)); }

  Status Run(int rounds) {
    for (int round = 0; round < rounds; ++round) {
      QFT_RETURN_IF_ERROR(Start(round % kLanes));
    }
    for (int lane = 0; lane < kLanes; ++lane) QFT_RETURN_IF_ERROR(End(lane));
    return absl::OkStatus();
  }

 private:
  // Each lane has a part of the store and one transfer: no two overlap.
  static constexpr int kLanes = 8;
  struct Running {
    uint64_t ticket = 0;
    bool write = false;
    int64_t offset = 0;
    std::unique_ptr<Pages> memory;
  };

  int64_t Below(int64_t limit) {
    return static_cast<int64_t>(random_() % static_cast<uint64_t>(limit));
  }

  Status Start(int lane) {
    QFT_RETURN_IF_ERROR(End(lane));
    const int64_t pages = lane_ / kStoreAlignment;
    const int64_t first = Below(pages);
    const int64_t count = 1 + Below(pages - first);
    Running& running = running_[lane];
    running.write = Below(2) == 0;
    running.offset = lane * lane_ + first * kStoreAlignment;
    running.memory =
        std::make_unique<Pages>(count * kStoreAlignment, static_cast<unsigned>(random_()));
    const int64_t bytes = running.memory->bytes();
    running.ticket = running.write
                         ? store_.StartWrite(running.memory->data(), bytes, running.offset)
                         : store_.StartRead(running.memory->data(), bytes, running.offset);
    return absl::OkStatus();
  }

  Status End(int lane) {
    Running& running = running_[lane];
    if (running.ticket == 0) return absl::OkStatus();
    QFT_RETURN_IF_ERROR(store_.Wait(running.ticket));
    running.ticket = 0;
    std::byte* const expected = model_.data() + running.offset;
    const auto bytes = static_cast<size_t>(running.memory->bytes());
    if (running.write) {
      std::memcpy(expected, running.memory->data(), bytes);
    } else if (std::memcmp(expected, running.memory->data(), bytes) != 0) {
      return Internal("read at ", running.offset, " isn't what was written");
    }
    return absl::OkStatus();
  }

  Store& store_;
  const int64_t bytes_;
  std::mt19937_64 random_;
  Pages model_;
  const int64_t lane_;
  Running running_[kLanes];
};

TEST_P(StoreTest, RandomTransfersEqualAModel) {
  for (const int folders : {1, 2, 3}) {
    StoreOptions options = Options(folders);
    options.bytes = 61 * kBlock - 8 * kStoreAlignment;  // no whole number of blocks
    auto store = Store::Open(options);
    ASSERT_TRUE(store.ok()) << store.status();
    RandomTransfers transfers(**store, options.bytes, static_cast<unsigned>(folders));
    ASSERT_TRUE(transfers.Fill().ok());
    EXPECT_EQ(transfers.Run(200), absl::OkStatus());
    EXPECT_EQ((*store)->Close(), absl::OkStatus());
  }
}

TEST_P(StoreTest, RegisteredMemoryTransfersTheSame) {
  const StoreOptions options = Options(2);
  const Pages written(options.bytes, 1);
  const Pages read(options.bytes, 2);
  auto store = Store::Open(options);
  ASSERT_TRUE(store.ok()) << store.status();
  // One is registered, the other isn't.
  ASSERT_TRUE((*store)->Register(written.data(), static_cast<size_t>(written.bytes())).ok());
  EXPECT_EQ((*store)->Report().registered, GetParam() == StoreBackend::kIoUring);
  for (int i = 0; i < 2; ++i) {
    const Pages& to = i == 0 ? read : written;
    ASSERT_TRUE((*store)->Wait((*store)->StartWrite(written.data(), options.bytes, 0)).ok());
    ASSERT_TRUE((*store)->Wait((*store)->StartRead(to.data(), options.bytes, 0)).ok());
    EXPECT_EQ(std::memcmp(written.data(), read.data(), static_cast<size_t>(options.bytes)), 0);
  }
}

TEST_P(StoreTest, TheSameFolderTwiceIsTwoFiles) {
  StoreOptions options = Options(1);
  options.folders.push_back(options.folders.front());
  auto store = Store::Open(options);
  ASSERT_TRUE(store.ok()) << store.status();
  RandomTransfers transfers(**store, options.bytes, 1);
  ASSERT_TRUE(transfers.Fill().ok());
  EXPECT_EQ(transfers.Run(50), absl::OkStatus());
}

TEST_P(StoreTest, TransfersOfSeveralThreads) {
  StoreOptions options = Options(2);
  auto store = Store::Open(options);
  ASSERT_TRUE(store.ok()) << store.status();
  constexpr int kThreads = 4;
  const int64_t share = options.bytes / kThreads;
  std::vector<Status> results(kThreads);
  std::vector<std::thread> threads;
  threads.reserve(kThreads);
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      const Pages written(share, static_cast<unsigned>(i));
      const Pages read(share, 100);
      Status& result = results[static_cast<size_t>(i)];
      for (int round = 0; round < 10 && result.ok(); ++round) {
        written.data()[round] = std::byte{static_cast<unsigned char>(round)};
        result.Update((*store)->Wait((*store)->StartWrite(written.data(), share, i * share)));
        result.Update((*store)->Wait((*store)->StartRead(read.data(), share, i * share)));
        if (std::memcmp(written.data(), read.data(), static_cast<size_t>(share)) != 0) {
          result.Update(Internal("another thread's bytes"));
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const Status& result : results) EXPECT_EQ(result, absl::OkStatus());
}

TEST_P(StoreTest, TicketsCountUpAndAreWaitedForInAnyOrder) {
  const StoreOptions options = Options(2);
  const Pages memory(options.bytes);
  auto store = Store::Open(options);
  ASSERT_TRUE(store.ok()) << store.status();
  std::vector<uint64_t> tickets;
  for (int64_t offset = 0; offset < options.bytes; offset += kBlock) {
    tickets.push_back((*store)->StartWrite(memory.data() + offset, kBlock, offset));
  }
  EXPECT_TRUE(std::is_sorted(tickets.begin(), tickets.end()));
  std::shuffle(tickets.begin(), tickets.end(), std::minstd_rand(1));
  for (const uint64_t ticket : tickets) {
    EXPECT_EQ((*store)->Wait(ticket), absl::OkStatus());
    EXPECT_TRUE((*store)->Done(ticket));
    EXPECT_EQ((*store)->Wait(ticket), absl::OkStatus());
  }
  EXPECT_EQ(CodeOf((*store)->Wait(0)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(CodeOf((*store)->Wait(tickets.size() + 1000)), ErrorCode::kInvalidArgument);
  EXPECT_EQ((*store)->Report().bytes_written, options.bytes);
}

TEST_P(StoreTest, AFullQueueHoldsBackAndDoesNotGrow) {
  StoreOptions options = Options(1);
  options.bytes = 1024 * kStoreAlignment;
  options.block_bytes = kStoreAlignment;
  options.depth = 4;
  Faults faults;
  options.wrap_queue = faults.Wrap();
  const Pages memory(options.bytes);
  auto store = Store::Open(options);
  ASSERT_TRUE(store.ok()) << store.status();
  faults.Arm({FaultKind::kSlow, true, 1, false});
  std::vector<uint64_t> tickets;
  for (int64_t offset = 0; offset < options.bytes; offset += kStoreAlignment) {
    tickets.push_back((*store)->StartWrite(memory.data() + offset, kStoreAlignment, offset));
    const auto under_way = std::count_if(tickets.begin(), tickets.end(),
                                         [&](uint64_t t) { return !(*store)->Done(t); });
    ASSERT_LE(under_way, 256);
  }
  for (const uint64_t ticket : tickets) EXPECT_EQ((*store)->Wait(ticket), absl::OkStatus());
  EXPECT_LE(faults.MostInFlight(), options.depth);
  EXPECT_GT(faults.MostInFlight(), 1);
}

TEST_P(StoreTest, ReportsWhatItMeasured) {
  const StoreOptions options = Options(2);
  const Pages memory(3 * kBlock);
  auto store = Store::Open(options);
  ASSERT_TRUE(store.ok()) << store.status();
  const StoreReport opened = (*store)->Report();
  EXPECT_EQ(opened.backend, GetParam());
  EXPECT_NE(opened.description, "");
  EXPECT_GT(opened.preflight_read, 1e5);
  EXPECT_GT(opened.preflight_write, 1e5);
  EXPECT_EQ(opened.bytes_read + opened.bytes_written, 0);
  EXPECT_EQ(opened.seconds_reading + opened.seconds_writing, 0);
  ASSERT_TRUE((*store)->Wait((*store)->StartWrite(memory.data(), 3 * kBlock, 0)).ok());
  ASSERT_TRUE((*store)->Wait((*store)->StartRead(memory.data(), kBlock, 0)).ok());
  const StoreReport used = (*store)->Report();
  EXPECT_EQ(used.bytes_written, 3 * kBlock);
  EXPECT_EQ(used.bytes_read, kBlock);
  EXPECT_GT(used.seconds_writing, 0);
  EXPECT_GT(used.seconds_reading, 0);
}

TEST_P(StoreTest, WhatWasNeverWrittenIsAnErrorAndNoZeros) {
  const StoreOptions options = Options(2);
  const Pages memory(2 * kBlock);
  auto store = Store::Open(options);
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_TRUE((*store)->Wait((*store)->StartWrite(memory.data(), kBlock, kBlock)).ok());
  EXPECT_TRUE((*store)->Wait((*store)->StartRead(memory.data(), kBlock, kBlock)).ok());
  const Status status = (*store)->Wait(
      (*store)->StartRead(memory.data(), 2 * kStoreAlignment, 2 * kBlock - kStoreAlignment));
  EXPECT_EQ(CodeOf(status), ErrorCode::kInvalidArgument);
  EXPECT_NE(status.message().find("never written"), std::string::npos) << status;
}

TEST_P(StoreTest, WrongArgumentsAreStatuses) {
  const StoreOptions good = Options(1);
  const Pages memory(2 * kBlock);
  const auto result = [&](std::byte* data, int64_t bytes, int64_t offset) {
    auto store = Store::Open(good);
    EXPECT_TRUE(store.ok()) << store.status();
    return CodeOf((*store)->Wait((*store)->StartWrite(data, bytes, offset)));
  };
  EXPECT_EQ(result(memory.data(), kBlock, 0), ErrorCode::kOk);
  EXPECT_EQ(result(nullptr, kBlock, 0), ErrorCode::kInvalidArgument);
  EXPECT_EQ(result(memory.data() + 512, kBlock, 0), ErrorCode::kInvalidArgument);
  EXPECT_EQ(result(memory.data(), kBlock - 1, 0), ErrorCode::kInvalidArgument);
  EXPECT_EQ(result(memory.data(), kBlock, 512), ErrorCode::kInvalidArgument);
  EXPECT_EQ(result(memory.data(), 0, 0), ErrorCode::kOutOfRange);
  EXPECT_EQ(result(memory.data(), -kBlock, kBlock), ErrorCode::kOutOfRange);
  EXPECT_EQ(result(memory.data(), kBlock, -kBlock), ErrorCode::kOutOfRange);
  EXPECT_EQ(result(memory.data(), kBlock, good.bytes - kStoreAlignment), ErrorCode::kOutOfRange);
  EXPECT_EQ(result(memory.data(), kBlock, INT64_MAX - kStoreAlignment + 1), ErrorCode::kOutOfRange);
}

TEST_P(StoreTest, WrongOptionsAreStatuses) {
  const auto result = [&](void (*change)(StoreOptions&)) {
    StoreOptions options = Options(1);
    change(options);
    return CodeOf(Store::Open(options).status());
  };
  EXPECT_EQ(result([](StoreOptions& o) { o.folders.clear(); }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(result([](StoreOptions& o) { o.bytes = 0; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(result([](StoreOptions& o) { o.bytes += 512; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(result([](StoreOptions& o) { o.block_bytes = 1000; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(result([](StoreOptions& o) { o.depth = 0; }), ErrorCode::kInvalidArgument);
  EXPECT_EQ(result([](StoreOptions& o) { o.timeout = std::chrono::milliseconds(0); }),
            ErrorCode::kInvalidArgument);
  EXPECT_EQ(result([](StoreOptions& o) { o.folders.front() += "/missing"; }),
            ErrorCode::kFileNotFound);
}

TEST_P(StoreTest, ItsFilesHaveNoNames) {
  const StoreOptions options = Options(2);
  auto store = Store::Open(options);
  ASSERT_TRUE(store.ok()) << store.status();
  for (const std::string& folder : options.folders) {
    EXPECT_TRUE(PosixFileSystem().List(folder)->empty()) << folder;
  }
}

TEST_P(StoreTest, DestroyedWithTransfersUnderWay) {
  const StoreOptions options = Options(2);
  for (int round = 0; round < 10; ++round) {
    const Pages memory(options.bytes);
    auto store = Store::Open(options);
    ASSERT_TRUE(store.ok()) << store.status();
    ASSERT_TRUE((*store)->Wait((*store)->StartWrite(memory.data(), options.bytes / 2, 0)).ok());
    (*store)->StartRead(memory.data(), options.bytes / 2, 0);
    (*store)->StartWrite(memory.data() + options.bytes / 2, options.bytes / 2, options.bytes / 2);
  }
}

TEST_P(StoreTest, CloseEndsWhatIsUnderWayAndAllThatFollows) {
  const StoreOptions options = Options(2);
  const Pages memory(options.bytes);
  auto store = Store::Open(options);
  ASSERT_TRUE(store.ok()) << store.status();
  (*store)->StartWrite(memory.data(), options.bytes, 0);
  EXPECT_EQ((*store)->Close(), absl::OkStatus());
  EXPECT_EQ((*store)->Close(), absl::OkStatus());
  EXPECT_EQ(CodeOf((*store)->Wait((*store)->StartWrite(memory.data(), kBlock, 0))),
            ErrorCode::kState);
}

}  // namespace
}  // namespace qft
