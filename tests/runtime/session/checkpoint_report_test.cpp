// What is wrong with a checkpoint, by file, tensor and byte.
#include "runtime/checkpoint_report.h"

#include "runtime/data/safetensors.h"
#include "tests/runtime/session/checkpoint_test.h"

namespace qft {
namespace {

constexpr char kTensor[] = "model.layers.1.mlp.up_proj.weight.momentum";

class CheckpointReportTest : public CheckpointTest {
 protected:
  CheckpointReportTest() { SaveAt(1); }

  CheckpointEntry Check(CheckpointCheck check) {
    return CheckCheckpoint(fs_, Path("step_1"), check);
  }
  // The ranges that are wrong.
  std::vector<CheckedRange> Wrong(CheckpointCheck check) {
    std::vector<CheckedRange> wrong;
    for (const CheckedRange& range : Check(check).ranges) {
      if (!range.problem.empty()) wrong.push_back(range);
    }
    return wrong;
  }
  StoredTensor Place(const std::string& name) {
    const SafetensorsFile file = OpenSafetensorsFile(fs_, states_).value();
    for (const StoredTensor& tensor : file.tensors->InFileOrder()) {
      if (tensor.info.name == name) return tensor;
    }
    ADD_FAILURE() << name;
    return {};
  }
  void Flip(const std::string& path, uint64_t offset) {
    std::string text = ReadFile(path);
    text[offset] = static_cast<char>(text[offset] ^ 1);
    WriteFile(path, text);
  }

  const std::string states_ = Path("step_1/states.safetensors");
  const std::string manifest_ = Path("step_1/manifest.json");
};

TEST_F(CheckpointReportTest, EveryByteOfAWholeOneIsCovered) {
  const CheckpointEntry entry = Check(CheckpointCheck::kHashes);
  EXPECT_TRUE(entry.whole());
  const uint64_t size = std::filesystem::file_size(states_);
  EXPECT_EQ(entry.bytes, size + std::filesystem::file_size(manifest_));
  uint64_t end = 0;
  for (const CheckedRange& range : entry.ranges) {
    if (range.tensor.empty()) continue;
    if (end > 0) {
      EXPECT_EQ(range.begin, end) << range.tensor;
    }
    end = range.end;
  }
  EXPECT_EQ(end, size);
  EXPECT_EQ(Check(CheckpointCheck::kSizes).ranges.size(), 2u);
}

TEST_F(CheckpointReportTest, AFlippedBitIsFoundInItsTensor) {
  const StoredTensor place = Place(kTensor);
  for (const uint64_t offset : {place.offset, place.offset + place.bytes - 1}) {
    Flip(states_, offset);
    EXPECT_TRUE(Wrong(CheckpointCheck::kSizes).empty());
    const std::vector<CheckedRange> wrong = Wrong(CheckpointCheck::kHashes);
    ASSERT_EQ(wrong.size(), 2u);  // the file and the tensor
    EXPECT_EQ(wrong[0].tensor, "");
    EXPECT_EQ(wrong[1].tensor, kTensor);
    EXPECT_EQ(wrong[1].begin, place.offset);
    EXPECT_EQ(wrong[1].end, place.offset + place.bytes);
    Flip(states_, offset);
  }
  EXPECT_TRUE(Wrong(CheckpointCheck::kHashes).empty());
}

// A letter of the header's metadata, which no tensor depends on.
TEST_F(CheckpointReportTest, AHeaderThatDiffersIsToldApart) {
  Flip(states_, ReadFile(states_).find("libqft"));
  const std::vector<CheckedRange> wrong = Wrong(CheckpointCheck::kHashes);
  ASSERT_EQ(wrong.size(), 1u);
  EXPECT_EQ(wrong[0].begin, 0u);
  EXPECT_LT(wrong[0].end, std::filesystem::file_size(states_));
  EXPECT_NE(wrong[0].problem.find("header"), std::string::npos);
}

TEST_F(CheckpointReportTest, ARenamedTensorIsMissedAndFoundUnknown) {
  Flip(states_, ReadFile(states_).find(std::string("\"") + kTensor + "\"") + 8);
  std::vector<std::string> tensors;
  for (const CheckedRange& range : Wrong(CheckpointCheck::kHashes)) {
    if (!range.tensor.empty()) tensors.push_back(range.tensor + ": " + range.problem);
  }
  ASSERT_EQ(tensors.size(), 2u);
  EXPECT_NE(tensors[0].find("is not in the manifest"), std::string::npos);
  EXPECT_EQ(tensors[1], std::string(kTensor) + ": is in the manifest and not in the file");
}

TEST_F(CheckpointReportTest, WhatIsCutOffIsTold) {
  const uint64_t size = std::filesystem::file_size(states_);
  std::filesystem::resize_file(states_, size - 10);
  for (const CheckpointCheck check : {CheckpointCheck::kSizes, CheckpointCheck::kHashes}) {
    const std::vector<CheckedRange> wrong = Wrong(check);
    ASSERT_EQ(wrong.size(), 1u);
    EXPECT_EQ(wrong[0].begin, size - 10);
    EXPECT_EQ(wrong[0].end, size);
  }
}

TEST_F(CheckpointReportTest, MissingAndBrokenFiles) {
  std::filesystem::remove(states_);
  ASSERT_EQ(Wrong(CheckpointCheck::kSizes).size(), 1u);
  EXPECT_EQ(Wrong(CheckpointCheck::kSizes)[0].file, "states.safetensors");
  WriteFile(manifest_, "{");
  ASSERT_EQ(Wrong(CheckpointCheck::kSizes).size(), 1u);
  EXPECT_EQ(Wrong(CheckpointCheck::kSizes)[0].file, "manifest.json");
  WriteFile(Path("step_7"), "a file");
  EXPECT_FALSE(CheckCheckpoint(fs_, Path("step_7"), CheckpointCheck::kSizes).whole());
}

TEST_F(CheckpointReportTest, AFolderIsListedByStep) {
  SaveAt(9);
  SaveAt(10);
  std::filesystem::create_directory(Path("step_11.tmp"));
  std::filesystem::rename(Path("step_9"), Path("step_9.superseded"));
  std::filesystem::create_directory(Path("step_x"));
  const auto report = ReportCheckpoints(fs_, folder_, CheckpointCheck::kHashes);
  ASSERT_TRUE(report.ok()) << report.status();
  std::vector<std::string> names;
  for (const CheckpointEntry& entry : report->entries) {
    names.push_back(entry.name);
    EXPECT_EQ(entry.checked(), entry.kind == CheckpointKind::kCheckpoint) << entry.name;
  }
  EXPECT_EQ(names,
            (std::vector<std::string>{"step_1", "step_9.superseded", "step_10", "step_11.tmp"}));
}

// As a person copies it to a name of his own, and what was set aside when it is asked for.
TEST_F(CheckpointReportTest, OneCheckpointByItsPath) {
  std::filesystem::copy(Path("step_1"), Path("best"), std::filesystem::copy_options::recursive);
  std::filesystem::rename(Path("step_1"), Path("step_1.superseded"));
  for (const char* name : {"best", "best/", "step_1.superseded"}) {
    const auto report = ReportCheckpoints(fs_, Path(name), CheckpointCheck::kHashes);
    ASSERT_TRUE(report.ok()) << report.status();
    ASSERT_EQ(report->entries.size(), 1u);
    EXPECT_EQ(report->entries[0].step, 1);
    EXPECT_TRUE(report->entries[0].checked());
    EXPECT_TRUE(report->entries[0].whole());
  }
}

}  // namespace
}  // namespace qft
