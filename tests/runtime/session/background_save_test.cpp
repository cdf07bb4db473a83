// Saves beside training: what is saved are the states at the beginning, whatever happens meanwhile.
#include <chrono>

#include "runtime/checkpoint_save.h"
#include "runtime/step.h"
#include "runtime/tensor_io.h"
#include "tests/runtime/session/fault_file_system.h"
#include "tests/runtime/session/gated_file_system.h"
#include "tests/runtime/session/tiny_session.h"

namespace qft {
namespace {

constexpr std::chrono::milliseconds kLong{60000};

ErrorCode CodeOf(const Status& status) {
  return GetErrorInfo(status).code;
}

SessionConfig WithSnapshot() {
  SessionConfig config = TinyConfig();
  config.snapshot = SnapshotPlace::kHost;
  return config;
}

class BackgroundSaveTest : public FolderTest {
 protected:
  std::unique_ptr<Session> OpenHere(const SessionConfig& config = WithSnapshot()) {
    return OpenTiny(model_, config);
  }
  StatusOr<std::shared_ptr<BackgroundSave>> Begin(Session& session, FileSystem& fs,
                                                  int64_t keep = 0) {
    return BackgroundSave::Begin(session, "blob",
                                 [&fs, folder = folder_, keep](const CheckpointContent& content) {
                                   return SaveCheckpoint(content, fs, folder, keep);
                                 });
  }
  // The hash of the states in the newest checkpoint, restored into a session of another beginning.
  std::string SavedHash(int64_t step) {
    const auto checkpoint = OpenCheckpoint(real_, folder_);
    EXPECT_TRUE(checkpoint.ok()) << checkpoint.status();
    if (!checkpoint.ok()) return {};
    EXPECT_EQ(checkpoint->step, step);
    EXPECT_EQ(checkpoint->blob, "blob");
    SessionConfig config = TinyConfig();
    config.seed = 5;
    const auto session = OpenTiny(model_, config);
    EXPECT_EQ(RestoreCheckpoint(*session, real_, *checkpoint), absl::OkStatus());
    return HashOf(*session);
  }
  bool Exists(const std::string& name) const { return std::filesystem::exists(Path(name)); }

