#include "tests/runtime/session/checkpoint_test.h"

#include "runtime/checkpoint_manifest.h"

namespace qft {
namespace {

TEST_F(CheckpointTest, BlobAndProgressComeBack) {
  const std::string blob("cursor \0\xff bytes", 15);
  SaveAt(2, blob);
  ExpectRestores(2);
  const CheckpointFiles checkpoint = OpenCheckpoint(fs_, Path("step_2")).value();
  EXPECT_EQ(checkpoint.blob, blob);
  EXPECT_EQ(checkpoint.path, Path("step_2"));
}

TEST_F(CheckpointTest, ADroppedSaveLeavesNothing) {
  SaveAt(1);
  StepTiny(*session_, 5);
  {
    const auto save = PreparedSave::Prepare(*session_, fs_, folder_, "").value();
    EXPECT_TRUE(Exists(Path("step_2.tmp/states.safetensors")));
    EXPECT_FALSE(Exists(Path("step_2")));
    ExpectRestores(1);
  }
  EXPECT_FALSE(Exists(Path("step_2.tmp")));
  ExpectRestores(1);
}

// A process killed between prepare and commit leaves the temporary folder.
TEST_F(CheckpointTest, ATornSaveIsIgnoredAndReplaced) {
  SaveAt(1);
  SaveAt(2);
  std::filesystem::rename(Path("step_2"), Path("step_2.tmp"));
  ExpectRestores(1);
  SaveAt(2);
  EXPECT_FALSE(Exists(Path("step_2.tmp")));
  ExpectRestores(2);
}

TEST_F(CheckpointTest, CommitsOnce) {
  const auto save = PreparedSave::Prepare(*session_, fs_, folder_, "").value();
  EXPECT_EQ(save->Commit(), absl::OkStatus());
  EXPECT_EQ(CodeOf(save->Commit()), ErrorCode::kState);
}

TEST_F(CheckpointTest, SavingAStepAgainReplacesIt) {
  SaveAt(1, "old");
  SaveAt(1, "new");
  EXPECT_EQ(OpenCheckpoint(fs_, folder_).value().blob, "new");
  EXPECT_FALSE(Exists(Path("step_1.tmp")));
  ExpectRestores(1);
}

// Going on from an earlier checkpoint: what came after it is no longer the newest.
TEST_F(CheckpointTest, LaterStepsAreSetAside) {
  for (const int step : {1, 2, 3, 4}) SaveAt(step);
  std::filesystem::resize_file(Path("step_4/states.safetensors"), 100);
  ASSERT_EQ(SetAsideLater(fs_, folder_, 2), absl::OkStatus());
  EXPECT_TRUE(Exists(Path("step_3.superseded")));
  EXPECT_TRUE(Exists(Path("step_4.superseded")));
  ExpectRestores(2);
}

TEST_F(CheckpointTest, BrokenNewestIsPassedOver) {
  SaveAt(1);
  SaveAt(2);
  const std::string states = ReadFile(Path("step_2/states.safetensors"));
  const std::string manifest = ReadFile(Path("step_2/manifest.json"));
  for (const size_t size : {size_t{0}, size_t{7}, states.size() / 2, states.size() - 1}) {
    WriteFile(Path("step_2/states.safetensors"), states.substr(0, size));
    ExpectRestores(1, "step_2");
  }
  WriteFile(Path("step_2/states.safetensors"), states + "x");
  ExpectRestores(1, "step_2");
  std::filesystem::remove(Path("step_2/states.safetensors"));
  ExpectRestores(1, "step_2");
  WriteFile(Path("step_2/states.safetensors"), states);
  for (const std::string& text :
       {std::string(), std::string("{}"), std::string("[1]"), manifest.substr(0, 500)}) {
    WriteFile(Path("step_2/manifest.json"), text);
    ExpectRestores(1, "step_2");
  }
  std::filesystem::remove(Path("step_2/manifest.json"));
  ExpectRestores(1, "step_2");
  WriteFile(Path("step_2/manifest.json"), manifest);
  ExpectRestores(2);
}

TEST_F(CheckpointTest, AnyFlippedByteOfTheStatesIsNoticed) {
  SaveAt(1);
  const std::string path = Path("step_1/states.safetensors");
  const std::string states = ReadFile(path);
  for (size_t i = 0; i < states.size(); i += 1 + states.size() / 150) {
    std::string flipped = states;
    flipped[i] = static_cast<char>(flipped[i] ^ 0x10);
    WriteFile(path, flipped);
    EXPECT_EQ(CodeOf(OpenCheckpoint(fs_, Path("step_1")).status()), ErrorCode::kCorrupt) << i;
  }
}

// The manifest as it was before it had a hash of its own.
std::string Unsealed(const std::string& manifest) {
  const size_t seal = manifest.rfind(",\n \"manifest_xxh3_128\"");
  EXPECT_NE(seal, std::string::npos);
  return manifest.substr(0, seal) + "\n}\n";
}

// One bit in the step, the seed or the caller's bytes would lead to another course.
TEST_F(CheckpointTest, AnyFlippedByteOfTheManifestIsNoticed) {
  SaveAt(1, "the position in the data");
  const std::string path = Path("step_1/manifest.json");
  const std::string manifest = ReadFile(path);
  const size_t seal = manifest.rfind("manifest_xxh3_128");
  ASSERT_NE(seal, std::string::npos);
  for (size_t i = 0; i < manifest.size(); i += i < seal - 10 ? 11 : 1) {
    std::string flipped = manifest;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << i % 8));
    WriteFile(path, flipped);
    const auto read = ReadManifest(fs_, Path("step_1"));
    if (read.ok()) {
      // The key is another one now, and all before it is as it was.
      EXPECT_EQ(flipped.find("manifest_xxh3_128"), std::string::npos) << i;
      EXPECT_GE(i, seal);
      EXPECT_EQ(read->step, 1);
      EXPECT_EQ(read->blob, "the position in the data");
    } else {
      EXPECT_EQ(CodeOf(read.status()), ErrorCode::kCorrupt) << i << read.status();
    }
  }
}

