#include "runtime/data/gguf.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/runtime/data/format_bytes.h"
#include "tests/runtime/data/memory_file_system.h"

namespace qft {
namespace {

constexpr uint32_t kF32 = 0;
constexpr uint32_t kQ8_0 = 8;
constexpr uint32_t kTypeString = 8;
constexpr uint32_t kTypeArray = 9;
constexpr uint64_t kHuge = uint64_t{1} << 62;

// A small file with every structural part.
GgufBytes Sample() {
  GgufBytes bytes;
  bytes.AddString("general.architecture", "llama");
  bytes.AddUint32("general.alignment", 32);
  bytes.AddEntry("words", kTypeArray,
                 Bytes(kTypeString) + Bytes<uint64_t>(2) + GgufString("one") + GgufString(""));
  bytes.AddEntry("numbers", kTypeArray,
                 Bytes<uint32_t>(2) + Bytes<uint64_t>(2) + Bytes<uint16_t>(7) + Bytes<uint16_t>(8));
  bytes.AddEntry("nested", kTypeArray,
                 Bytes(kTypeArray) + Bytes<uint64_t>(1) + Bytes<uint32_t>(0) + Bytes<uint64_t>(1) +
                     Bytes<uint8_t>(9));
  bytes.AddTensor("a", {3, 2}, kF32, FloatBytes({0, 1, 2, 3, 4, 5}));
  bytes.AddTensor("b", {32}, kQ8_0, std::string(34, '\1'));
  return bytes;
}

class Gguf : public testing::Test {
 protected:
  StatusOr<GgufFile> Open(const std::string& bytes) {
    fs_.files["f.gguf"] = bytes;
    return OpenGguf(fs_, "f.gguf");
  }
  ErrorCode CodeOf(const std::string& bytes) { return GetErrorInfo(Open(bytes).status()).code; }
  ErrorCode CodeOf(const GgufBytes& bytes) { return CodeOf(bytes.Build()); }

  // A file with the one metadata entry `key` of `type`.
  ErrorCode CodeOfEntry(const std::string& key, uint32_t type, const std::string& value) {
    GgufBytes bytes;
    bytes.AddEntry(key, type, value);
    return CodeOf(bytes);
  }
  // A file with the one tensor entry, over `data_bytes` of data.
  ErrorCode CodeOfTensor(const std::vector<uint64_t>& dimensions, uint32_t type, uint64_t offset,
                         size_t data_bytes) {
    GgufBytes bytes;
    bytes.AddTensorEntry("t", dimensions, type, offset);
    bytes.data.resize(data_bytes);
    return CodeOf(bytes);
  }

