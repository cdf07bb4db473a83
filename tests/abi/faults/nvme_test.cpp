// Momentum on NVMe, through the C interface: files that somebody else damages, disks that are full,
// kernels that forbid io_uring. A call says what happened, all later ones that the session is
// poisoned, and a new session goes on from the last checkpoint to the same states.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "tests/abi/faults/injection.h"
#include "tests/abi/faults/world.h"
#include "tests/offload/restricted.h"

namespace qft {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::seconds kSoon{5};

class Nvme : public World {
 protected:
  Nvme() {
    HashAt(4);  // with momentum in the engine's memory
    PutMomentumOnNvme("threads");
  }

  Outcome TryOpen(std::string* log = nullptr) {
    qft_session_options options{};
    options.struct_size = sizeof(options);
    options.user = log;
    options.log = [](void* user, int32_t level, const char* message, size_t length) {
      if (user == nullptr) return;
      *static_cast<std::string*>(user) +=
          std::to_string(level) + " " + std::string(message, length) + "\n";
    };
    session_ = nullptr;
    return Call([&](qft_error** error) {
      return qft_session_open(model_, config_, &options, &session_, error);
    });
  }
  void Destroy() {
    const auto start = Clock::now();
    qft_session_destroy(session_);
    EXPECT_LT(Clock::now() - start, kSoon);
  }

  // The files without a name that the session has open. Through such a path they can be opened once
  // more.
  std::vector<std::string> OffloadFiles() {
    std::vector<std::string> files;
    for (const auto& entry : fs::directory_iterator("/proc/self/fd")) {
      std::error_code error;
      const std::string target = fs::read_symlink(entry.path(), error).string();
      if (target.rfind(root_ + "/nvme", 0) == 0) files.push_back(entry.path());
    }
    EXPECT_FALSE(files.empty());
    return files;
  }
  void FlipABitOfEachPage() {
    constexpr off_t kPage = 4096;
    for (const std::string& path : OffloadFiles()) {
      const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
      ASSERT_GE(file, 0);
      struct stat info {};
      ASSERT_EQ(::fstat(file, &info), 0);
      for (off_t at = 100; at < info.st_size; at += kPage) {
        char byte = 0;
        ASSERT_EQ(::pread(file, &byte, 1, at), 1);
        byte = static_cast<char>(byte ^ 16);
        ASSERT_EQ(::pwrite(file, &byte, 1, at), 1);
      }
      ::close(file);
    }
  }
  void CutOff() {
    for (const std::string& path : OffloadFiles()) ASSERT_EQ(::truncate(path.c_str(), 4096), 0);
  }

  qft_status ReadMomentum(qft_error** error) {
    std::vector<float> values;
    const qft_tensor_view view = ViewOfEmbedding(values);
    return qft_tensor_read(session_, 0, QFT_TENSOR_MOMENTUM, &view, nullptr, error);
  }
  qft_status Hash(qft_error** error) {
    char hash[33];
    return qft_session_state_hash(session_, hash, sizeof(hash), error);
  }

  void ExpectPoisoned() {
    qft_decoder* decoder = nullptr;
    const std::vector<Outcome> outcomes = {
        Call([&](qft_error** error) { return Step(session_, 2, error); }),
        Call([&](qft_error** error) { return ReadMomentum(error); }),
        Call([&](qft_error** error) { return Hash(error); }),
        Call([&](qft_error** error) { return Save(session_, 1, error); }),
        Call([&](qft_error** error) { return qft_decoder_open(session_, 16, &decoder, error); })};
    for (const Outcome& outcome : outcomes) {
      EXPECT_EQ(outcome.status, QFT_ERROR_POISONED) << outcome.message;
      EXPECT_NE(outcome.message.find("restore the last checkpoint"), std::string::npos);
    }
    EXPECT_EQ(decoder, nullptr);
  }

