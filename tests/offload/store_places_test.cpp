// Where a store runs: kernels and containers without io_uring, file systems without this and that,
// full disks.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <cerrno>
#include <cstring>

#include "tests/offload/faulty_queue.h"
#include "tests/offload/restricted.h"
#include "tests/offload/store_fixture.h"

namespace qft {
namespace {

constexpr uint32_t kRegisterBuffers = 0;  // IORING_REGISTER_BUFFERS
constexpr uint32_t kRegisterFiles = 2;    // IORING_REGISTER_FILES
constexpr uint32_t kRegisterProbe = 8;    // IORING_REGISTER_PROBE

// With the backend as a parameter; those of io_uring alone are below.
class StorePlacesTest : public StoreTest {
 protected:
  // Opens a store under the filter, and moves its bytes to and fro.
  StoreReport UseRestricted(const std::vector<Forbidden>& calls) const {
    StoreReport report;
    const bool ran = RunRestricted(calls, [&] { report = Use(Options(2)); });
    EXPECT_TRUE(ran) << "no filter can be installed here";
    return report;
  }

  static StoreReport Use(const StoreOptions& options) {
    const Pages written(options.bytes, 1);
    const Pages read(options.bytes, 2);
    auto store = Store::Open(options);
    EXPECT_TRUE(store.ok()) << store.status();
    if (!store.ok()) return {};
    EXPECT_TRUE((*store)->Register(read.data(), static_cast<size_t>(read.bytes())).ok());
    EXPECT_EQ((*store)->Wait((*store)->StartWrite(written.data(), options.bytes, 0)),
              absl::OkStatus());
    EXPECT_EQ((*store)->Wait((*store)->StartRead(read.data(), options.bytes, 0)), absl::OkStatus());
    EXPECT_EQ(std::memcmp(written.data(), read.data(), static_cast<size_t>(options.bytes)), 0);
    EXPECT_TRUE(PosixFileSystem().List(options.folders.front())->empty());
    return (*store)->Report();
  }
};

bool Says(const StoreReport& report, const std::string& text) {
  return report.description.find(text) != std::string::npos;
}

INSTANTIATE_TEST_SUITE_P(Backends, StorePlacesTest,
                         ::testing::Values(StoreBackend::kIoUring, StoreBackend::kThreads),
                         BackendName);

TEST_P(StorePlacesTest, WithoutDirectTransfersThroughThePageCache) {
  const StoreReport report =
      UseRestricted({{SYS_fcntl, EINVAL, 2, static_cast<uint32_t>(O_DIRECT), 0}});
  EXPECT_FALSE(report.direct);
  EXPECT_TRUE(Says(report, "page cache")) << report.description;
  EXPECT_TRUE(Says(report, "O_DIRECT")) << report.description;
}

TEST_P(StorePlacesTest, WithoutNamelessFilesByRemovingTheName) {
  for (const int error : {EOPNOTSUPP, EISDIR}) {
    // The bit that O_TMPFILE doesn't share with O_DIRECTORY.
    const auto bit = static_cast<uint32_t>(O_TMPFILE & ~O_DIRECTORY);
    UseRestricted({{SYS_openat, error, 2, bit, 0}});
  }
}

TEST_P(StorePlacesTest, WithoutReservationsWhileThereIsRoom) {
  UseRestricted({{SYS_fallocate, EOPNOTSUPP}});
}

TEST_P(StorePlacesTest, ADiskThatFillsUpWhileItIsReserved) {
  ASSERT_TRUE(RunRestricted({{SYS_fallocate, ENOSPC}}, [&] {
    const Status status = Store::Open(Options(1)).status();
    EXPECT_EQ(CodeOf(status), ErrorCode::kNoSpace) << status;
  }));
}

TEST_P(StorePlacesTest, MoreThanTheDiskHasIsFoundAtOpen) {
  StoreOptions options = Options(1);
  options.bytes = int64_t{1} << 60;
  const Status status = Store::Open(options).status();
  EXPECT_EQ(CodeOf(status), ErrorCode::kNoSpace) << status;
  EXPECT_NE(status.message().find("reserve 1152921504606846976 bytes"), std::string::npos);
  EXPECT_NE(status.message().find(" bytes available"), std::string::npos) << status;
}

TEST_P(StorePlacesTest, AFullDiskIsFoundAtOpen) {
  const StoreOptions options = Options(1);
  const char* const folder = options.folders.front().c_str();
  const bool ran = RunWithSmallDisk(folder, options.bytes + 8 * kBlock, [&] {
    for (int round = 0; round < 3; ++round) {
      // The one before has left its space.
      auto first = Store::Open(options);
      ASSERT_TRUE(first.ok()) << first.status();
      const Status status = Store::Open(options).status();
      EXPECT_EQ(CodeOf(status), ErrorCode::kNoSpace) << status;
      EXPECT_NE(status.message().find(std::to_string(options.bytes)), std::string::npos) << status;
    }
  });
  if (!ran) GTEST_SKIP() << "nothing can be mounted here";
}

TEST_P(StorePlacesTest, ADiskThatCannotReserveAndFillsUpLater) {
  StoreOptions options = Options(1);
  options.bytes = 1024 * kBlock;
  const std::string& folder = options.folders.front();
  const auto use = [&] {
    // So slow that the preflight ends before it has written all.
    Faults faults;
    faults.Arm({FaultKind::kSlow, true, 1, true});
    options.wrap_queue = faults.Wrap();
    auto store = Store::Open(options);
    ASSERT_TRUE(store.ok()) << store.status();
    faults.Arm({});
    const std::string rest(static_cast<size_t>(options.bytes / 2), 'x');
    ASSERT_TRUE(WriteFileDurably(PosixFileSystem(), JoinPath(folder, "other"), rest).ok());
    const Pages written(options.bytes);
    const Status status = (*store)->Wait((*store)->StartWrite(written.data(), options.bytes, 0));
    EXPECT_EQ(CodeOf(status), ErrorCode::kNoSpace) << status;
    EXPECT_EQ((*store)->Close(), absl::OkStatus());
  };
  const bool ran = RunWithSmallDisk(folder.c_str(), options.bytes + 8 * kBlock, [&] {
    EXPECT_TRUE(RunRestricted({{SYS_fallocate, EOPNOTSUPP}}, use));
  });
  if (!ran) GTEST_SKIP() << "nothing can be mounted here";
}

TEST_P(StorePlacesTest, TheProcessLimitOnFilesIsAStatusAndNoSignal) {
  StoreOptions options = Options(1);
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const struct rlimit small { static_cast<rlim_t>(options.bytes / 2), before.rlim_max };
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &small), 0);
  const Status status = Store::Open(options).status();
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  EXPECT_EQ(CodeOf(status), ErrorCode::kNoSpace) << status;
  EXPECT_NE(status.message().find("ulimit -f"), std::string::npos) << status;
}

