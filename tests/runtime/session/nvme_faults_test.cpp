// A disk under a session's momentum that does wrong what a queue can do wrong: what passes leaves
// no trace in the states; the rest is a status of the call within seconds, then POISONED, and a new
// session goes on from the last checkpoint to the same bits.
#include <gtest/gtest.h>
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>
#endif

#include <cerrno>
#include <chrono>
#include <map>

#include "runtime/tensor_io.h"
#include "tests/offload/faulty_queue.h"
#include "tests/runtime/session/tiny_session.h"

namespace qft {
namespace {

using Clock = std::chrono::steady_clock;

// "Within seconds".
constexpr std::chrono::seconds kSoon{5};
constexpr std::chrono::milliseconds kTimeout{500};

struct Case {
  const char* name;
  FaultKind kind;
  bool write;
  int error;
  ErrorCode code;
};

const Case kDisk[] = {
    {"a read fails", FaultKind::kError, false, EIO, ErrorCode::kIo},
    {"a write fails", FaultKind::kError, true, EIO, ErrorCode::kIo},
    {"a file system that could not reserve is full", FaultKind::kError, true, ENOSPC,
     ErrorCode::kNoSpace},
    {"a bit that is read flips", FaultKind::kFlipped, false, 0, ErrorCode::kCorrupt},
    {"a bit that is written flips", FaultKind::kFlipped, true, 0, ErrorCode::kCorrupt},
    {"no memory to read", FaultKind::kNoMemory, false, 0, ErrorCode::kOutOfMemory},
    {"no memory to write", FaultKind::kNoMemory, true, 0, ErrorCode::kOutOfMemory},
};
// They take the timeout.
const Case kSilent[] = {
    {"a read is not answered", FaultKind::kNoAnswer, false, 0, ErrorCode::kTimeout},
    {"a write is not answered", FaultKind::kNoAnswer, true, 0, ErrorCode::kTimeout},
    {"the kernel keeps a thread", FaultKind::kHangs, true, 0, ErrorCode::kTimeout},
};

class NvmeFaultsTest : public FolderTest, public testing::WithParamInterface<StoreBackend> {
 protected:
  // In memory: a busy disk takes longer than the timeouts here, at times.
  NvmeFaultsTest() : FolderTest("/dev/shm") {
    config_.momentum = MomentumPlace::kNvme;
    config_.nvme_backend = GetParam();
    config_.staging = 0;
    for (const char* disk : {"disk0", "disk1"}) {
      EXPECT_TRUE(MakeDirectories(PosixFileSystem(), Path(disk)).ok());
    }
    config_.nvme_folders = Path("disk0") + ":" + Path("disk1");
    store_.block_bytes = 2 * kStoreAlignment;
    store_.timeout = kTimeout;
  }
  void SetUp() override {
    const auto session = Session::Open(model_, config_, nullptr);
    if (GetErrorInfo(session.status()).code == ErrorCode::kUnsupported) {
      GTEST_SKIP() << session.status();
    }
    ASSERT_TRUE(session.ok()) << session.status();
  }

  StatusOr<std::unique_ptr<Session>> Open() {
    StoreOptions store = store_;
    store.wrap_queue = faults_.Wrap();
    return Session::Open(model_, config_, nullptr, store);
  }
  // A session at step 2 that was saved there.
  std::unique_ptr<Session> OpenAndSave() {
    faults_.Arm({});
    auto opened = Open();
    EXPECT_TRUE(opened.ok()) << opened.status();
    std::unique_ptr<Session> session = *std::move(opened);
    StepTiny(*session, 0);
    StepTiny(*session, 1);
    std::error_code ignored;
    std::filesystem::remove_all(Path("saved"), ignored);
    EXPECT_EQ(SaveTo(*session, PosixFileSystem(), Path("saved")), absl::OkStatus());
    return session;
  }
  // With momentum in the engine's memory.
  std::string Expected(int step) {
    std::string& hash = expected_[{config_.gradients, step}];
    if (!hash.empty()) return hash;
    SessionConfig config = config_;
    config.momentum = MomentumPlace::kDevice;
    const std::unique_ptr<Session> session = OpenTiny(model_, config);
    for (int i = 0; i < step; ++i) StepTiny(*session, i);
    return hash = HashOf(*session);
  }
  Status Restore(Session& session) {
    QFT_ASSIGN_OR_RETURN(const CheckpointFiles files,
                         OpenCheckpoint(PosixFileSystem(), Path("saved")));
    return RestoreCheckpoint(session, PosixFileSystem(), files);
  }
  Status ReadMomentum(Session& session) {
    std::vector<float> values(static_cast<size_t>(model_->table()[0].elements()));
    return ReadTensor(session, 0, TensorPart::kMomentum, values.data());
  }
  Status WriteMomentum(Session& session) {
    const std::vector<float> values(static_cast<size_t>(model_->table()[0].elements()), 0.5f);
    return WriteTensor(session, 0, TensorPart::kMomentum, values.data());
  }