  MemoryFileSystem fs_;
};

TEST_F(Gguf, ReadsTensorsAndMetadata) {
  for (const uint32_t version : {2u, 3u}) {
    GgufBytes bytes = Sample();
    bytes.version = version;
    const auto file = Open(bytes.Build());
    ASSERT_TRUE(file.ok()) << file.status();
    EXPECT_EQ(*file->metadata.at("general.architecture").String(), "llama");
    EXPECT_EQ(*file->metadata.at("words").String(0), "one");
    EXPECT_EQ(*file->metadata.at("words").String(1), "");
    EXPECT_EQ(file->metadata.at("words").String(2), nullptr);
    EXPECT_EQ(file->metadata.at("numbers").Integer(1), 8);
    EXPECT_EQ(file->metadata.at("numbers").Integer(2), std::nullopt);
    EXPECT_EQ(file->metadata.at("nested").arrays.at(0).Integer(0), 9);
    EXPECT_EQ(file->tensors->Find("a")->shape, (std::vector<int64_t>{2, 3}));
    std::vector<float> values(3);
    ASSERT_TRUE(file->tensors->ReadRows("a", 1, 1, values.data()).ok());
    EXPECT_EQ(values, (std::vector<float>{3, 4, 5}));
  }
}

// Written by the gguf package.
TEST_F(Gguf, ReadsEveryTypeOfMetadata) {
  const auto file = OpenGguf(PosixFileSystem(), JoinPath(QFT_TEST_DATA, "quantized.gguf"));
  ASSERT_TRUE(file.ok()) << file.status();
  const GgufMetadata& values = file->metadata;
  EXPECT_EQ(values.at("value.uint8").Integer(), 255);
  EXPECT_EQ(values.at("value.int8").Integer(), -128);
  EXPECT_EQ(values.at("value.uint16").Integer(), 65535);
  EXPECT_EQ(values.at("value.int16").Integer(), -32768);
  EXPECT_EQ(values.at("value.uint32").Integer(), 4294967295);
  EXPECT_EQ(values.at("value.int32").Integer(), std::numeric_limits<int32_t>::min());
  EXPECT_EQ(values.at("value.uint64").Integer(), std::nullopt);  // above int64
  EXPECT_EQ(values.at("value.int64").Integer(), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(values.at("value.float32").Number(), 0.5);
  EXPECT_EQ(values.at("value.float64").Number(), -0.1);
  EXPECT_EQ(values.at("value.float64").Integer(), std::nullopt);
  EXPECT_EQ(values.at("value.bool").Bool(), true);
  EXPECT_EQ(values.at("value.bool").Integer(), std::nullopt);
  EXPECT_EQ(*values.at("value.string").String(), "a\xc3\xa9");
  EXPECT_EQ(values.at("array.int32").Number(1), -2);
  EXPECT_EQ(values.at("array.float32").Number(1), -1.5);
  EXPECT_EQ(values.at("array.bool").Bool(1), false);
  EXPECT_EQ(values.at("array.string").strings, (std::vector<std::string>{"", "b", "cc"}));
  EXPECT_EQ(values.at("array.nested").arrays.at(1).Integer(0), 3);
}

TEST_F(Gguf, RefusesMagicAndVersion) {
  GgufBytes bytes = Sample();
  bytes.magic = "GGML";
  EXPECT_EQ(CodeOf(bytes), ErrorCode::kCorrupt);
  for (const uint32_t version : {0u, 1u, 4u, 0x03000000u}) {
    bytes = Sample();
    bytes.version = version;
    EXPECT_EQ(CodeOf(bytes), ErrorCode::kUnsupported) << version;
  }
}

TEST_F(Gguf, RefusesLyingCounts) {
  const GgufBytes bytes = Sample();
  for (const uint64_t count : {uint64_t{6}, uint64_t{1000}, kHuge, ~uint64_t{0}}) {
    EXPECT_EQ(CodeOf(bytes.Build(2, count)), ErrorCode::kCorrupt) << count;
    EXPECT_FALSE(Open(bytes.Build(count, 5)).ok()) << count;
  }
  EXPECT_FALSE(Open(bytes.Build(3, 5)).ok());
}

TEST_F(Gguf, RefusesBadMetadata) {
  EXPECT_EQ(CodeOfEntry("k", 0, "x"), ErrorCode::kOk);
  EXPECT_EQ(CodeOfEntry("k", 13, "x"), ErrorCode::kCorrupt);
  EXPECT_EQ(CodeOfEntry("k", 0xffffffff, "x"), ErrorCode::kCorrupt);
  EXPECT_EQ(CodeOfEntry("", 0, "x"), ErrorCode::kCorrupt);
  EXPECT_EQ(CodeOfEntry("a\nb", 0, "x"), ErrorCode::kCorrupt);
  EXPECT_EQ(CodeOfEntry("k", kTypeString, Bytes(kHuge)), ErrorCode::kCorrupt);
  EXPECT_EQ(CodeOfEntry("k", kTypeString, Bytes(~uint64_t{0})), ErrorCode::kCorrupt);
  for (const uint32_t element : {0u, 8u, 9u, 10u}) {
    for (const uint64_t count : {uint64_t{1000}, kHuge, (kHuge << 1) + 1, ~uint64_t{0}}) {
      EXPECT_EQ(CodeOfEntry("k", kTypeArray, Bytes(element) + Bytes(count)), ErrorCode::kCorrupt);
    }
  }
  GgufBytes twice;
  twice.AddUint32("k", 1);
  twice.AddUint32("k", 1);
  EXPECT_EQ(CodeOf(twice), ErrorCode::kCorrupt);
}

TEST_F(Gguf, RefusesDeepArrays) {
  std::string value;
  for (int i = 0; i < 1000; ++i) value += Bytes(kTypeArray) + Bytes<uint64_t>(1);
  EXPECT_EQ(CodeOfEntry("k", kTypeArray, value), ErrorCode::kCorrupt);
}

TEST_F(Gguf, RefusesBadAlignments) {
  for (const uint32_t alignment : {0u, 3u, 48u, 0x80000000u}) {
    EXPECT_EQ(CodeOfEntry("general.alignment", 4, Bytes(alignment)), ErrorCode::kCorrupt);
  }
  EXPECT_EQ(CodeOfEntry("general.alignment", 11, Bytes<int64_t>(-32)), ErrorCode::kCorrupt);
  EXPECT_EQ(CodeOfEntry("general.alignment", kTypeString, GgufString("32")), ErrorCode::kCorrupt);
  EXPECT_EQ(CodeOfEntry("general.alignment", kTypeArray,
                        Bytes<uint32_t>(4) + Bytes<uint64_t>(1) + Bytes<uint32_t>(32)),
            ErrorCode::kCorrupt);
  GgufBytes bytes;
  bytes.alignment = 64;
  bytes.AddUint32("general.alignment", 64);
  bytes.AddTensor("a", {1}, kF32, FloatBytes({5}));
  const auto file = Open(bytes.Build());
  ASSERT_TRUE(file.ok()) << file.status();
  float value;
  ASSERT_TRUE(file->tensors->ReadRows("a", 0, 1, &value).ok());
  EXPECT_EQ(value, 5);
}

TEST_F(Gguf, RefusesBadTensors) {
  EXPECT_EQ(CodeOfTensor({8}, kF32, 0, 32), ErrorCode::kOk);
  EXPECT_EQ(CodeOfTensor({8}, kF32, 32, 64), ErrorCode::kOk);
  EXPECT_EQ(CodeOfTensor({8}, kF32, 0, 31), ErrorCode::kCorrupt);   // past the end
  EXPECT_EQ(CodeOfTensor({8}, kF32, 64, 64), ErrorCode::kCorrupt);  // past the end
  EXPECT_EQ(CodeOfTensor({8}, kF32, ~uint64_t{31}, 64), ErrorCode::kCorrupt);
  EXPECT_EQ(CodeOfTensor({8}, kF32, 4, 64), ErrorCode::kCorrupt);  // unaligned
  EXPECT_EQ(CodeOfTensor({kHuge, 4}, kF32, 0, 64), ErrorCode::kCorrupt);
  EXPECT_EQ(CodeOfTensor({kHuge}, kF32, 0, 64), ErrorCode::kCorrupt);
  EXPECT_EQ(CodeOfTensor({~uint64_t{0}}, kF32, 0, 64), ErrorCode::kCorrupt);
  EXPECT_EQ(CodeOfTensor({1, 1, 1, 1, 1}, kF32, 0, 64), ErrorCode::kCorrupt);
  EXPECT_EQ(CodeOfTensor({33}, kQ8_0, 0, 64), ErrorCode::kCorrupt);  // no whole block
}

// Sizes from GGML_QUANT_SIZES of the gguf package.
TEST_F(Gguf, QuantizedTensorsAreWholeBlocksInsideTheFile) {
  struct {
    uint32_t type;
    uint64_t elements;
    size_t bytes;
  } const blocks[] = {{2, 32, 18},    {3, 32, 20},    {6, 32, 22},    {7, 32, 24},
                      {8, 32, 34},    {10, 256, 84},  {11, 256, 110}, {12, 256, 144},
                      {13, 256, 176}, {14, 256, 210}, {15, 256, 292}};
  for (const auto& [type, elements, bytes] : blocks) {
    EXPECT_EQ(CodeOfTensor({2 * elements, 3}, type, 0, 6 * bytes), ErrorCode::kOk) << type;
    EXPECT_EQ(CodeOfTensor({2 * elements, 3}, type, 0, 6 * bytes - 1), ErrorCode::kCorrupt) << type;
    EXPECT_EQ(CodeOfTensor({elements - 1}, type, 0, bytes), ErrorCode::kCorrupt) << type;
    EXPECT_EQ(CodeOfTensor({elements / 2, 2}, type, 0, bytes), ErrorCode::kCorrupt) << type;
    EXPECT_EQ(CodeOfTensor({kHuge, 2}, type, 0, bytes), ErrorCode::kCorrupt) << type;
  }
}

TEST_F(Gguf, NamesTheTensorAndTypeItCannotReadAndWhatToTake) {
  struct {
    uint32_t type;
    const char* name;
  } const refused[] = {{9, "Q8_1"},   {16, "IQ2_XXS"}, {20, "IQ4_NL"},  {23, "IQ4_XS"},
                       {34, "TQ1_0"}, {35, "TQ2_0"},   {4, "number 4"}, {~0u, "number 4294967295"}};
  for (const auto& [type, name] : refused) {
    EXPECT_EQ(CodeOfTensor({256}, type, 0, 256), ErrorCode::kUnsupported) << name;
    const std::string message(Open(fs_.files["f.gguf"]).status().message());
    EXPECT_NE(message.find(absl::StrCat("tensor t: values of type ", name, " ")), std::string::npos)
        << message;
    EXPECT_NE(message.find("take the model as F16, BF16, Q8_0 or a k-quant"), std::string::npos)
        << message;
  }
}

TEST_F(Gguf, KnowsAPointerOfGitLfs) {
  const Status status =
      Open("version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n").status();
  EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kBadData);
  EXPECT_NE(status.message().find("f.gguf: a pointer of Git LFS"), absl::string_view::npos)
      << status;
}

TEST_F(Gguf, RefusesOverlapsAndDuplicates) {
  GgufBytes bytes;
  bytes.AddTensorEntry("a", {16}, kF32, 0);
  bytes.AddTensorEntry("b", {8}, kF32, 32);
  bytes.data.resize(128);
  EXPECT_EQ(CodeOf(bytes), ErrorCode::kCorrupt);
  bytes.tensors.pop_back();
  bytes.AddTensorEntry("b", {8}, kF32, 64);
  EXPECT_EQ(CodeOf(bytes), ErrorCode::kOk);
  bytes.tensors.pop_back();
  bytes.AddTensorEntry("a", {8}, kF32, 64);
  EXPECT_EQ(CodeOf(bytes), ErrorCode::kCorrupt);
}

TEST_F(Gguf, EveryPrefixIsRefused) {
  const std::string good = Sample().Build();
  ASSERT_TRUE(Open(good).ok());
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(Open(good.substr(0, size)).ok()) << size;
  }
}

TEST_F(Gguf, AnyFlippedHeaderByteIsRefusedOrReadable) {
  const GgufBytes sample = Sample();
  const std::string good = sample.Build();
  for (size_t at = 0; at < sample.Header(2, 5).size(); ++at) {
    for (const int flip : {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80, 0xff}) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ flip);
      const auto file = Open(bytes);
      if (!file.ok()) continue;
      for (const std::string& name : file->tensors->Names()) {
        const TensorInfo& info = *file->tensors->Find(name);
        std::vector<float> values(static_cast<size_t>(info.Rows() * info.Cols()));
        (void)file->tensors->ReadRows(name, 0, info.Rows(), values.data());
      }
    }
  }
}

}  // namespace
}  // namespace qft
