// Checkpoints in storage behind callbacks.
#include "runtime/callback_files.h"

#include <cstring>

#include "runtime/checkpoint_content.h"
#include "runtime/checkpoint_files.h"
#include "tests/runtime/session/tiny_session.h"

namespace qft {
namespace {

// The storage, which refuses the n-th call with 42.
class Storage {
 public:
  std::map<std::string, std::string> files;
  std::vector<std::string> finished;
  int calls = 0;
  int fail_at = 0;

  FileSink Sink() {
    FileSink sink;
    sink.write = [this](const char* name, uint64_t offset, const void* data, size_t size) {
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
  Status Load(Storage& storage, Session& session) {
    const auto fs = MakeSourceFileSystem(storage.Source());
    QFT_ASSIGN_OR_RETURN(const CheckpointFiles checkpoint, VerifyCheckpoint(*fs, ""));
    EXPECT_EQ(checkpoint.blob, "blob");
    return RestoreCheckpoint(session, *fs, checkpoint);
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
