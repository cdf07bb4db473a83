#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "runtime/data/safetensors.h"
#include "tests/runtime/data/format_bytes.h"
#include "tests/runtime/data/memory_file_system.h"

namespace qft {
namespace {

constexpr char kPath[] = "out.safetensors";

const std::vector<TensorInfo>& Tensors() {
  static const auto& kTensors = *new std::vector<TensorInfo>{{"wide", {2}, StoredType::kI64},
                                                             {"w", {2, 2}, StoredType::kF32},
                                                             {"half", {3}, StoredType::kBF16},
                                                             {"codes", {3}, StoredType::kI8}};
  return kTensors;
}

constexpr size_t kDataBytes = 16 + 16 + 6 + 3;

TEST(SafetensorsWriter, WritesWhatTheReaderReads) {
  MemoryFileSystem fs;
  auto writer = SafetensorsWriter::Create(fs, kPath, Tensors(), {{"format", "pt"}, {"k", "\xff"}});
  ASSERT_TRUE(writer.ok()) << writer.status();
  const std::string data = Bytes<int64_t>(1) + Bytes<int64_t>(-2) + FloatBytes({1, 2, 3, 4}) +
                           std::string("\0\0\0\0\x80\x3f", 6) + "abc";
  ASSERT_TRUE((*writer)->Append(data.data(), 5).ok());
  ASSERT_TRUE((*writer)->Append(data.data() + 5, data.size() - 5).ok());
  EXPECT_FALSE(fs.files.contains(kPath));
  ASSERT_TRUE((*writer)->Finish().ok());
  ASSERT_EQ(fs.files.size(), 1u);

  uint64_t header_bytes;
  std::memcpy(&header_bytes, fs.files[kPath].data(), sizeof(header_bytes));
  EXPECT_EQ(header_bytes % 8, 0u);
  EXPECT_EQ(fs.files[kPath].substr(8 + header_bytes), data);
  const auto file = OpenSafetensorsFile(fs, kPath);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->metadata.at("format"), "pt");
  for (const TensorInfo& tensor : Tensors()) {
    EXPECT_EQ(file->tensors->Find(tensor.name)->shape, tensor.shape);
    EXPECT_EQ(file->tensors->Find(tensor.name)->type, tensor.type);
  }
  std::vector<float> values(3);
  ASSERT_TRUE(file->tensors->ReadRows("half", 0, 1, values.data()).ok());
  EXPECT_EQ(values, (std::vector<float>{0, 0, 1}));
}

TEST(SafetensorsWriter, RefusesTooMuchAndTooLittleData) {
  MemoryFileSystem fs;
  auto writer = SafetensorsWriter::Create(fs, kPath, Tensors(), {});
  ASSERT_TRUE(writer.ok());
  const std::string data(kDataBytes + 1, 'x');
  EXPECT_FALSE((*writer)->Finish().ok());
  EXPECT_FALSE((*writer)->Append(data.data(), kDataBytes + 1).ok());
  EXPECT_TRUE((*writer)->Append(data.data(), kDataBytes - 1).ok());
  EXPECT_FALSE((*writer)->Finish().ok());
  EXPECT_TRUE((*writer)->Append(data.data(), 1).ok());
  EXPECT_TRUE((*writer)->Finish().ok());
  EXPECT_FALSE((*writer)->Append(data.data(), 0).ok());
  EXPECT_FALSE((*writer)->Finish().ok());
}

TEST(SafetensorsWriter, LeavesNothingWhenAbandoned) {
  MemoryFileSystem fs;
  fs.files[kPath] = "old";
  { ASSERT_TRUE(SafetensorsWriter::Create(fs, kPath, Tensors(), {}).ok()); }
  EXPECT_EQ(fs.files, (std::map<std::string, std::string>{{kPath, "old"}}));
}

TEST(SafetensorsWriter, AFailedSyncIsReportedAndFinal) {
  MemoryFileSystem fs;
  fs.files[kPath] = "old";
  auto writer = SafetensorsWriter::Create(fs, kPath, Tensors(), {});
  ASSERT_TRUE(writer.ok());
  ASSERT_TRUE((*writer)->Append(std::string(kDataBytes, 'x').data(), kDataBytes).ok());
  fs.fail_sync = true;
  EXPECT_EQ(GetErrorInfo((*writer)->Finish()).code, ErrorCode::kIo);
  fs.fail_sync = false;
  EXPECT_FALSE((*writer)->Finish().ok());
  EXPECT_EQ(fs.files, (std::map<std::string, std::string>{{kPath, "old"}}));
}

TEST(SafetensorsWriter, RefusesBadDeclarations) {
  MemoryFileSystem fs;
  constexpr int64_t kMax = std::numeric_limits<int64_t>::max();
  const TensorInfo byte{"byte", {1}, StoredType::kI8};
  const std::vector<TensorInfo> bad[] = {
      {byte, byte},
      {byte, {"unaligned", {1}, StoredType::kF32}},
      {{"", {1}, StoredType::kF32}},
      {{"__metadata__", {1}, StoredType::kF32}},
      {{"q", {32}, StoredType::kQ8_0}},
      {{"negative", {-1}, StoredType::kF32}},
      {{"huge", {kMax}, StoredType::kF32}},
      {{"a", {kMax}, StoredType::kI8}, {"b", {kMax}, StoredType::kI8}},
  };
  for (const std::vector<TensorInfo>& tensors : bad) {
    EXPECT_FALSE(SafetensorsWriter::Create(fs, kPath, tensors, {}).ok()) << tensors.back().name;
  }
  EXPECT_TRUE(fs.files.empty());
}

}  // namespace
}  // namespace qft
