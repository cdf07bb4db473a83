// Checkpoints in storage behind callbacks.
#include "runtime/callback_files.h"

#include <chrono>
#include <cstring>
#include <future>

#include "runtime/checkpoint_files.h"
#include "runtime/checkpoint_save.h"
#include "tests/runtime/session/tiny_session.h"

namespace qft {
namespace {

constexpr std::chrono::milliseconds kLong{60000};

// The storage, which refuses the n-th call with 42.
class Storage {
 public:
  std::map<std::string, std::string> files;
  std::vector<std::string> finished;
  int calls = 0;
  int fail_at = 0;
  std::function<void()> before_write = [] {};

  FileSink Sink() {
    FileSink sink;
    sink.write = [this](const char* name, uint64_t offset, const void* data, size_t size) {
      before_write();
      if (Fails()) return 42;
      EXPECT_EQ(files[name].size(), offset) << name;
      files[name].append(static_cast<const char*>(data), size);
      return 0;
    };
    sink.finish = [this](const char* name) {
      if (Fails()) return 42;
      finished.push_back(name);
      return 0;
    };
    return sink;
  }
  FileSource Source() {
    FileSource source;
    source.size = [this](const char* name, uint64_t* size) {
      if (Fails()) return 42;
      *size = files[name].size();
      return 0;
    };
    source.read = [this](const char* name, uint64_t offset, void* data, size_t size) {
      if (Fails()) return 42;
      EXPECT_LE(offset + size, files[name].size());
      std::memcpy(data, files[name].data() + offset, size);
      return 0;
    };
    return source;
  }

 private:
  bool Fails() { return ++calls == fail_at; }
};

class CallbackFilesTest : public testing::Test {
 protected:
  CallbackFilesTest() { StepTiny(*session_, 1); }

  Status Save(Storage& storage) {
    QFT_ASSIGN_OR_RETURN(const CheckpointContent content, ContentOf(*session_, "blob"));
    return WriteContent(content, *MakeSinkFileSystem(storage.Sink()), "");
  }
  std::unique_ptr<Session> OpenWithSnapshot() {
    SessionConfig config = TinyConfig();
    config.snapshot = SnapshotPlace::kHost;
    auto session = OpenTiny(model_, config);
    StepTiny(*session, 1);
    return session;
  }
  Status Load(Storage& storage, Session& session) {
    const auto fs = MakeSourceFileSystem(storage.Source());
    QFT_ASSIGN_OR_RETURN(const CheckpointFiles checkpoint, VerifyCheckpoint(*fs, ""));
    EXPECT_EQ(checkpoint.blob, "blob");
    return RestoreCheckpoint(session, *fs, checkpoint);
  }
  static std::shared_ptr<BackgroundSave> Begin(Session& session, Storage& storage) {
    const std::shared_ptr<FileSystem> fs = MakeSinkFileSystem(storage.Sink());
    auto save = BackgroundSave::Begin(session, "blob", [fs](const CheckpointContent& content) {
      return WriteContent(content, *fs, "");
    });
    EXPECT_TRUE(save.ok()) << save.status();
    return *save;
  }
  void ExpectRefusal(const Status& status) {
    EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kCancelled) << status;
    EXPECT_EQ(GetErrorInfo(status).native_code, 42);
    EXPECT_NE(status.message().find("42"), std::string::npos) << status;
  }

