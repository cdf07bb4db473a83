#include "base/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace qft {
namespace {

TEST(Half, EveryFp16SurvivesTheWayThroughFloat) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<uint16_t>(bits);
    const float value = Fp16ToFloat(half);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(Fp16ToFloat(FloatToFp16(value))));
    } else {
      ASSERT_EQ(FloatToFp16(value), half) << bits;
    }
  }
}

TEST(Half, Fp16EqualsTheCompilers) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    _Float16 reference;
    const auto half = static_cast<uint16_t>(bits);
    std::memcpy(&reference, &half, sizeof(half));
    const float expected = static_cast<float>(reference);
    if (!std::isnan(expected)) {
      ASSERT_EQ(Fp16ToFloat(half), expected) << bits;
    }
  }
  for (int i = 0; i < 200000; ++i) {
    const float value = std::ldexp(1.0f + static_cast<float>(i) * 0x1p-18f, i % 44 - 28);
    const auto reference = static_cast<_Float16>(value);
    uint16_t expected;
    std::memcpy(&expected, &reference, sizeof(expected));
    ASSERT_EQ(FloatToFp16(value), expected) << value;
  }
}

TEST(Half, Bf16RoundsToNearestEven) {
  EXPECT_EQ(FloatToBf16(1.0f), 0x3f80);
  EXPECT_EQ(FloatToBf16(1.0f + 0x1p-8f), 0x3f80);            // a tie, to even
  EXPECT_EQ(FloatToBf16(1.0f + 0x1p-7f + 0x1p-8f), 0x3f82);  // a tie, to even
  EXPECT_EQ(FloatToBf16(1.0f + 0x1p-8f + 0x1p-20f), 0x3f81);
  EXPECT_TRUE(std::isnan(Bf16ToFloat(FloatToBf16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isinf(Bf16ToFloat(FloatToBf16(std::numeric_limits<float>::max()))));
}

}  // namespace
}  // namespace qft
