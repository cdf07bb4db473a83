#include "runtime/data/dequantize.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/half.h"
#include "runtime/data/gguf.h"
#include "tests/runtime/data/format_bytes.h"

namespace qft {
namespace {

constexpr uint64_t kGoldenLimit = 1 << 20;

std::vector<float> Decode(StoredType type, const std::string& bytes, int64_t elements) {
  std::vector<float> values(static_cast<size_t>(elements));
  Dequantize(type, bytes.data(), elements, values.data());
  return values;
}

// quantized.gguf holds random blocks of every type that the gguf package decodes, quantized.f32
// what it makes of them.
TEST(Dequantize, EqualsTheReferenceBitForBit) {
  FileSystem& fs = PosixFileSystem();
  const std::string folder = QFT_TEST_DATA;
  const auto file = OpenGguf(fs, JoinPath(folder, "quantized.gguf"));
  ASSERT_TRUE(file.ok()) << file.status();
  const auto golden = ReadWholeFile(fs, JoinPath(folder, "quantized.f32"), kGoldenLimit);
  ASSERT_TRUE(golden.ok()) << golden.status();
  const std::vector<std::string> names = file->tensors->Names();
  ASSERT_EQ(names.size(), 13u);
  size_t position = 0;
  for (const std::string& name : names) {
    const TensorInfo& info = *file->tensors->Find(name);
    std::vector<float> values(static_cast<size_t>(info.Rows() * info.Cols()));
    ASSERT_TRUE(file->tensors->ReadRows(name, 0, info.Rows(), values.data()).ok()) << name;
    const size_t bytes = values.size() * sizeof(float);
    ASSERT_LE(position + bytes, golden->size());
    EXPECT_EQ(std::memcmp(values.data(), golden->data() + position, bytes), 0) << name;
    position += bytes;
  }
  EXPECT_EQ(position, golden->size());
}

TEST(Dequantize, PlainTypes) {
  EXPECT_EQ(Decode(StoredType::kF32, FloatBytes({1.5f, -0.0f}), 2),
            (std::vector<float>{1.5f, -0.0f}));
  EXPECT_EQ(Decode(StoredType::kF16, Bytes(FloatToFp16(-2.5f)), 1), std::vector<float>{-2.5f});
  EXPECT_EQ(Decode(StoredType::kBF16, Bytes(FloatToBf16(96.0f)), 1), std::vector<float>{96.0f});
  EXPECT_EQ(Decode(StoredType::kF64, Bytes(0.1) + Bytes(1e300), 2),
            (std::vector<float>{0.1f, std::numeric_limits<float>::infinity()}));
}

TEST(Dequantize, ReadsUnalignedData) {
  const std::string bytes = "x" + FloatBytes({3.0f}) + Bytes(FloatToFp16(0.5f));
  float value;
  Dequantize(StoredType::kF32, bytes.data() + 1, 1, &value);
  EXPECT_EQ(value, 3.0f);
  Dequantize(StoredType::kF16, bytes.data() + 5, 1, &value);
  EXPECT_EQ(value, 0.5f);
}

TEST(Dequantize, OrderOfCodesInABlock) {
  std::string codes(16, '\0');
  codes[0] = 0x1f;   // value 0: 15, value 16: 1
  codes[15] = 0x20;  // value 15: 0, value 31: 2
  const std::string scale = Bytes(FloatToFp16(0.5f));
  const std::vector<float> q4_0 = Decode(StoredType::kQ4_0, scale + codes, 32);
  EXPECT_EQ(q4_0[0], 3.5f);
  EXPECT_EQ(q4_0[16], -3.5f);
  EXPECT_EQ(q4_0[15], -4.0f);
  EXPECT_EQ(q4_0[31], -3.0f);
  const std::vector<float> q4_1 =
      Decode(StoredType::kQ4_1, scale + Bytes(FloatToFp16(-1.0f)) + codes, 32);
  EXPECT_EQ(q4_1[0], 6.5f);
  EXPECT_EQ(q4_1[16], -0.5f);
  EXPECT_EQ(q4_1[15], -1.0f);
  EXPECT_EQ(q4_1[31], 0.0f);
}

// The gguf package does not decode it; ggml multiplies scale and code.
TEST(Dequantize, Q8_KIsScaleTimesCode) {
  std::string block = Bytes(0.3f);
  for (int i = 0; i < 256; ++i) block += Bytes(static_cast<int8_t>(i - 128));
  block += std::string(32, '\x7f');  // the sums, which must not matter
  const std::vector<float> values = Decode(StoredType::kQ8_K, block + block, 512);
  for (int i = 0; i < 512; ++i) {
    EXPECT_EQ(values[static_cast<size_t>(i)], 0.3f * static_cast<float>(i % 256 - 128)) << i;
  }
}

}  // namespace
}  // namespace qft