  std::shared_ptr<const Model> model_ = TinyModel();
  std::unique_ptr<Session> session_ = OpenTiny(model_);
};

TEST_F(CallbackFilesTest, WrittenAndReadAgain) {
  Storage storage;
  ASSERT_EQ(Save(storage), absl::OkStatus());
  EXPECT_EQ(storage.finished, (std::vector<std::string>{"states.safetensors", "manifest.json"}));
  const auto fresh = OpenTiny(model_);
  ASSERT_EQ(Load(storage, *fresh), absl::OkStatus());
  EXPECT_EQ(HashOf(*fresh), HashOf(*session_));
  EXPECT_EQ(fresh->step(), 1);
}

// The files of a folder, byte for byte.
TEST_F(CallbackFilesTest, SameBytesAsInAFolder) {
  Storage storage;
  ASSERT_EQ(Save(storage), absl::OkStatus());
  std::string folder = testing::TempDir() + "qft_sink_XXXXXX";
  ASSERT_NE(mkdtemp(folder.data()), nullptr);
  ASSERT_EQ(SaveTo(*session_, PosixFileSystem(), folder, "blob"), absl::OkStatus());
  ASSERT_EQ(storage.files.size(), 2u);
  for (const auto& [name, content] : storage.files) {
    EXPECT_EQ(*ReadWholeFile(PosixFileSystem(), folder + "/step_1/" + name, 1 << 30), content);
  }
  std::filesystem::remove_all(folder);
}

TEST_F(CallbackFilesTest, ARefusalEndsTheSave) {
  Storage whole;
  ASSERT_EQ(Save(whole), absl::OkStatus());
  ASSERT_GT(whole.calls, 10);
  for (int n = 1; n <= whole.calls; ++n) {
    Storage storage;
    storage.fail_at = n;
    ExpectRefusal(Save(storage));
    EXPECT_EQ(storage.calls, n) << "called again after it refused";
    EXPECT_TRUE(storage.finished.empty() || storage.finished.back() != "manifest.json");
  }
  Storage again;
  EXPECT_EQ(Save(again), absl::OkStatus());
  EXPECT_EQ(again.files, whole.files);
}

// Training goes on while the storage takes nothing yet.
TEST_F(CallbackFilesTest, BesideTrainingTheStatesOfTheBeginning) {
  Storage blocking;
  ASSERT_EQ(Save(blocking), absl::OkStatus());
  const auto session = OpenWithSnapshot();
  std::promise<void> gate;
  Storage storage;
  storage.before_write = [opened = gate.get_future().share()] { opened.wait(); };
  const auto save = Begin(*session, storage);
  StepTiny(*session, 2);
  EXPECT_FALSE(save->done());
  gate.set_value();
  ASSERT_EQ(save->Wait(kLong), absl::OkStatus());
  EXPECT_EQ(storage.files["states.safetensors"], blocking.files["states.safetensors"]);
  const auto fresh = OpenTiny(model_);
  ASSERT_EQ(Load(storage, *fresh), absl::OkStatus());
  EXPECT_EQ(HashOf(*fresh), HashOf(*session_));
}

TEST_F(CallbackFilesTest, ARefusalEndsTheSaveBesideTraining) {
  const auto session = OpenWithSnapshot();
  Storage whole;
  ASSERT_EQ(Begin(*session, whole)->Wait(kLong), absl::OkStatus());
  for (int n = 1; n <= whole.calls; ++n) {
    Storage storage;
    storage.fail_at = n;
    ExpectRefusal(Begin(*session, storage)->Wait(kLong));
    EXPECT_EQ(storage.calls, n) << "called again after it refused";
    EXPECT_FALSE(session->snapshot().in_use());
  }
  Storage again;
  ASSERT_EQ(Begin(*session, again)->Wait(kLong), absl::OkStatus());
  EXPECT_EQ(again.files, whole.files);
}

// A callback that waits for the save or lets go of its session: nobody waits for ever, and what is
// written from lives until the save has ended.
TEST_F(CallbackFilesTest, ACallbackOfTheSaveItself) {
  std::shared_ptr<Session> session = OpenWithSnapshot();
  std::promise<std::shared_ptr<BackgroundSave>> begun;
  const auto known = begun.get_future().share();
  const std::weak_ptr<Session> alive = session;
  Storage storage;
  storage.before_write = [&] {
    EXPECT_EQ(GetErrorInfo(known.get()->Wait(kLong)).code, ErrorCode::kReentrant);
    if (session != nullptr) {
      Session& of = *session;
      BackgroundSave::KeepInCallback(of, std::move(session));
    }
    EXPECT_FALSE(alive.expired());
  };
  const auto save = Begin(*session, storage);
  begun.set_value(save);
  EXPECT_EQ(GetErrorInfo(save->Wait(kLong)).code, ErrorCode::kCancelled);
  save->Stop();
  EXPECT_TRUE(alive.expired());
  EXPECT_EQ(storage.finished, std::vector<std::string>{});
}

TEST_F(CallbackFilesTest, ARefusalEndsTheLoad) {
  Storage storage;
  ASSERT_EQ(Save(storage), absl::OkStatus());
  storage.calls = 0;
  ASSERT_EQ(Load(storage, *OpenTiny(model_)), absl::OkStatus());
  const int calls = storage.calls;
  for (int n = 1; n <= calls; ++n) {
    const auto fresh = OpenTiny(model_);
    const std::string before = HashOf(*fresh);
    storage.calls = 0;
    storage.fail_at = n;
    ExpectRefusal(Load(storage, *fresh));
    if (fresh->CheckUsable().ok()) {
      EXPECT_EQ(HashOf(*fresh), before);
    }
  }
}

TEST_F(CallbackFilesTest, DamageIsNoticed) {
  Storage storage;
  ASSERT_EQ(Save(storage), absl::OkStatus());
  storage.files["states.safetensors"].back() ^= 1;
  EXPECT_EQ(GetErrorInfo(Load(storage, *OpenTiny(model_))).code, ErrorCode::kCorrupt);
  storage.files["states.safetensors"].pop_back();
  EXPECT_EQ(GetErrorInfo(Load(storage, *OpenTiny(model_))).code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace qft