  // With the updates that would wait for the next.
  static Status OneStep(Session& session) {
    const Status status = TryStepTiny(session, 2);
    return status.ok() ? session.FinishUpdates() : status;
  }
  // What was written behind a step is looked at by a later one.
  static Status StepsUntilError(Session& session) {
    Status status;
    for (int i = 0; i < 3 && status.ok(); ++i) status = TryStepTiny(session, 2 + i);
    return status;
  }

  void ExpectPoisoned(Session& session) {
    const auto start = Clock::now();
    std::vector<float> logits(24 * 4096);
    const std::vector<int32_t> tokens(24, 1);
    BatchView batch;
    batch.tokens = 24;
    batch.token_ids = tokens.data();
    for (const Status& status :
         {session.BeginStep({1e-2, 0, {}}), session.Accumulate({batch}), session.EndStep().status(),
          session.AbandonStep(), session.Evaluate({batch}, nullptr).status(),
          session.Forward(batch, false, logits.data()), ReadMomentum(session),
          WriteMomentum(session), StateHash(session).status(), Restore(session),
          SaveTo(session, PosixFileSystem(), Path("poisoned"))}) {
      EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kPoisoned) << status;
    }
    EXPECT_FALSE(std::filesystem::exists(Path("poisoned/step_2")));
    EXPECT_LT(Clock::now() - start, std::chrono::seconds(1));
  }

  // From the checkpoint, on a disk that is well again.
  void ExpectGoesOn() {
    faults_.Arm({});
    auto session = Open();
    ASSERT_TRUE(session.ok()) << session.status();
    ASSERT_EQ(Restore(**session), absl::OkStatus());
    EXPECT_EQ(HashOf(**session), Expected(2));
    StepTiny(**session, 2);
    StepTiny(**session, 3);
    EXPECT_EQ(HashOf(**session), Expected(4));
  }

  template <typename Call>
  void ExpectFails(const Case& fault, const Call& call) {
    SCOPED_TRACE(fault.name);
#ifdef __SANITIZE_ADDRESS__
    // Memory that a lost request may still be written to is never freed.
    const __lsan::ScopedDisabler deliberate;
#endif
    std::unique_ptr<Session> session = OpenAndSave();
    faults_.Arm({fault.kind, fault.write, 2, fault.kind == FaultKind::kError, fault.error});
    auto start = Clock::now();
    const Status status = call(*session);
    EXPECT_LT(Clock::now() - start, kSoon);
    EXPECT_EQ(GetErrorInfo(status).code, fault.code) << status;
    EXPECT_NE(status.message().find(folder_), std::string::npos) << status;
    ExpectPoisoned(*session);
    start = Clock::now();
    session.reset();
    EXPECT_LT(Clock::now() - start, kSoon);
    ExpectGoesOn();
  }