  // From the checkpoint of step 1, in this process.
  void ExpectGoesOn() {
    EXPECT_EQ(Newest(), 1);
    qft_session* session = Open();
    qft_checkpoint* checkpoint = nullptr;
    Must([&](qft_error** error) { return OpenCheckpoint(&checkpoint, error); });
    Must([&](qft_error** error) { return qft_session_restore(session, checkpoint, error); });
    qft_checkpoint_destroy(checkpoint);
    StepTo(session, 4);
    EXPECT_EQ(HashOf(session), HashAt(4));
    qft_session_destroy(session);
  }

  // At step 2, all momentum at home, `damage` comes over the files.
  template <typename Damage, typename Next>
  void ExpectCorrupt(const Damage& damage, const Next& next) {
    for (const char* backend : {"io_uring", "threads"}) {
      SCOPED_TRACE(backend);
      Set("nvme_backend", backend);
      const Outcome opened = TryOpen();
      if (opened.status == QFT_ERROR_UNSUPPORTED) continue;
      ASSERT_EQ(opened.status, QFT_OK) << opened.message;
      fs::remove_all(folder_);
      StepTo(session_, 1);
      Must([&](qft_error** error) { return Save(session_, 1, error); });
      StepTo(session_, 2);
      EXPECT_EQ(HashOf(session_), HashAt(2));
      damage();
      const auto start = Clock::now();
      const Outcome outcome = Call(next);
      EXPECT_LT(Clock::now() - start, kSoon);
      EXPECT_EQ(outcome.status, QFT_ERROR_CORRUPT) << outcome.message;
      EXPECT_NE(outcome.message.find(root_ + "/nvme"), std::string::npos) << outcome.message;
      ExpectPoisoned();
      Destroy();
      ExpectGoesOn();
    }
  }

  // The updates of the first step may wait for the second's forward pass.
  qft_status UpdatedStep(qft_error** error) {
    const qft_status first = Step(session_, 2, error);
    return first == QFT_OK ? Step(session_, 3, error) : first;
  }

