// What a disk does wrong, on both backends: it is either put right without a trace, or a status
// that says what happened and where, and nothing hangs.
#include <gtest/gtest.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include <signal.h>
#include <sys/wait.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <thread>

#include "tests/offload/faulty_queue.h"
#include "tests/offload/store_fixture.h"

namespace qft {
namespace {

using Clock = std::chrono::steady_clock;

// "Within seconds".
constexpr std::chrono::seconds kSoon{5};

class StoreFaultsTest : public StoreTest {
 protected:
  static constexpr int64_t kBytes = 8 * kBlock;
  static constexpr std::chrono::milliseconds kTimeout{1000};

  // In memory: a busy disk takes longer than the timeouts here, at times.
  StoreFaultsTest() : StoreTest("/dev/shm") {}

  void SetUp() override {
    StoreTest::SetUp();
    if (!IsSkipped()) Open();
  }

  void Open() {
    StoreOptions options = Options(2);
    options.timeout = kTimeout;
    faults_.Arm({});
    options.wrap_queue = faults_.Wrap();
    auto store = Store::Open(options);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }

  Status Write() { return store_->Wait(store_->StartWrite(written_.data(), kBytes, 0)); }
  Status Read() { return store_->Wait(store_->StartRead(read_.data(), kBytes, 0)); }
  Status WriteAndRead() {
    const Status status = Write();
    return status.ok() ? Read() : status;
  }
  bool ReadWhatWasWritten() const {
    return std::memcmp(read_.data(), written_.data(), static_cast<size_t>(kBytes)) == 0;
  }

  // The error comes soon, is told to all that follow, and leaves a store that closes.
  void ExpectPoisoned(const Status& error) {
    ASSERT_FALSE(error.ok());
    const auto start = Clock::now();
    const uint64_t read = store_->StartRead(read_.data(), kBytes, 0);
    const uint64_t write = store_->StartWrite(written_.data(), kBytes, 0);
    EXPECT_GT(write, read);
    EXPECT_TRUE(store_->Done(read));
    EXPECT_EQ(store_->Wait(write), error);
    EXPECT_EQ(store_->Wait(read), error);
    EXPECT_EQ(store_->Wait(1), error);
    EXPECT_LT(Clock::now() - start, std::chrono::milliseconds(300));
  }

