// Every operation of a save, a prune and a load fails once, and once for good, as when the disk is
// full or the process dies there. A checkpoint that was whole before can be loaded afterwards.
#include <filesystem>

#include "runtime/checkpoint.h"
#include "runtime/checkpoint_retention.h"
#include "tests/runtime/session/fault_file_system.h"
#include "tests/runtime/session/tiny_session.h"

namespace qft {
namespace {

class CheckpointFaultsTest : public FolderTest {
 protected:
  CheckpointFaultsTest()
      : model_(TinyModel(1)), session_(OpenTiny(model_)), loader_(OpenTiny(model_)) {}
  ~CheckpointFaultsTest() override {
    std::error_code ignored;
    std::filesystem::remove_all(saved_, ignored);
  }

  // Runs `operation` with a fault at each of its file operations in turn, then `check`.
  template <typename Prepare, typename Operation, typename Check>
  void ForEachFault(const Prepare& prepare, const Operation& operation, const Check& check) {
    prepare();
    fs_.FailAt(0, false, EIO);
    ASSERT_EQ(operation(), absl::OkStatus());
    const int operations = fs_.count;
    ASSERT_GT(operations, 5);
    for (const bool all_after : {false, true}) {
      for (int n = 1; n <= operations; ++n) {
        SCOPED_TRACE(absl::StrCat("operation ", n, " of ", operations, " fails",
                                  all_after ? ", and all after it" : ""));
        prepare();
        fs_.FailAt(n, all_after, n % 2 == 0 ? ENOSPC : EIO);
        const Status status = operation();
        EXPECT_TRUE(fs_.failed);
        check(status);
        if (HasFailure()) return;
      }
    }
  }

  // The folder as it was after SaveSteps, without waiting for the disk again.
  void PutBack() {
    std::filesystem::remove_all(folder_);
    std::filesystem::copy(saved_, folder_, std::filesystem::copy_options::recursive);
  }

  // Step of the newest whole checkpoint, which must load with the hash it was saved with.
  int64_t LoadNewest() {
    const auto checkpoint = OpenCheckpoint(real_, folder_);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    if (!checkpoint.ok()) return -1;
    EXPECT_EQ(RestoreCheckpoint(*loader_, real_, *checkpoint), absl::OkStatus());
    EXPECT_EQ(HashOf(*loader_), hashes_.at(checkpoint->step));
    blob_ = checkpoint->blob;
    return checkpoint->step;
  }

  void SaveSteps(int count) {
    for (int step = 1; step <= count; ++step) {
      StepTiny(*session_, step);
      hashes_[step] = HashOf(*session_);
      ASSERT_EQ(SaveTo(*session_, real_, saved_, "old"), absl::OkStatus());
    }
  }

  FileSystem& real_ = PosixFileSystem();
  FaultFileSystem fs_{real_};
  std::shared_ptr<const Model> model_;
  std::unique_ptr<Session> session_;
  std::unique_ptr<Session> loader_;
  std::map<int64_t, std::string> hashes_;
  std::string blob_;
  const std::string saved_ = folder_ + "_saved";
};

TEST_F(CheckpointFaultsTest, SavingANewStep) {
  SaveSteps(1);
  StepTiny(*session_, 2);
  hashes_[2] = HashOf(*session_);
  ForEachFault([&] { PutBack(); }, [&] { return SaveTo(*session_, fs_, folder_, "new"); },
               [&](const Status& status) {
                 const int64_t step = LoadNewest();
                 EXPECT_TRUE(step == 1 || step == 2);
                 if (status.ok()) {
                   EXPECT_EQ(step, 2);
                 }
                 // The session lost nothing and saves when it can again.
                 EXPECT_EQ(HashOf(*session_), hashes_.at(2));
                 EXPECT_EQ(SaveTo(*session_, real_, folder_, "again"), absl::OkStatus());
                 EXPECT_EQ(LoadNewest(), 2);
                 EXPECT_EQ(blob_, "again");
                 EXPECT_FALSE(std::filesystem::exists(Path("step_2.tmp")));
               });
}

TEST_F(CheckpointFaultsTest, SavingTheSameStepAgain) {
  SaveSteps(1);
  ForEachFault([&] { PutBack(); }, [&] { return SaveTo(*session_, fs_, folder_, "new"); },
               [&](const Status& status) {
                 EXPECT_EQ(LoadNewest(), 1);
                 EXPECT_TRUE(blob_ == "old" || blob_ == "new");
                 if (status.ok()) {
                   EXPECT_EQ(blob_, "new");
                 }
               });
}

TEST_F(CheckpointFaultsTest, Pruning) {
  SaveSteps(3);
  ForEachFault([&] { PutBack(); },
               [&] { return PruneCheckpoints(fs_, folder_, {.keep = 1}).status(); },
               [&](const Status&) {
                 EXPECT_EQ(LoadNewest(), 3);
                 EXPECT_TRUE(PruneCheckpoints(real_, folder_, {.keep = 1}).ok());
                 EXPECT_FALSE(std::filesystem::exists(Path("step_1")));
                 EXPECT_FALSE(std::filesystem::exists(Path("step_1.tmp")));
                 EXPECT_FALSE(std::filesystem::exists(Path("step_2.tmp")));
                 EXPECT_EQ(LoadNewest(), 3);
               });
}

// A load that fails says so; it never leaves a session that trains on with half a checkpoint.
TEST_F(CheckpointFaultsTest, Loading) {
  SaveSteps(2);
  PutBack();
  std::unique_ptr<Session> target;
  std::string before;
  ForEachFault(
      [&] {
        target = OpenTiny(model_);
        before = HashOf(*target);
      },
      [&]() -> Status {
        QFT_ASSIGN_OR_RETURN(const CheckpointFiles checkpoint, OpenCheckpoint(fs_, folder_));
        return RestoreCheckpoint(*target, fs_, checkpoint);
      },
      [&](const Status& status) {
        if (status.ok()) {
          // A fault while the newest was verified: the one before it was taken.
          EXPECT_EQ(HashOf(*target), hashes_.at(target->step()));
        } else if (target->CheckUsable().ok()) {
          EXPECT_EQ(HashOf(*target), before);
          EXPECT_EQ(target->step(), 0);
        }
      });
}

}  // namespace
}  // namespace qft
