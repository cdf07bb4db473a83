#include "runtime/model/rope.h"

#include <gtest/gtest.h>

#include <cmath>

namespace qft {
namespace {

struct Expected {
  RopeScaling scaling;
  double theta;
  double magnitude;
  std::vector<float> frequencies;  // at kIndices
};

constexpr int64_t kHeadDim = 64;
constexpr size_t kIndices[] = {0, 3, 8, 12, 15, 17, 20, 24, 31};

// What transformers 5.23 makes of the same settings (ROPE_INIT_FUNCTIONS), in fp32.
std::vector<Expected> Cases() {
  RopeScaling llama3;
  llama3.kind = RopeKind::kLlama3;
  llama3.factor = 8;
  llama3.original_max_position = 8192;
  RopeScaling linear;
  linear.kind = RopeKind::kLinear;
  linear.factor = 4;
  RopeScaling yarn;
  yarn.kind = RopeKind::kYarn;
  yarn.factor = 4;
  yarn.original_max_position = 32768;
  RopeScaling untruncated = yarn;
  untruncated.factor = 40;
  untruncated.original_max_position = 4096;
  untruncated.mscale = 0.707;
  untruncated.mscale_all_dim = 1;
  untruncated.beta_fast = 16;
  untruncated.beta_slow = 2;
  untruncated.truncate = false;
  return {{llama3,
           500000,
           1,
           {1.0f, 0.292227834f, 0.0376060307f, 0.00729266508f, 0.00137189368f, 0.000178507791f,
            3.42810235e-05f, 6.64786967e-06f, 3.7673226e-07f}},
          {linear,
           10000,
           1,
           {0.25f, 0.105424128f, 0.0250000004f, 0.00790569466f, 0.00333380373f, 0.00187473558f,
            0.000790569466f, 0.000250000012f, 3.33380376e-05f}},
          {yarn,
           1000000,
           1.138629436111989,
           {1.0f, 0.273841977f, 0.0316227786f, 0.00515479548f, 0.00102661771f, 0.000324690831f,
            4.44569851e-05f, 7.90569356e-06f, 3.84981632e-07f}},
          {untruncated,
           10000,
           0.9210423553163399,
           {1.0f, 0.421696514f, 0.100000001f, 0.0316227786f, 0.00952086132f, 0.00332995923f,
            0.000123952457f, 2.49999994e-05f, 3.33380353e-06f}}};
}

TEST(Rope, FrequenciesAreThoseOfTheReference) {
  for (const Expected& expected : Cases()) {
    const std::vector<float> got = InverseFrequencies(expected.scaling, expected.theta, kHeadDim);
    ASSERT_EQ(got.size(), static_cast<size_t>(kHeadDim / 2));
    for (size_t i = 0; i < std::size(kIndices); ++i) {
      EXPECT_NEAR(got[kIndices[i]], expected.frequencies[i], 1e-6 * expected.frequencies[i])
          << kRopeKindNames[static_cast<int>(expected.scaling.kind)] << " " << kIndices[i];
    }
    EXPECT_NEAR(RopeMagnitude(expected.scaling), expected.magnitude, 1e-9);
  }
}

TEST(Rope, PlainAndDynamicWithinTheContextAreUnscaled) {
  RopeScaling dynamic;
  dynamic.kind = RopeKind::kDynamic;
  dynamic.factor = 4;
  const std::vector<float> plain = InverseFrequencies({}, 10000, kHeadDim);
  EXPECT_EQ(InverseFrequencies(dynamic, 10000, kHeadDim), plain);
  EXPECT_EQ(RopeMagnitude(dynamic), 1);
  for (size_t i = 0; i < plain.size(); ++i) {
    EXPECT_FLOAT_EQ(plain[i], std::pow(10000.0f, -2.0f * static_cast<float>(i) / kHeadDim));
  }
}

TEST(Rope, AGivenAttentionFactorCounts) {
  RopeScaling yarn;
  yarn.kind = RopeKind::kYarn;
  yarn.factor = 4;
  yarn.original_max_position = 32768;
  yarn.attention_factor = 0.75;
  EXPECT_EQ(RopeMagnitude(yarn), 0.75);
}

}  // namespace
}  // namespace qft