TEST_F(CheckpointTest, ManifestsWithoutAHashOfTheirOwnLoad) {
  SaveAt(1);
  const std::string path = Path("step_1/manifest.json");
  WriteFile(path, Unsealed(ReadFile(path)));
  ExpectRestores(1);
}

// Going back behind what a newer library wrote would throw training away.
TEST_F(CheckpointTest, AnotherFormatVersionIsNotPassedOver) {
  SaveAt(1);
  SaveAt(2);
  const std::string path = Path("step_2/manifest.json");
  std::string manifest = Unsealed(ReadFile(path));
  const std::string version = "\"format_version\": ";
  manifest[manifest.find(version) + version.size()] = '3';
  WriteFile(path, manifest);
  const Status opened = OpenCheckpoint(fs_, folder_).status();
  EXPECT_EQ(CodeOf(opened), ErrorCode::kUnsupported);
  EXPECT_NE(opened.message().find("format version 3"), std::string::npos) << opened;
}

// Where the hash is not there to notice it, a flipped byte of the manifest is refused, or does not
// matter to the states. After the fields come the hashes of single tensors, all alike, of which
// some are tried.
TEST_F(CheckpointTest, AnyFlippedByteOfTheManifestIsSurvived) {
  SaveAt(1);
  const std::string path = Path("step_1/manifest.json");
  const std::string manifest = Unsealed(ReadFile(path));
  const size_t tensors = manifest.find("\"tensors\"");
  ASSERT_NE(tensors, std::string::npos);
  const auto fresh = OpenTiny(model_);
  int refused = 0;
  for (size_t i = 0; i < manifest.size(); i += i < tensors + 100 ? 1 : 101) {
    std::string flipped = manifest;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << i % 8));
    WriteFile(path, flipped);
    const auto checkpoint = OpenCheckpoint(fs_, Path("step_1"));
    if (!checkpoint.ok()) {
      ++refused;
      EXPECT_NE(CodeOf(checkpoint.status()), ErrorCode::kInternal) << checkpoint.status();
      continue;
    }
    const Status restored = RestoreCheckpoint(*fresh, fs_, *checkpoint);
    if (restored.ok()) {
      ASSERT_EQ(HashOf(*fresh), hashes_.at(1));
    }
  }
  EXPECT_GT(refused, 100);
}

// Residuals and critical weights that a session has no room for would be lost.
TEST_F(CheckpointTest, OtherWaysToHoldWeightsAreRefusedByName) {
  const auto config = [](int64_t critical, int64_t residual) {
    SessionConfig result = TinyConfig();
    result.critical_features = critical;
    result.residual_bits = residual;
    return result;
  };
  const std::pair<int64_t, int64_t> kinds[] = {{0, 0}, {0, 4}, {1, 0}, {1, 4}, {2, 4}};
  for (const auto& saved : kinds) {
    const auto session = OpenTiny(model_, config(saved.first, saved.second));
    ASSERT_EQ(session->plan().critical_count, saved.first);
    StepTiny(*session, 1);
    auto save = PreparedSave::Prepare(*session, fs_, Path("kinds"), "");
    ASSERT_TRUE(save.ok()) << save.status();
    ASSERT_TRUE((*save)->Commit().ok());
    const auto checkpoint = OpenCheckpoint(fs_, Path("kinds"));
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.status();
    for (const auto& held : kinds) {
      const auto fresh = OpenTiny(model_, config(held.first, held.second));
      const std::string before = HashOf(*fresh);
      const Status restored = RestoreCheckpoint(*fresh, fs_, *checkpoint);
      if (saved == held) {
        EXPECT_TRUE(restored.ok()) << restored;
        EXPECT_EQ(HashOf(*fresh), HashOf(*session));
        continue;
      }
      const char* setting = saved.first != held.first ? "critical_features = " : "residual_bits = ";
      EXPECT_NE(restored.message().find(setting), std::string::npos) << restored;
      EXPECT_EQ(HashOf(*fresh), before);
    }
  }
}

