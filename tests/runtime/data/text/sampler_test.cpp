#include "runtime/data/text/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

namespace qft {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::vector<int> Counts(const std::vector<float>& logits, const SamplerOptions& options,
                        int draws) {
  std::vector<int> counts(logits.size());
  for (int i = 0; i < draws; ++i) {
    const auto id = SampleToken(logits.data(), static_cast<int64_t>(logits.size()), options,
                                static_cast<uint64_t>(i));
    EXPECT_TRUE(id.ok()) << id.status();
    if (id.ok()) ++counts[static_cast<size_t>(*id)];
  }
  return counts;
}

// Expected shares, five standard deviations.
void ExpectShares(const std::vector<int>& counts, const std::vector<double>& shares, int draws) {
  for (size_t i = 0; i < counts.size(); ++i) {
    const double deviation = std::sqrt(draws * shares[i] * (1 - shares[i]));
    EXPECT_NEAR(counts[i], draws * shares[i], 5 * deviation) << i;
  }
}

TEST(Sampler, ZeroTemperatureTakesTheFirstLargest) {
  EXPECT_EQ(Counts({1, 5, -2, 5}, {}, 10), (std::vector<int>{0, 10, 0, 0}));
}

TEST(Sampler, FollowsTheDistribution) {
  const std::vector<float> logits = {std::log(1.0f), std::log(2.0f), -kInfinity, std::log(5.0f)};
  ExpectShares(Counts(logits, {.temperature = 1}, 20000), {0.125, 0.25, 0, 0.625}, 20000);
  ExpectShares(Counts(logits, {.temperature = 0.5, .seed = 3}, 20000),
               {1 / 30.0, 4 / 30.0, 0, 25 / 30.0}, 20000);
}

TEST(Sampler, TopKAndTopPCut) {
  const std::vector<float> logits = {std::log(1.0f), std::log(2.0f), std::log(2.0f),
                                     std::log(5.0f)};
  ExpectShares(Counts(logits, {.temperature = 1, .top_k = 2}, 20000), {0, 2 / 7.0, 0, 5 / 7.0},
               20000);
  ExpectShares(Counts(logits, {.temperature = 1, .top_p = 0.6}, 20000), {0, 2 / 7.0, 0, 5 / 7.0},
               20000);
  EXPECT_EQ(Counts(logits, {.temperature = 1, .top_p = 0.5}, 50), (std::vector<int>{0, 0, 0, 50}));
  EXPECT_EQ(Counts(logits, {.temperature = 1, .top_k = 1}, 50), (std::vector<int>{0, 0, 0, 50}));
  ExpectShares(Counts(logits, {.temperature = 1, .top_k = 99, .top_p = 1}, 20000),
               {0.1, 0.2, 0.2, 0.5}, 20000);
}

TEST(Sampler, DependsOnSeedAndIndexAlone) {
  const std::vector<float> logits(100, 0.0f);
  const SamplerOptions options = {.temperature = 1, .seed = 7};
  int equal_seeds = 0;
  for (uint64_t i = 0; i < 100; ++i) {
    const auto once = SampleToken(logits.data(), 100, options, i);
    EXPECT_EQ(*once, *SampleToken(logits.data(), 100, options, i));
    equal_seeds += *once == *SampleToken(logits.data(), 100, {.temperature = 1, .seed = 8}, i);
  }
  EXPECT_LT(equal_seeds, 10);
}

TEST(Sampler, RefusesWhatIsNotFinite) {
  const auto code = [](std::vector<float> logits, double temperature) {
    return GetErrorInfo(SampleToken(logits.data(), static_cast<int64_t>(logits.size()),
                                    {.temperature = temperature}, 0)
                            .status())
        .code;
  };
  for (const double temperature : {0.0, 1.0}) {
    EXPECT_EQ(code({0, NAN}, temperature), ErrorCode::kNonFinite);
    EXPECT_EQ(code({kInfinity, 0}, temperature), ErrorCode::kNonFinite);
    EXPECT_EQ(code({-kInfinity, -kInfinity}, temperature), ErrorCode::kNonFinite);
  }
}

TEST(Sampler, ExtremesOfTemperature) {
  EXPECT_EQ(Counts({0, 1e30f, -1e30f}, {.temperature = 1e-300}, 20), (std::vector<int>{0, 20, 0}));
  ExpectShares(Counts({0, 50}, {.temperature = 1e300}, 20000), {0.5, 0.5}, 20000);
}

TEST(Sampler, ChecksItsOptions) {
  EXPECT_TRUE(CheckSamplerOptions({}).ok());
  for (const SamplerOptions& options : std::vector<SamplerOptions>{{.temperature = -1},
                                                                   {.temperature = NAN},
                                                                   {.temperature = HUGE_VAL},
                                                                   {.top_k = -1},
                                                                   {.top_p = -0.1},
                                                                   {.top_p = 1.1},
                                                                   {.top_p = std::nan("")}}) {
    EXPECT_EQ(GetErrorInfo(CheckSamplerOptions(options)).code, ErrorCode::kOutOfRange);
  }
}

}  // namespace
}  // namespace qft
