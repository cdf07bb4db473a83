// Counter-based random numbers: Philox4x32 with 7 rounds (Salmon et al., SC'11; 7 is the fewest
// rounds that pass BigCrush). A number depends on (key, block, step) and on nothing else, so
// threads, shards, tiers and the split into micro-batches cannot change it.
//
// Index, part of the checkpoint format:
//   key     = StreamKey(seed, stream name)        one stream a (tensor or operand, purpose)
//   counter = (block low, block high, step low, step high)
//   block   = row * ceil(columns / n) + column / n, n = 4 numbers of 32 bits or 8 of 16 bits
//   word    = column % 4 for 32 bits; for 16 bits word (column % 8) / 2, low half first
// The row of an operand is its global token within the step, the column its feature.
#pragma once

#include <cstdint>
#include <string_view>

namespace qft {

struct PhiloxKey {
  uint32_t k0;
  uint32_t k1;
};

struct PhiloxBlock {
  uint32_t word[4];
};

inline constexpr int kPhiloxRounds = 7;
inline constexpr uint32_t kPhiloxMul0 = 0xD2511F53u;
inline constexpr uint32_t kPhiloxMul1 = 0xCD9E8D57u;
inline constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u;
inline constexpr uint32_t kPhiloxWeyl1 = 0xBB67AE85u;

constexpr PhiloxBlock Philox(PhiloxKey key, uint64_t block, uint64_t step) {
  uint32_t c0 = static_cast<uint32_t>(block);
  uint32_t c1 = static_cast<uint32_t>(block >> 32);
  uint32_t c2 = static_cast<uint32_t>(step);
  uint32_t c3 = static_cast<uint32_t>(step >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(kPhiloxMul0) * c0;
    const uint64_t p1 = static_cast<uint64_t>(kPhiloxMul1) * c2;
    c0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ key.k0;
    c1 = static_cast<uint32_t>(p1);
    c2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ key.k1;
    c3 = static_cast<uint32_t>(p0);
    key.k0 += kPhiloxWeyl0;
    key.k1 += kPhiloxWeyl1;
  }
  return {{c0, c1, c2, c3}};
}

// xxh3-64 of the stream's name, seeded with the session's seed.
PhiloxKey StreamKey(uint64_t seed, std::string_view stream_name);

}  // namespace qft