  qft_session* session_ = nullptr;
};

TEST_F(Nvme, ABitThatSomebodyFlipsIsFoundByAStep) {
  ExpectCorrupt([this] { FlipABitOfEachPage(); },
                [this](qft_error** error) { return UpdatedStep(error); });
}

TEST_F(Nvme, ABitThatSomebodyFlipsIsFoundByASave) {
  ExpectCorrupt([this] { FlipABitOfEachPage(); },
                [this](qft_error** error) { return Save(session_, 1, error); });
}

TEST_F(Nvme, AFileThatSomebodyCutsOffIsFoundByAStep) {
  ExpectCorrupt([this] { CutOff(); }, [this](qft_error** error) { return UpdatedStep(error); });
}

TEST_F(Nvme, AFileThatSomebodyCutsOffIsFoundByARead) {
  ExpectCorrupt([this] { CutOff(); }, [this](qft_error** error) { return ReadMomentum(error); });
}

TEST_F(Nvme, WhereUringIsForbiddenThreadsGiveTheSameBits) {
  Set("nvme_backend", "auto");
  const bool ran = RunRestricted({{SYS_io_uring_setup, EPERM}}, [&] {
    std::string log;
    const Outcome opened = TryOpen(&log);
    ASSERT_EQ(opened.status, QFT_OK) << opened.message;
    char plan[16384] = {};
    size_t needed = 0;
    Must([&](qft_error** error) {
      return qft_session_plan_json(session_, plan, sizeof(plan), &needed, error);
    });
    EXPECT_NE(log.find("\n1 momentum: "), std::string::npos) << log;  // a warning
    for (const std::string& said : {log, std::string(plan)}) {
      EXPECT_NE(said.find("8 threads of pread and pwrite"), std::string::npos) << said;
      EXPECT_NE(said.find("Operation not permitted"), std::string::npos) << said;
    }
    StepTo(session_, 4);
    EXPECT_EQ(HashOf(session_), HashAt(4));
    Destroy();
    Set("nvme_backend", "io_uring");
    const Outcome refused = TryOpen();
    EXPECT_EQ(refused.status, QFT_ERROR_UNSUPPORTED);
    EXPECT_NE(refused.message.find("Operation not permitted"), std::string::npos);
  });
  EXPECT_TRUE(ran) << "no filter can be installed here";
}

TEST_F(Nvme, WhatIsActiveAndHowFastIsLogged) {
  Set("nvme_backend", "auto");
  std::string log;
  ASSERT_EQ(TryOpen(&log).status, QFT_OK);
  const size_t line = log.find(" momentum: ");
  ASSERT_NE(line, std::string::npos) << log;
  for (const char* said : {"GB in ", "its trial read ", " s to come and ", root_.c_str()}) {
    EXPECT_NE(log.find(said, line), std::string::npos) << log.substr(line);
  }
  Destroy();
}

// With the bytes that are needed and those that there are; then where there is room.
TEST_F(Nvme, AFullDiskIsFoundAtOpen) {
  const std::string folder = root_ + "/nvme";
  const bool ran = RunWithSmallDisk(folder.c_str(), 64 << 10, [&] {
    const Outcome full = TryOpen();
    EXPECT_EQ(full.status, QFT_ERROR_NO_SPACE) << full.message;
    EXPECT_EQ(session_, nullptr);
    EXPECT_NE(full.message.find("reserve "), std::string::npos) << full.message;
    EXPECT_NE(full.message.find(" has 65536 bytes available"), std::string::npos) << full.message;
  });
  if (!ran) GTEST_SKIP() << "nothing can be mounted here";
  ASSERT_EQ(TryOpen().status, QFT_OK);
  StepTo(session_, 2);
  EXPECT_EQ(HashOf(session_), HashAt(2));
  Destroy();
}

// The file system promises the room and has not got it.
TEST_F(Nvme, ADiskThatCannotReserveAndIsFull) {
  const std::string folder = root_ + "/nvme";
  const bool ran = RunRestricted({{SYS_fallocate, EOPNOTSUPP}, {SYS_fstatfs, ENOSYS}}, [&] {
    EXPECT_TRUE(RunWithSmallDisk(folder.c_str(), 64 << 10, [&] {
      const auto start = Clock::now();
      const Outcome full = TryOpen();
      EXPECT_LT(Clock::now() - start, kSoon);
      EXPECT_EQ(full.status, QFT_ERROR_NO_SPACE) << full.message;
      EXPECT_NE(full.message.find("write of "), std::string::npos) << full.message;
      EXPECT_NE(full.message.find(folder), std::string::npos) << full.message;
    }));
  });
  if (!ran) GTEST_SKIP() << "no filter can be installed here";
}

// Nor do they leave anything there.
TEST_F(Nvme, SessionsShareAFolder) {
  ASSERT_EQ(TryOpen().status, QFT_OK);
  qft_session* other = Open();
  for (int64_t step = 1; step <= 4; ++step) {
    StepTo(session_, step);
    StepTo(other, step);
  }
  EXPECT_EQ(HashOf(session_), HashAt(4));
  EXPECT_EQ(HashOf(other), HashAt(4));
  EXPECT_TRUE(fs::is_empty(root_ + "/nvme"));
  qft_session_destroy(other);
  Destroy();
  EXPECT_TRUE(fs::is_empty(root_ + "/nvme"));
}

TEST_F(Nvme, NothingGrows) {
  ASSERT_EQ(TryOpen().status, QFT_OK);
  // Allocations and open files, with all momentum at home.
  const auto held = [&](int64_t step) {
    StepTo(session_, step);
    EXPECT_NE(HashOf(session_), "");
    return std::pair(injection::LiveAllocations(),
                     std::distance(fs::directory_iterator("/proc/self/fd"), {}));
  };
  const auto before = held(10);
  EXPECT_EQ(held(50), before);
  Destroy();
}

}  // namespace
}  // namespace qft