TEST_F(CheckpointTest, HostileManifests) {
  SaveAt(1);
  const std::string path = Path("step_1/manifest.json");
  const std::string good = Unsealed(ReadFile(path));
  const auto replaced = [&](const std::string& from, const std::string& to) {
    std::string text = good;
    const size_t at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  const auto expect_refused = [&](const std::string& text) {
    WriteFile(path, text);
    const auto checkpoint = OpenCheckpoint(fs_, Path("step_1"));
    if (!checkpoint.ok()) return;
    const auto fresh = OpenTiny(model_);
    EXPECT_FALSE(RestoreCheckpoint(*fresh, fs_, *checkpoint).ok()) << text;
  };
  expect_refused(replaced("\"step\": 1", "\"step\": -1"));
  expect_refused(replaced("\"step\": 1", "\"step\": 18446744073709551615"));
  expect_refused(replaced("\"step\": 1", "\"step\": \"1\""));
  expect_refused(replaced("\"format_version\": 2", "\"format_version\": 1"));
  expect_refused(replaced("\"states\": \"int8\"", "\"states\": \"fp32\""));
  expect_refused(replaced("\"seed\": 0", "\"seed\": 1e300"));
  expect_refused(replaced("\"states.safetensors\"", "\"../step_1/states.safetensors\""));
  expect_refused(replaced("\"states.safetensors\"", "\"..\""));
  expect_refused(std::string(100000, '['));
}

TEST_F(CheckpointTest, AnotherModelIsRefusedAndTheSessionGoesOn) {
  SaveAt(1);
  const CheckpointFiles checkpoint = OpenCheckpoint(fs_, folder_).value();
  for (const auto& other : {TinyModel(3), TinyModel(2, false), TinyModel(2, true, 65)}) {
    const auto session = OpenTiny(other);
    const std::string before = HashOf(*session);
    EXPECT_EQ(CodeOf(RestoreCheckpoint(*session, fs_, checkpoint)), ErrorCode::kShape);
    EXPECT_EQ(HashOf(*session), before);
    EXPECT_EQ(session->step(), 0);
  }
  SessionConfig fp32 = TinyConfig();
  fp32.states = StateKind::kFp32;
  fp32.arithmetic = Arithmetic::kFloat;
  const auto session = OpenTiny(model_, fp32);
  EXPECT_EQ(CodeOf(RestoreCheckpoint(*session, fs_, checkpoint)), ErrorCode::kState);
}

// The files can change between open and restore.
TEST_F(CheckpointTest, ATruncationAfterOpenIsAnErrorAndNoCrash) {
  SaveAt(1);
  const CheckpointFiles checkpoint = OpenCheckpoint(fs_, folder_).value();
  const std::string path = Path("step_1/states.safetensors");
  std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
  const auto fresh = OpenTiny(model_);
  EXPECT_FALSE(RestoreCheckpoint(*fresh, fs_, checkpoint).ok());
}

TEST_F(CheckpointTest, FoldersThatHoldNothing) {
  EXPECT_EQ(CodeOf(OpenCheckpoint(fs_, folder_).status()), ErrorCode::kNotFound);
  EXPECT_EQ(CodeOf(OpenCheckpoint(fs_, Path("none")).status()), ErrorCode::kNotFound);
  WriteFile(Path("step_9"), "a file");
  EXPECT_EQ(CodeOf(OpenCheckpoint(fs_, Path("step_9")).status()), ErrorCode::kNotFound);
  EXPECT_FALSE(OpenCheckpoint(fs_, folder_).ok());
}

TEST_F(CheckpointTest, InferenceHasNothingToSave) {
  SessionConfig config = TinyConfig();
  config.mode = Mode::kInfer;
  const auto session = OpenTiny(model_, config);
  EXPECT_EQ(CodeOf(SaveTo(*session, fs_, folder_)), ErrorCode::kState);
}

TEST_F(CheckpointTest, AFolderThatCannotBeMade) {
  WriteFile(Path("file"), "");
  EXPECT_FALSE(SaveTo(*session_, fs_, Path("file/under")).ok());
  EXPECT_FALSE(SaveTo(*session_, fs_, Path("file")).ok());
}

// Where nobody may write, root included.
TEST_F(CheckpointTest, AReadOnlyFileSystem) {
  EXPECT_FALSE(SaveTo(*session_, fs_, "/proc/self/checkpoints").ok());
  EXPECT_TRUE(SaveTo(*session_, fs_, folder_).ok());
}

}  // namespace
}  // namespace qft