  FileSystem& real_ = PosixFileSystem();
  GatedFileSystem gated_{real_};
  std::shared_ptr<const Model> model_ = TinyModel();
};

// Steps, a tensor written from outside and another checkpoint restored, while the writer has not
// read a byte yet.
TEST_F(BackgroundSaveTest, HoldsTheStatesItBeganWith) {
  struct Kind {
    bool tied;
    GradientMode gradients;
    StateKind states;
  };
  for (const Kind& kind : {Kind{true, GradientMode::kStack, StateKind::kInt8},
                           Kind{true, GradientMode::kFused, StateKind::kInt8},
                           Kind{false, GradientMode::kFused, StateKind::kInt8},
                           Kind{false, GradientMode::kStack, StateKind::kFp32}}) {
    SCOPED_TRACE(
        absl::StrCat(kind.tied, static_cast<int>(kind.gradients), static_cast<int>(kind.states)));
    model_ = TinyModel(2, kind.tied);
    SessionConfig config = WithSnapshot();
    config.gradients = kind.gradients;
    config.states = kind.states;
    if (kind.states == StateKind::kFp32) config.arithmetic = Arithmetic::kFloat;
    const auto session = OpenHere(config);
    StepTiny(*session, 1);
    ASSERT_EQ(SaveTo(*session, real_, Path("other")), absl::OkStatus());
    StepTiny(*session, 2);
    const std::string hash = HashOf(*session);
    GatedFileSystem gated(real_);
    const auto save = Begin(*session, gated);
    ASSERT_TRUE(save.ok()) << save.status();
    StepTiny(*session, 3);
    StepTiny(*session, 4);
    const std::vector<float> values(static_cast<size_t>(model_->table()[0].elements()), 0.5f);
    ASSERT_EQ(WriteTensor(*session, 0, TensorPart::kWeight, values.data()), absl::OkStatus());
    const auto other = OpenCheckpoint(real_, Path("other"));
    ASSERT_TRUE(other.ok());
    ASSERT_EQ(RestoreCheckpoint(*session, real_, *other), absl::OkStatus());
    EXPECT_NE(HashOf(*session), hash);
    EXPECT_FALSE((*save)->done());
    gated.OpenGate();
    ASSERT_EQ((*save)->Wait(kLong), absl::OkStatus());
    EXPECT_TRUE((*save)->done());
    if (kind.states == StateKind::kInt8) {
      EXPECT_EQ(SavedHash(2), hash);
    } else {
      const auto fresh = OpenHere(config);
      ASSERT_EQ(RestoreCheckpoint(*fresh, real_, *OpenCheckpoint(real_, folder_)),
                absl::OkStatus());
      EXPECT_EQ(HashOf(*fresh), hash);
    }
    std::filesystem::remove_all(folder_);
  }
}

// The manifest too is of the beginning: going on from it gives what going on in the session gave.
TEST_F(BackgroundSaveTest, ProgressIsThatOfTheBeginning) {
  SessionConfig config = WithSnapshot();
  config.gradients = GradientMode::kFused;
  config.clip_norm = 0.1;
  const auto session = OpenHere(config);
  for (int step = 1; step <= 2; ++step) StepTiny(*session, step);
  const auto save = Begin(*session, gated_);
  ASSERT_TRUE(save.ok()) << save.status();
  for (int step = 3; step <= 4; ++step) StepTiny(*session, step);
  gated_.OpenGate();
  ASSERT_EQ((*save)->Wait(kLong), absl::OkStatus());
  const auto resumed = OpenHere(config);
  ASSERT_EQ(RestoreCheckpoint(*resumed, real_, *OpenCheckpoint(real_, folder_)), absl::OkStatus());
  EXPECT_EQ(resumed->step(), 2);
  for (int step = 3; step <= 4; ++step) StepTiny(*resumed, step);
  EXPECT_EQ(HashOf(*resumed), HashOf(*session));
  EXPECT_EQ(resumed->progress().rounding_square_sum, session->progress().rounding_square_sum);
}

TEST_F(BackgroundSaveTest, OneAtATime) {
  const auto session = OpenHere();
  const auto save = Begin(*session, gated_);
  ASSERT_TRUE(save.ok());
  EXPECT_EQ(CodeOf(Begin(*session, real_).status()), ErrorCode::kBusy);
  EXPECT_EQ(CodeOf(SaveTo(*session, real_, folder_)), ErrorCode::kBusy);
  EXPECT_EQ(CodeOf((*save)->Wait(std::chrono::milliseconds(1))), ErrorCode::kTimeout);
  gated_.OpenGate();
  ASSERT_EQ((*save)->Wait(kLong), absl::OkStatus());
  EXPECT_EQ(SaveTo(*session, real_, folder_), absl::OkStatus());
  EXPECT_TRUE(Begin(*session, real_).ok());
}

TEST_F(BackgroundSaveTest, NotWithinAStep) {
  const auto session = OpenHere();
  ASSERT_TRUE(session->BeginStep({}).ok());
  EXPECT_EQ(CodeOf(Begin(*session, real_).status()), ErrorCode::kState);
  ASSERT_TRUE(session->AbandonStep().ok());
  EXPECT_TRUE(Begin(*session, real_).ok());
}

TEST_F(BackgroundSaveTest, WithoutASnapshotItHasHappened) {
  const auto session = OpenHere(TinyConfig());
  EXPECT_EQ(session->snapshot().capacity(), 0);
  StepTiny(*session, 1);
  const auto save = Begin(*session, real_);
  ASSERT_TRUE(save.ok()) << save.status();
  EXPECT_TRUE((*save)->done());
  EXPECT_EQ((*save)->Wait(std::chrono::milliseconds(0)), absl::OkStatus());
  EXPECT_EQ(SavedHash(1), HashOf(*session));
}

TEST_F(BackgroundSaveTest, CancelledLeavesNothing) {
  const auto session = OpenHere();
  const auto save = Begin(*session, gated_);
  ASSERT_TRUE(save.ok());
  gated_.AwaitArrival();
  EXPECT_TRUE(Exists("step_0.tmp"));
  (*save)->Cancel();
  gated_.OpenGate();
  EXPECT_EQ(CodeOf((*save)->Wait(kLong)), ErrorCode::kCancelled);
  EXPECT_FALSE(Exists("step_0.tmp"));
  EXPECT_FALSE(Exists("step_0"));
  (*save)->Stop();
  EXPECT_EQ(CodeOf((*save)->Wait(kLong)), ErrorCode::kCancelled);
  StepTiny(*session, 1);
  EXPECT_TRUE(Begin(*session, real_).ok());
}

// What is done stays.
TEST_F(BackgroundSaveTest, CancelledAfterTheEnd) {
  const auto session = OpenHere();
  const auto save = Begin(*session, real_);
  ASSERT_TRUE(save.ok());
  ASSERT_EQ((*save)->Wait(kLong), absl::OkStatus());
  (*save)->Stop();
  EXPECT_EQ((*save)->Wait(kLong), absl::OkStatus());
  EXPECT_EQ(SavedHash(0), HashOf(*session));
}

TEST_F(BackgroundSaveTest, KeepsTheNewestAndSetsLaterOnesAside) {
  const auto session = OpenHere();
  for (int step = 1; step <= 4; ++step) {
    StepTiny(*session, step);
    const auto save = Begin(*session, real_, 3);
    ASSERT_TRUE(save.ok());
    ASSERT_EQ((*save)->Wait(kLong), absl::OkStatus());
  }
  EXPECT_FALSE(Exists("step_1"));
  EXPECT_TRUE(Exists("step_2"));
  const auto earlier = OpenCheckpoint(real_, Path("step_2"));
  ASSERT_TRUE(earlier.ok());
  ASSERT_EQ(RestoreCheckpoint(*session, real_, *earlier), absl::OkStatus());
  StepTiny(*session, 9);
  const auto save = Begin(*session, real_, 3);
  ASSERT_TRUE(save.ok());
  ASSERT_EQ((*save)->Wait(kLong), absl::OkStatus());
  EXPECT_TRUE(Exists("step_4.superseded"));
  EXPECT_EQ(SavedHash(3), HashOf(*session));
}

// Each file operation of the writer fails once, and once with all after it.
TEST_F(BackgroundSaveTest, FaultsOfTheWriter) {
  const auto session = OpenHere();
  StepTiny(*session, 1);
  ASSERT_EQ(SaveTo(*session, real_, folder_, "blob"), absl::OkStatus());
  const std::string before = HashOf(*session);
  StepTiny(*session, 2);
  const std::string hash = HashOf(*session);
  FaultFileSystem faulty(real_);
  int operations = 0;
  for (int n = 0; n <= operations; ++n) {
    for (const bool all_after : {false, true}) {
      SCOPED_TRACE(absl::StrCat("operation ", n, all_after ? " and all after" : ""));
      std::filesystem::remove_all(Path("step_2"));
      std::filesystem::remove_all(Path("step_2.tmp"));
      faulty.FailAt(n, all_after, n % 2 == 0 ? ENOSPC : EIO);
      const auto save = Begin(*session, faulty);
      ASSERT_TRUE(save.ok()) << save.status();
      const Status ended = (*save)->Wait(kLong);
      if (n == 0) {
        ASSERT_EQ(ended, absl::OkStatus());
        operations = faulty.count;
        ASSERT_GT(operations, 10);
      } else if (!ended.ok()) {
        EXPECT_EQ(CodeOf(ended), n % 2 == 0 ? ErrorCode::kNoSpace : ErrorCode::kIo) << ended;
      }
      const bool saved = Exists("step_2");
      EXPECT_TRUE(saved || !ended.ok());
      EXPECT_EQ(SavedHash(saved ? 2 : 1), saved ? hash : before);
      EXPECT_EQ(HashOf(*session), hash);
      EXPECT_FALSE(session->snapshot().in_use());
    }
  }
}

// They are saved too, and of all others each update waits for the copy. (That it waits before it
// writes a ThreadSanitizer build shows.)
TEST_F(BackgroundSaveTest, EveryUpdateWaitsAndFrozenTensorsAreSavedToo) {
  for (const GradientMode gradients : {GradientMode::kStack, GradientMode::kFused}) {
    SessionConfig config = WithSnapshot();
    config.gradients = gradients;
    ASSERT_TRUE(config.AddGroup({"model.layers.0.*", 1, -1, true}).ok());
    const auto session = OpenHere(config);
    StepTiny(*session, 1);
    const std::string hash = HashOf(*session);
    GatedFileSystem gated(real_);
    const auto save = Begin(*session, gated);
    ASSERT_TRUE(save.ok());
    for (int i = 0; i < model_->table().size(); ++i) EXPECT_TRUE(session->snapshot().untouched(i));
    StepTiny(*session, 2);
    for (int i = 0; i < model_->table().size(); ++i) {
      EXPECT_EQ(session->snapshot().untouched(i), !session->plan().trains(i));
    }
    gated.OpenGate();
    ASSERT_EQ((*save)->Wait(kLong), absl::OkStatus());
    const auto fresh = OpenHere(config);
    ASSERT_EQ(RestoreCheckpoint(*fresh, real_, *OpenCheckpoint(real_, folder_)), absl::OkStatus());
    EXPECT_EQ(HashOf(*fresh), hash);
  }
}

TEST(UpdateOrderTest, HasEveryTensorOnceAndFrozenOnesLast) {
  for (const bool tied : {false, true}) {
    for (const GradientMode gradients : {GradientMode::kStack, GradientMode::kFused}) {
      SessionConfig config = TinyConfig();
      config.gradients = gradients;
      ASSERT_TRUE(config.AddGroup({"model.norm.weight", 1, -1, true}).ok());
      const auto session = OpenTiny(TinyModel(3, tied), config);
      const LlamaTensors& tensors = session->model().tensors();
      std::vector<int> order = UpdateOrder(session->plan());
      EXPECT_EQ(order.back(), tensors.final_norm);
      const bool fused = gradients == GradientMode::kFused;
      const int first = fused ? (tied ? tensors.blocks[2].down.weight : tensors.head)
                              : (tied ? tensors.blocks[0].attention_norm : tensors.embedding);
      EXPECT_EQ(order.front(), first);
      std::sort(order.begin(), order.end());
      ASSERT_EQ(static_cast<int>(order.size()), tensors.table.size());
      for (int i = 0; i < tensors.table.size(); ++i) EXPECT_EQ(order[i], i);
    }
  }
}

}  // namespace
}  // namespace qft
