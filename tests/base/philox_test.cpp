#include "base/philox.h"

#include <gtest/gtest.h>

#include <set>

namespace qft {
namespace {

// One round written out from the paper's definition, with 128-bit arithmetic.
PhiloxBlock ReferencePhilox(PhiloxKey key, uint64_t block, uint64_t step, int rounds) {
  uint64_t x[4] = {block & 0xffffffff, block >> 32, step & 0xffffffff, step >> 32};
  uint64_t k[2] = {key.k0, key.k1};
  for (int r = 0; r < rounds; ++r) {
    const unsigned __int128 p0 = static_cast<unsigned __int128>(0xD2511F53u) * x[0];
    const unsigned __int128 p1 = static_cast<unsigned __int128>(0xCD9E8D57u) * x[2];
    const uint64_t y[4] = {
        static_cast<uint64_t>(p1 >> 32) ^ x[1] ^ k[0], static_cast<uint64_t>(p1) & 0xffffffff,
        static_cast<uint64_t>(p0 >> 32) ^ x[3] ^ k[1], static_cast<uint64_t>(p0) & 0xffffffff};
    for (int i = 0; i < 4; ++i) x[i] = y[i] & 0xffffffff;
    k[0] = (k[0] + 0x9E3779B9u) & 0xffffffff;
    k[1] = (k[1] + 0xBB67AE85u) & 0xffffffff;
  }
  PhiloxBlock out;
  for (int i = 0; i < 4; ++i) out.word[i] = static_cast<uint32_t>(x[i]);
  return out;
}

TEST(Philox, TenRoundsOfTheReferenceGiveThePublishedAnswer) {
  // Random123's known answer for philox4x32-10 with counter and key of all ones bits.
  const PhiloxBlock block =
      ReferencePhilox({0xffffffffu, 0xffffffffu}, ~uint64_t{0}, ~uint64_t{0}, 10);
  EXPECT_EQ(block.word[0], 0x408f276du);
  EXPECT_EQ(block.word[1], 0x41c83b0eu);
  EXPECT_EQ(block.word[2], 0xa20bc7c6u);
  EXPECT_EQ(block.word[3], 0x6d5451fdu);
}

TEST(Philox, EqualsTheReferenceWithSevenRounds) {
  for (uint64_t i = 0; i < 1000; ++i) {
    const PhiloxKey key{static_cast<uint32_t>(i * 2654435761u), static_cast<uint32_t>(i ^ 77)};
    const uint64_t block = i * 0x9E3779B97F4A7C15u;
    const PhiloxBlock a = Philox(key, block, i);
    const PhiloxBlock b = ReferencePhilox(key, block, i, 7);
    for (int w = 0; w < 4; ++w) ASSERT_EQ(a.word[w], b.word[w]);
  }
}

TEST(Philox, StreamsOfDifferentNamesAndSeedsDiffer) {
  std::set<uint64_t> keys;
  for (uint64_t seed = 0; seed < 10; ++seed) {
    for (const char* name : {"weight:a", "weight:b", "momentum:a"}) {
      const PhiloxKey key = StreamKey(seed, name);
      keys.insert(uint64_t{key.k0} << 32 | key.k1);
    }
  }
  EXPECT_EQ(keys.size(), 30u);
}

}  // namespace
}  // namespace qft