TEST_P(StorePlacesTest, WithoutMoreThreadsIsAStatus) {
  ASSERT_TRUE(RunRestricted({{SYS_clone3, EAGAIN}, {SYS_clone, EAGAIN}}, [&] {
    const Status status = Store::Open(Options(2)).status();
    EXPECT_EQ(CodeOf(status), ErrorCode::kIo) << status;
    EXPECT_NE(status.message().find("threads"), std::string::npos) << status;
  }));
}

// What io_uring lacks: the parameter is what is asked for.
class StoreWithoutUringTest : public StorePlacesTest {
 protected:
  void ExpectThreads(const std::vector<Forbidden>& calls, const std::string& why) const {
    StoreReport report;
    ASSERT_TRUE(RunRestricted(calls, [&] {
      StoreOptions options = Options(2);
      EXPECT_EQ(CodeOf(Store::Open(options).status()), ErrorCode::kUnsupported);
      options.backend = StoreBackend::kAuto;
      report = Use(options);
    }));
    EXPECT_EQ(report.backend, StoreBackend::kThreads);
    EXPECT_FALSE(report.registered);
    EXPECT_TRUE(Says(report, "8 threads of pread and pwrite")) << report.description;
    EXPECT_TRUE(Says(report, why)) << report.description;
  }
};

INSTANTIATE_TEST_SUITE_P(Backends, StoreWithoutUringTest, ::testing::Values(StoreBackend::kIoUring),
                         BackendName);

TEST_P(StoreWithoutUringTest, ForbiddenItsThreadsThatDoTheSame) {
  ExpectThreads({{SYS_io_uring_setup, EPERM}}, "Operation not permitted");
  ExpectThreads({{SYS_io_uring_setup, ENOSYS}}, "Function not implemented");
  ExpectThreads({{SYS_io_uring_setup, ENOMEM}}, "Cannot allocate memory");
}

TEST_P(StoreWithoutUringTest, RingsThatCanBeMadeAndNotUsed) {
  ExpectThreads({{SYS_io_uring_enter, EPERM}}, "Operation not permitted");
}

TEST_P(StoreWithoutUringTest, KernelsThatDoNotTellWhatTheyCan) {
  ExpectThreads({{SYS_io_uring_register, EINVAL, 1, 0, kRegisterProbe}}, "can't be used here");
}

TEST_P(StoreWithoutUringTest, AutoTakesItWhereItWorks) {
  StoreOptions options = Options(1);
  options.backend = StoreBackend::kAuto;
  const StoreReport report = Use(options);
  EXPECT_EQ(report.backend, StoreBackend::kIoUring);
  EXPECT_TRUE(report.registered);
}

TEST_P(StoreWithoutUringTest, MemoryThatCannotBePinnedIsUsedAsItIs) {
  const StoreReport report =
      UseRestricted({{SYS_io_uring_register, ENOMEM, 1, 0, kRegisterBuffers}});
  EXPECT_EQ(report.backend, StoreBackend::kIoUring);
  EXPECT_FALSE(report.registered);
  EXPECT_TRUE(Says(report, "without registered memory")) << report.description;
}

TEST_P(StoreWithoutUringTest, FilesThatCannotBeRegisteredAreUsedAsTheyAre) {
  const StoreReport report = UseRestricted({{SYS_io_uring_register, EPERM, 1, 0, kRegisterFiles}});
  EXPECT_EQ(report.backend, StoreBackend::kIoUring);
  EXPECT_TRUE(report.registered);
}

}  // namespace
}  // namespace qft
