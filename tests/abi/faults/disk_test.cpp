// Disks that are full, slow to take bytes, or not to be written to: a save says so, and the last
// checkpoint loads.
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "tests/abi/faults/injection.h"
#include "tests/abi/faults/world.h"

namespace qft {
namespace {

namespace fs = std::filesystem;

constexpr int kSkipped = 77;
constexpr uid_t kNobody = 65534;

class Disk : public World {
 protected:
  Outcome TrySave(qft_session* session) {
    return Call([&](qft_error** error) { return Save(session, 1, error); });
  }
  // A session at step 2, and its checkpoint of step 1.
  qft_session* SavedOnce() {
    qft_session* session = Open();
    StepTo(session, 1);
    EXPECT_EQ(TrySave(session).status, QFT_OK);
    StepTo(session, 2);
    return session;
  }
  void ExpectRefused(qft_session* session, qft_status expected) {
    const Outcome outcome = TrySave(session);
    EXPECT_EQ(outcome.status, expected) << outcome.message;
    EXPECT_NE(outcome.message, "");
    EXPECT_EQ(HashOf(session), HashAt(2));
    EXPECT_EQ(Newest(), 1);
  }
  void ExpectSaves(qft_session* session) {
    const Outcome outcome = TrySave(session);
    EXPECT_EQ(outcome.status, QFT_OK) << outcome.message;
    EXPECT_EQ(Newest(), 2);
    EXPECT_FALSE(fs::exists(folder_ + "/step_2.tmp"));
  }
  // What changes the process for good happens in a child. Returns its exit status.
  template <typename F>
  int InChild(const F& body) {
    const pid_t child = ::fork();
    if (child == 0) {
      OpenModel();
      const int status = body();
      ::_exit(HasFailure() ? 1 : status);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_TRUE(WIFEXITED(status)) << "signal " << WTERMSIG(status);
    return WEXITSTATUS(status);
  }
};

TEST_F(Disk, ShortAndInterruptedTransfers) {
  injection::Start({.short_transfers = true});
  qft_session* session = SavedOnce();
  ExpectSaves(session);
  const std::string folder = root_ + "/exported";
  Must([&](qft_error** error) {
    return qft_export(session, model_, nullptr, folder.data(), folder.size(), error);
  });
  qft_model* model = nullptr;
  Must([&](qft_error** error) {
    return qft_model_load(folder.data(), folder.size(), &model, error);
  });
  injection::Stop();
  qft_model_destroy(model);
  qft_session_destroy(session);
}

// Full after every so many bytes, in the middle of each file.
TEST_F(Disk, Full) {
  qft_session* session = SavedOnce();
  const std::string saved = root_ + "/saved";
  fs::copy(folder_, saved, fs::copy_options::recursive);
  int64_t bytes = 0;
  for (const char* name : {"manifest.json", "states.safetensors"}) {
    bytes += static_cast<int64_t>(fs::file_size(saved + "/step_1/" + name));
  }
  for (int64_t left = 0; left < bytes - 16; left += 509) {
    SCOPED_TRACE(left);
    fs::remove_all(folder_);
    fs::copy(saved, folder_, fs::copy_options::recursive);
    injection::Start({.disk_bytes = left});
    const Outcome outcome = TrySave(session);
    injection::Stop();
    EXPECT_EQ(outcome.status, QFT_ERROR_NO_SPACE) << outcome.message;
    EXPECT_FALSE(fs::exists(folder_ + "/step_2.tmp"));
    EXPECT_EQ(Newest(), 1);
    ExpectSaves(session);
  }
  qft_session_destroy(session);
}

TEST_F(Disk, FileSizeLimit) {
  EXPECT_EQ(InChild([&] {
              qft_session* session = SavedOnce();
              ::signal(SIGXFSZ, SIG_IGN);
              rlimit limit{};
              ::getrlimit(RLIMIT_FSIZE, &limit);
              const rlimit small = {4096, limit.rlim_max};
              ::setrlimit(RLIMIT_FSIZE, &small);
              ExpectRefused(session, QFT_ERROR_IO);
              ::setrlimit(RLIMIT_FSIZE, &limit);
              ExpectSaves(session);
              qft_session_destroy(session);
              return 0;
            }),
            0);
}

// A disk that holds one checkpoint and not two.
TEST_F(Disk, SmallDiskIsFull) {
  const int status = InChild([&] {
    const bool mounted =
        ::unshare(::geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWNS | CLONE_NEWUSER) == 0 &&
        ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
        ::mount("none", root_.c_str(), "tmpfs", 0, "size=48k") == 0;
    if (!mounted) return kSkipped;
    qft_session* session = SavedOnce();
    ExpectRefused(session, QFT_ERROR_NO_SPACE);
    EXPECT_EQ(::mount("none", root_.c_str(), nullptr, MS_REMOUNT, "size=1m"), 0);
    ExpectSaves(session);
    qft_session_destroy(session);
    return 0;
  });
  if (status == kSkipped) GTEST_SKIP() << "no file system may be mounted here";
  EXPECT_EQ(status, 0);
}

TEST_F(Disk, ReadOnlyFolder) {
  ASSERT_EQ(::chmod(root_.c_str(), 0777), 0);
  EXPECT_EQ(InChild([&] {
              EXPECT_TRUE(::geteuid() != 0 || ::setresuid(kNobody, kNobody, kNobody) == 0);
              qft_session* session = SavedOnce();
              EXPECT_EQ(::chmod(folder_.c_str(), 0555), 0);
              ExpectRefused(session, QFT_ERROR_IO);
              EXPECT_EQ(::chmod(folder_.c_str(), 0755), 0);
              ExpectSaves(session);
              qft_session_destroy(session);
              return 0;
            }),
            0);
}

}  // namespace
}  // namespace qft
