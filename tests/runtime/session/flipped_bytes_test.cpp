// Each byte of a checkpoint's manifest and of a safetensors header changed in turn: what is loaded
// is what was saved, or the file is refused with a message.
#include "runtime/data/safetensors.h"
#include "tests/runtime/data/memory_file_system.h"
#include "tests/runtime/session/tiny_session.h"

namespace qft {
namespace {

constexpr char kManifest[] = "c/manifest.json";
constexpr char kStates[] = "c/states.safetensors";

// Calls check(place) with each byte of file[begin, end) as each of its eight neighbours by one bit,
// as 0x00 and as 0xff.
template <typename Check>
void ForEachChange(std::string& file, size_t begin, size_t end, const Check& check) {
  for (size_t i = begin; i < end; ++i) {
    const char original = file[i];
    std::vector<char> changed = {'\0', '\xff'};
    for (int bit = 0; bit < 8; ++bit) changed.push_back(static_cast<char>(original ^ (1 << bit)));
    for (const char byte : changed) {
      if (byte == original) continue;
      file[i] = byte;
      SCOPED_TRACE(absl::StrCat("byte ", i, " is ", int{static_cast<uint8_t>(byte)}));
      check();
      if (testing::Test::HasFailure()) return;
    }
    file[i] = original;
  }
}

// Of a safetensors file: where its data begins.
size_t HeaderEnd(const std::string& file) {
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, file.data(), sizeof(header_bytes));
  return sizeof(header_bytes) + header_bytes;
}

void ExpectRefused(const Status& status) {
  const ErrorCode code = GetErrorInfo(status).code;
  EXPECT_FALSE(status.message().empty());
  EXPECT_TRUE(code != ErrorCode::kInternal && code != ErrorCode::kIo) << status;
}

class FlippedBytesTest : public testing::Test {
 protected:
  FlippedBytesTest() : model_(TinyModel(1)), loader_(OpenTiny(model_)) {
    const auto session = OpenTiny(model_);
    StepTiny(*session, 1);
    hash_ = HashOf(*session);
    progress_ = session->progress();
    const auto save = PreparedSave::Prepare(*session, fs_, "c", "blob").value();
    fs_.files[kManifest] = fs_.files.at("c/step_1.tmp/manifest.json");
    fs_.files[kStates] = fs_.files.at("c/step_1.tmp/states.safetensors");
  }

  Status Restore() {
    QFT_ASSIGN_OR_RETURN(const CheckpointFiles checkpoint, OpenCheckpoint(fs_, "c"));
    return RestoreCheckpoint(*loader_, fs_, checkpoint);
  }

  // What was saved, progress and blob too, or an error.
  void ExpectSavedOrRefused() {
    const Status restored = Restore();
    if (!restored.ok()) {
      ExpectRefused(restored);
      EXPECT_EQ(loader_->CheckUsable(), absl::OkStatus());
      return;
    }
    ++loaded_;
    EXPECT_EQ(HashOf(*loader_), hash_);
    EXPECT_EQ(loader_->step(), 1);
    EXPECT_EQ(loader_->config().seed, 0);
    EXPECT_EQ(loader_->progress().previous_square_sum, progress_.previous_square_sum);
    EXPECT_EQ(loader_->progress().rounding_square_sum, progress_.rounding_square_sum);
    EXPECT_EQ(OpenCheckpoint(fs_, "c")->blob, "blob");
  }

  MemoryFileSystem fs_;
  std::shared_ptr<const Model> model_;
  std::unique_ptr<Session> loader_;
  std::string hash_;
  Progress progress_;
  int loaded_ = 0;
};

TEST_F(FlippedBytesTest, OfAManifest) {
  ExpectSavedOrRefused();
  ASSERT_EQ(loaded_, 1);
  std::string& manifest = fs_.files.at(kManifest);
  ForEachChange(manifest, 0, manifest.size(), [&] { ExpectSavedOrRefused(); });
}

// Without the manifest's hashes, as a model's file is read: a change moves no value to another
// tensor and gives none another shape or type.
TEST_F(FlippedBytesTest, OfASafetensorsHeader) {
  const auto read_all = [&]() -> StatusOr<std::map<std::string, std::string>> {
    QFT_ASSIGN_OR_RETURN(const SafetensorsFile file, OpenSafetensorsFile(fs_, kStates));
    std::map<std::string, std::string> tensors;
    for (const std::string& name : file.tensors->Names()) {
      const TensorInfo& info = *file.tensors->Find(name);
      QFT_ASSIGN_OR_RETURN(const uint64_t bytes, StoredBytes(info.type, info.shape));
      std::string& value = tensors[name];
      value.resize(bytes);
      QFT_RETURN_IF_ERROR(file.tensors->ReadBytes(name, 0, bytes, value.data()));
      value += Traits(info.type).name + info.ShapeText();
    }
    return tensors;
  };
  const auto saved = read_all().value();
  std::string& states = fs_.files.at(kStates);
  ForEachChange(states, 0, HeaderEnd(states), [&] {
    const auto tensors = read_all();
    if (!tensors.ok()) return ExpectRefused(tensors.status());
    // A changed name is another tensor: then the one of the right name is missing.
    for (const auto& [name, value] : *tensors) {
      const auto found = saved.find(name);
      if (found != saved.end()) {
        EXPECT_EQ(value, found->second) << name;
      }
    }
    EXPECT_EQ(tensors->size(), saved.size());
  });
}

}  // namespace
}  // namespace qft
