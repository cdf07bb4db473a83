// The vectors of kernels/cpu/random.h against base/philox.h, seen through the codes they round, and
// the scalar generator against the paper's formulas and simple statistics.
#include <cmath>

#include "base/philox.h"
#include "tests/kernels/test_engine.h"

namespace qft {
namespace {

// Philox4x32 as Salmon et al. write it, with any number of rounds.
PhiloxBlock ReferencePhilox(int rounds, PhiloxBlock c, PhiloxKey key) {
  for (int round = 0; round < rounds; ++round) {
    if (round > 0) {
      key.k0 += 0x9E3779B9u;
      key.k1 += 0xBB67AE85u;
    }
    const uint64_t p0 = 0xD2511F53ull * c.word[0];
    const uint64_t p1 = 0xCD9E8D57ull * c.word[2];
    c = {{static_cast<uint32_t>(p1 >> 32) ^ c.word[1] ^ key.k0, static_cast<uint32_t>(p1),
          static_cast<uint32_t>(p0 >> 32) ^ c.word[3] ^ key.k1, static_cast<uint32_t>(p0)}};
  }
  return c;
}

TEST(Philox, ReferenceHasTheKnownAnswersOfTenRounds) {
  // kat_vectors of Random123: philox 4x32 10.
  const PhiloxBlock zero = ReferencePhilox(10, {{0, 0, 0, 0}}, {0, 0});
  EXPECT_EQ(zero.word[0], 0x6627e8d5u);
  EXPECT_EQ(zero.word[1], 0xe169c58du);
  EXPECT_EQ(zero.word[2], 0xbc57ac4cu);
  EXPECT_EQ(zero.word[3], 0x9b00dbd8u);
  const uint32_t f = 0xffffffffu;
  const PhiloxBlock ones = ReferencePhilox(10, {{f, f, f, f}}, {f, f});
  EXPECT_EQ(ones.word[0], 0x408f276du);
  EXPECT_EQ(ones.word[1], 0x41c83b0eu);
  EXPECT_EQ(ones.word[2], 0xa20bc7c6u);
  EXPECT_EQ(ones.word[3], 0x6d5451fdu);
}

TEST(Philox, IsTheReferenceWithSevenRounds) {
  TestRandom random(1);
  for (int i = 0; i < 1000; ++i) {
    const uint64_t block = random.Next();
    const uint64_t step = random.Next();
    const PhiloxKey key{static_cast<uint32_t>(random.Next()), static_cast<uint32_t>(random.Next())};
    const PhiloxBlock got = Philox(key, block, step);
    const PhiloxBlock expected =
        ReferencePhilox(7,
                        {{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32),
                          static_cast<uint32_t>(step), static_cast<uint32_t>(step >> 32)}},
                        key);
    for (int w = 0; w < 4; ++w) EXPECT_EQ(got.word[w], expected.word[w]);
  }
}

TEST(Philox, WordsAreUniform) {
  constexpr int kBlocks = 65536;
  double sum = 0;
  int64_t buckets[16] = {};
  for (int i = 0; i < kBlocks; ++i) {
    for (const uint32_t word : Philox({1, 2}, static_cast<uint64_t>(i), 3).word) {
      sum += word * 0x1p-32;
      ++buckets[word >> 28];
    }
  }
  const double n = 4.0 * kBlocks;
  EXPECT_NEAR(sum / n, 0.5, 5 * std::sqrt(1.0 / 12 / n));
  for (const int64_t bucket : buckets) EXPECT_NEAR(bucket, n / 16, 5 * std::sqrt(n / 16));
}

// With a scale of 1 the value 63.5 becomes 64 where the number's top bit is set, else 63.
TEST(VectorPhilox, SixteenBitNumbersAreThoseOfTheIndex) {
  for (const int64_t cols : {1, 7, 8, 9, 63, 64, 65, 200}) {
    for (const int64_t row_offset : {int64_t{0}, int64_t{5}, int64_t{1} << 33}) {
      constexpr int64_t kRows = 3;
      const PhiloxKey key{0x12345678u, 0x9abcdef0u};
      StepState step;
      step.step = 0x123456789aull;
      std::vector<float> x(static_cast<size_t>(kRows * cols), 63.5f);
      for (int64_t r = 0; r < kRows; ++r) x[static_cast<size_t>(r * cols)] = 127.0f;
      ExpectSameEverywhere([&](Engine& engine) {
        const EngineArray<float> dy(engine, x);
        const EngineArray<int8_t> codes(engine, kRows * cols);
        const EngineArray<float> scales(engine, kRows);
        const EngineStep state(engine, step);
        const Operand out{codes.data(), scales.data(), DType::kI8, kRows, cols};
        engine.QuantizeOutputGradient({dy.data(), DType::kF32, kRows, cols}, nullptr,
                                      Rounding::kStochastic, {key, row_offset}, state.data(), out);
        const std::vector<int8_t> got = codes.Read();
        for (int64_t r = 0; r < kRows; ++r) {
          for (int64_t c = 1; c < cols; ++c) {
            const int64_t block = (row_offset + r) * ((cols + 7) / 8) + c / 8;
            const PhiloxBlock words = Philox(key, static_cast<uint64_t>(block), step.step);
            const uint32_t number = words.word[c % 8 / 2] >> (c % 2 * 16) & 0xffffu;
            const int expected = number >= 0x8000u ? 64 : 63;
            EXPECT_EQ(int{got[static_cast<size_t>(r * cols + c)]}, expected)
                << "row " << r << " column " << c << " of " << cols;
          }
        }
        Outputs outputs;
        outputs.Add(codes);
        return outputs;
      });
    }
  }
}

}  // namespace
}  // namespace qft