  // The embedding's codes fill several blocks.
  const std::shared_ptr<const Model> model_ = TinyModel(2, true, 4096);
  SessionConfig config_ = TinyConfig();
  StoreOptions store_;
  Faults faults_;
  std::map<std::pair<GradientMode, int>, std::string> expected_;
};

INSTANTIATE_TEST_SUITE_P(Backends, NvmeFaultsTest,
                         testing::Values(StoreBackend::kIoUring, StoreBackend::kThreads),
                         [](const auto& info) {
                           return info.param == StoreBackend::kIoUring ? "io_uring" : "threads";
                         });

TEST_P(NvmeFaultsTest, AStepSaysWhatHappened) {
  for (const GradientMode gradients : {GradientMode::kStack, GradientMode::kFused}) {
    config_.gradients = gradients;
    for (const int64_t staging : {int64_t{0}, int64_t{64} << 20}) {
      config_.staging = staging;
      for (const Case& fault : kDisk) ExpectFails(fault, fault.write ? StepsUntilError : OneStep);
    }
  }
}

TEST_P(NvmeFaultsTest, AStepDoesNotHang) {
  for (const Case& fault : kSilent) ExpectFails(fault, fault.write ? StepsUntilError : OneStep);
}

TEST_P(NvmeFaultsTest, ASaveAndAReadSayWhatHappened) {
  for (const Case& fault : kDisk) {
    if (fault.write) continue;
    ExpectFails(
        fault, [&](Session& session) { return SaveTo(session, PosixFileSystem(), Path("other")); });
    ExpectFails(fault, [&](Session& session) { return ReadMomentum(session); });
  }
}

TEST_P(NvmeFaultsTest, ASaveDoesNotHang) {
  ExpectFails(kSilent[0],
              [&](Session& session) { return SaveTo(session, PosixFileSystem(), Path("other")); });
}

// Nobody has noticed yet.
TEST_P(NvmeFaultsTest, DestroyedWhileTheDiskIsSilent) {
#ifdef __SANITIZE_ADDRESS__
  const __lsan::ScopedDisabler deliberate;
#endif
  config_.staging = int64_t{64} << 20;  // where no update waits for what the one before wrote
  for (const bool write : {false, true}) {
    std::unique_ptr<Session> session = OpenAndSave();
    faults_.Arm({FaultKind::kNoAnswer, write, 2, true});
    if (write) {
      StepTiny(*session, 2);
    } else {
      ASSERT_EQ(session->BeginStep({1e-2, 0, {}}), absl::OkStatus());
    }
    const auto start = Clock::now();
    session.reset();
    EXPECT_LT(Clock::now() - start, kSoon);
    ExpectGoesOn();
  }
}

// The second write of a tensor or a checkpoint is not that of a step.
TEST_P(NvmeFaultsTest, WritingATensorAndLoadingSayWhatHappened) {
  for (const Case& fault : kDisk) {
    if (fault.kind == FaultKind::kFlipped && fault.write) continue;  // found when it is read
    ExpectFails(fault, [&](Session& session) { return WriteMomentum(session); });
    ExpectFails(fault, [&](Session& session) { return Restore(session); });
  }
}

TEST_P(NvmeFaultsTest, OpeningSaysWhatHappened) {
  for (const Case& fault : kDisk) {
    SCOPED_TRACE(fault.name);
    faults_.Arm({fault.kind, fault.write, 2, fault.kind == FaultKind::kError, fault.error});
    const Status status = Open().status();
    EXPECT_EQ(GetErrorInfo(status).code, fault.code) << status;
    EXPECT_NE(status.message().find("preflight"), std::string::npos) << status;
  }
}

TEST_P(NvmeFaultsTest, WhatPassesLeavesNoTrace) {
  for (const GradientMode gradients : {GradientMode::kStack, GradientMode::kFused}) {
    config_.gradients = gradients;
    for (const FaultKind kind :
         {FaultKind::kSlow, FaultKind::kShort, FaultKind::kInterrupted, FaultKind::kAgain}) {
      for (const bool write : {false, true}) {
        faults_.Arm({});
        auto session = Open();
        ASSERT_TRUE(session.ok()) << session.status();
        for (int step = 0; step < 4; ++step) {
          faults_.Arm({kind, write, 2 * step + 1, kind == FaultKind::kShort});
          StepTiny(**session, step);
        }
        EXPECT_EQ(HashOf(**session), Expected(4)) << static_cast<int>(kind) << write;
      }
    }
  }
}

}  // namespace
}  // namespace qft