  Faults faults_;
  const Pages written_{kBytes, 1};
  const Pages read_{kBytes, 2};
  std::unique_ptr<Store> store_;
};

INSTANTIATE_TEST_SUITE_P(Backends, StoreFaultsTest,
                         ::testing::Values(StoreBackend::kIoUring, StoreBackend::kThreads),
                         BackendName);

TEST_P(StoreFaultsTest, WhatPassesIsPutRight) {
  for (const FaultKind kind : {FaultKind::kSlow, FaultKind::kShort, FaultKind::kInterrupted,
                               FaultKind::kAgain, FaultKind::kNothing}) {
    for (const bool write : {false, true}) {
      if (kind == FaultKind::kNothing && !write) continue;  // the end of the file
      for (int64_t nth = 1; nth <= kBytes / kBlock; ++nth) {
        faults_.Arm({kind, write, nth});
        std::memset(read_.data(), 0, static_cast<size_t>(kBytes));
        written_.data()[nth] ^= std::byte{1};
        ASSERT_EQ(WriteAndRead(), absl::OkStatus()) << static_cast<int>(kind) << " " << nth;
        ASSERT_TRUE(ReadWhatWasWritten()) << static_cast<int>(kind) << " " << nth;
      }
    }
  }
  EXPECT_EQ(store_->Close(), absl::OkStatus());
}

TEST_P(StoreFaultsTest, EveryTransferIsShortAndLate) {
  for (const FaultKind kind : {FaultKind::kShort, FaultKind::kSlow}) {
    for (const bool write : {false, true}) {
      faults_.Arm({kind, write, 1, true});
      written_.data()[0] ^= std::byte{1};
      EXPECT_EQ(WriteAndRead(), absl::OkStatus());
      EXPECT_TRUE(ReadWhatWasWritten());
    }
  }
}

TEST_P(StoreFaultsTest, AnErrorOfTheDiskIsTheStatus) {
  struct Case {
    int error;
    ErrorCode code;
  };
  for (const Case& expected : {Case{EIO, ErrorCode::kIo}, Case{ENOSPC, ErrorCode::kNoSpace},
                               Case{EDQUOT, ErrorCode::kNoSpace}}) {
    for (const bool write : {false, true}) {
      for (const int64_t nth : {1, 5, 8}) {
        Open();
        faults_.Arm({FaultKind::kError, write, nth, nth == 5, expected.error});
        const auto start = Clock::now();
        const Status status = WriteAndRead();
        EXPECT_LT(Clock::now() - start, kSoon);
        EXPECT_EQ(CodeOf(status), expected.code) << status;
        EXPECT_EQ(GetErrorInfo(status).native_code, expected.error);
        EXPECT_NE(status.message().find(write ? "write of 65536 bytes at offset"
                                              : "read of 65536 bytes at offset"),
                  std::string::npos)
            << status;
        EXPECT_NE(status.message().find(folder_), std::string::npos) << status;
        ExpectPoisoned(status);
        EXPECT_EQ(store_->Close(), absl::OkStatus());
      }
    }
  }
}

TEST_P(StoreFaultsTest, ALostRequestIsATimeoutEvenWhileOthersAreAnswered) {
  for (const bool write : {false, true}) {
    Open();
    ASSERT_EQ(Write(), absl::OkStatus());
    faults_.Arm({FaultKind::kNoAnswer, write, 3});
    const auto start = Clock::now();
    const uint64_t lost = write ? store_->StartWrite(written_.data(), kBytes, 0)
                                : store_->StartRead(read_.data(), kBytes, 0);
    const Pages other(kBlock);
    while (!store_->Done(lost)) {
      // Each of them is an answer of the same disks.
      (void)store_->Wait(store_->StartWrite(other.data(), kBlock, 16 * kBlock));
      ASSERT_LT(Clock::now() - start, kSoon);
    }
    const Status status = store_->Wait(lost);
    EXPECT_GE(Clock::now() - start, kTimeout);
    EXPECT_EQ(CodeOf(status), ErrorCode::kTimeout) << status;
    EXPECT_NE(status.message().find("no answer within 1000 ms"), std::string::npos) << status;
    EXPECT_NE(status.message().find(folder_), std::string::npos) << status;
    ExpectPoisoned(status);
    // Memory may still be written to.
    EXPECT_EQ(CodeOf(store_->Close()), ErrorCode::kTimeout);
  }
}

TEST_P(StoreFaultsTest, InterruptionsForEverAreATimeout) {
  for (const FaultKind kind : {FaultKind::kInterrupted, FaultKind::kAgain}) {
    Open();
    faults_.Arm({kind, true, 2, true});
    const auto start = Clock::now();
    const Status status = Write();
    EXPECT_LT(Clock::now() - start, kSoon);
    EXPECT_EQ(CodeOf(status), ErrorCode::kTimeout) << status;
    ExpectPoisoned(status);
    EXPECT_EQ(store_->Close(), absl::OkStatus());
  }
}

TEST_P(StoreFaultsTest, ADiskThatTakesNothingIsAnError) {
  faults_.Arm({FaultKind::kNothing, true, 2, true});
  const Status status = Write();
  EXPECT_EQ(CodeOf(status), ErrorCode::kIo) << status;
  ExpectPoisoned(status);
}

TEST_P(StoreFaultsTest, AThreadThatHangsInTheKernelIsATimeout) {
  faults_.Arm({FaultKind::kHangs, true, 3});
  const auto start = Clock::now();
  const Status status = Write();
  EXPECT_LT(Clock::now() - start, kSoon);
  EXPECT_EQ(CodeOf(status), ErrorCode::kTimeout) << status;
  EXPECT_NE(status.message().find(folder_), std::string::npos) << status;
  ExpectPoisoned(status);
  const auto close = Clock::now();
  EXPECT_EQ(CodeOf(store_->Close()), ErrorCode::kTimeout);
  EXPECT_LT(Clock::now() - close, kTimeout + kTimeout / 2);  // it has been waited for
}

TEST_P(StoreFaultsTest, DisksThatHangAreWaitedForTogether) {
  StoreOptions options = Options(4);
  options.timeout = kTimeout;
  options.wrap_queue = faults_.Wrap();
  auto store = Store::Open(options);
  ASSERT_TRUE(store.ok()) << store.status();
  faults_.Arm({FaultKind::kHangs, true, 1, true});
  (*store)->StartWrite(written_.data(), kBytes, 0);
  const auto written = Clock::now();
  while (faults_.Hanging() < 4 && Clock::now() - written < kSoon) std::this_thread::yield();
  const auto start = Clock::now();
  EXPECT_EQ(CodeOf((*store)->Close()), ErrorCode::kTimeout);
  EXPECT_LT(Clock::now() - start, 2 * 2 * kTimeout);  // one after the other takes twice as long
}

TEST_P(StoreFaultsTest, NoMemoryInTheThreadOfADiskIsAStatus) {
  for (const bool write : {false, true}) {
    Open();
    ASSERT_EQ(Write(), absl::OkStatus());
    faults_.Arm({FaultKind::kNoMemory, write, 1, true});
    const Status status = write ? Write() : Read();
    EXPECT_EQ(CodeOf(status), ErrorCode::kOutOfMemory) << status;
    EXPECT_NE(status.message().find(folder_), std::string::npos) << status;
    ExpectPoisoned(status);
    EXPECT_EQ(store_->Close(), absl::OkStatus());
  }
}

TEST_P(StoreFaultsTest, OneFlippedBitIsCorrupt) {
  for (const bool write : {false, true}) {
    for (int64_t nth = 1; nth <= kBytes / kBlock; ++nth) {
      Open();
      faults_.Arm({FaultKind::kFlipped, write, nth});
      const Status status = WriteAndRead();
      EXPECT_EQ(CodeOf(status), ErrorCode::kCorrupt) << status;
      // The bit is in the middle of a block.
      bool named = false;
      for (int64_t block = 0; block < kBytes / kBlock / 2; ++block) {
        const std::string place =
            "the page at offset " + std::to_string(block * kBlock + kBlock / 2) + " of the file";
        named |= status.message().find(place) != std::string::npos;
      }
      EXPECT_TRUE(named) << status;
      EXPECT_NE(status.message().find(folder_), std::string::npos) << status;
      ExpectPoisoned(status);
      EXPECT_EQ(store_->Close(), absl::OkStatus());
    }
  }
}

TEST_P(StoreFaultsTest, OnlyTheDamagedPageIsLost) {
  ASSERT_EQ(Write(), absl::OkStatus());
  faults_.Arm({FaultKind::kFlipped, true, 1});
  const Status rewrite = store_->Wait(store_->StartWrite(written_.data(), 3 * kStoreAlignment, 0));
  ASSERT_EQ(rewrite, absl::OkStatus());
  const int64_t damaged = kStoreAlignment;
  EXPECT_EQ(store_->Wait(store_->StartRead(read_.data(), kStoreAlignment, 0)), absl::OkStatus());
  EXPECT_EQ(store_->Wait(store_->StartRead(read_.data(), kBytes - 2 * damaged, 2 * damaged)),
            absl::OkStatus());
  const Status status = store_->Wait(store_->StartRead(read_.data(), kStoreAlignment, damaged));
  EXPECT_EQ(CodeOf(status), ErrorCode::kCorrupt) << status;
}

TEST_P(StoreFaultsTest, ThePreflightFindsWhatIsWrong) {
  struct Case {
    FaultKind kind;
    ErrorCode code;
  };
  for (const Case& expected :
       {Case{FaultKind::kFlipped, ErrorCode::kCorrupt}, Case{FaultKind::kError, ErrorCode::kIo},
        Case{FaultKind::kNoAnswer, ErrorCode::kTimeout}}) {
    for (const bool write : {false, true}) {
      StoreOptions options = Options(2);
      options.timeout = kTimeout;
      faults_.Arm({expected.kind, write, 2, false, EIO});
#ifdef __SANITIZE_ADDRESS__
      // Memory that a lost request may still be written to is never freed.
      const __lsan::ScopedDisabler deliberate;
#endif
      const auto start = Clock::now();
      options.wrap_queue = faults_.Wrap();
      const Status status = Store::Open(options).status();
      EXPECT_LT(Clock::now() - start, kSoon);
      EXPECT_EQ(CodeOf(status), expected.code) << status;
      EXPECT_NE(status.message().find("preflight"), std::string::npos) << status;
    }
  }
}

// A file without a name can still be opened through /proc.
TEST_P(StoreFaultsTest, AFileThatIsCutOffIsCorrupt) {
  for (const int64_t left : {int64_t{0}, 2 * kBlock, 2 * kBlock + 1000}) {
    Open();
    ASSERT_EQ(Write(), absl::OkStatus());
    const std::string first_disk = JoinPath(folder_, "disk0");
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
      std::error_code error;
      const std::string target = std::filesystem::read_symlink(entry.path(), error).string();
      if (target.rfind(first_disk, 0) == 0) {
        ASSERT_EQ(::truncate(entry.path().c_str(), left), 0);
      }
    }
    const auto start = Clock::now();
    const Status status = Read();
    EXPECT_LT(Clock::now() - start, kSoon);
    EXPECT_EQ(CodeOf(status), ErrorCode::kCorrupt) << status;
    EXPECT_NE(status.message().find("cut it off"), std::string::npos) << status;
    ExpectPoisoned(status);
  }
}

#ifndef __SANITIZE_THREAD__  // which can't follow threads of a process that was forked
// Ctrl-Z for longer than the timeout, with requests in flight.
TEST_P(StoreFaultsTest, TimeInWhichTheProcessIsStoppedIsNoFaultOfTheDisk) {
  store_.reset();  // its threads would be missing in the child
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    Open();
    faults_.Arm({FaultKind::kSlow, true, 1, true});
    const auto start = Clock::now();
    Status status;
    while (status.ok() && Clock::now() - start < 3 * kTimeout) status = Write();
    _exit(status.ok() ? 0 : 1);
  }
  std::this_thread::sleep_for(kTimeout);
  ASSERT_EQ(::kill(child, SIGSTOP), 0);
  std::this_thread::sleep_for(3 * kTimeout);
  ASSERT_EQ(::kill(child, SIGCONT), 0);
  int state = 0;
  ASSERT_EQ(::waitpid(child, &state, 0), child);
  EXPECT_TRUE(WIFEXITED(state));
  EXPECT_EQ(WEXITSTATUS(state), 0);
}
#endif

TEST_P(StoreFaultsTest, DestroyedWhileTheDiskIsSlow) {
  faults_.Arm({FaultKind::kSlow, true, 1, true});
  store_->StartWrite(written_.data(), kBytes, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  store_.reset();
}

}  // namespace
}  // namespace qft
