// The random bits of base/philox.h, 32 words at a time, and stochastic rounding.
#pragma once

#include "base/philox.h"
#include "kernels/cpu/simd.h"

namespace qft::QFT_ISA {

typedef uint64_t Uint64x8 __attribute__((vector_size(64)));
typedef uint16_t Half16 __attribute__((vector_size(32)));

// Words a call of RandomWords makes: 8 blocks, 32 numbers of 32 bits or 64 of 16 bits.
inline constexpr int kRandomWords = 32;

// Key of each round, as wide as a lane: a round takes it straight from memory.
struct RandomKeys {
  uint64_t k0[kPhiloxRounds];
  uint64_t k1[kPhiloxRounds];
  uint64_t step;
};

QFT_INLINE RandomKeys MakeRandomKeys(PhiloxKey key, uint64_t step) {
  RandomKeys keys;
  for (int round = 0; round < kPhiloxRounds; ++round) {
    keys.k0[round] = key.k0;
    keys.k1[round] = key.k1;
    key.k0 += kPhiloxWeyl0;
    key.k1 += kPhiloxWeyl1;
  }
  keys.step = step;
  return keys;
}

QFT_INLINE Uint64x8 BroadcastWide(uint64_t x) {
#if defined(QFT_HALVES)
  Halves u;
  u.in[0] = u.in[1] = _mm256_set1_epi64x(static_cast<int64_t>(x));
  return (Uint64x8)u.i;
#else
  return Uint64x8{x, x, x, x, x, x, x, x};
#endif
}

// The 64-bit product of the low 32 bits of each lane with `factor`.
QFT_INLINE Uint64x8 MultiplyLow(Uint64x8 v, uint32_t factor) {
#if defined(__AVX512F__)
  return (Uint64x8)_mm512_mul_epu32((__m512i)v, _mm512_set1_epi64(factor));
#elif defined(QFT_HALVES)
  Halves u{.i = (Int16)v};
  for (int h = 0; h < 2; ++h) u.in[h] = _mm256_mul_epu32(u.in[h], _mm256_set1_epi64x(factor));
  return (Uint64x8)u.i;
#else
  return (v & BroadcastWide(0xffffffffu)) * BroadcastWide(factor);
#endif
}

// Lanes a0 b0 a2 b2 a4 b4 a6 b6, and a1 b1 a3 b3 a5 b5 a7 b7.
QFT_INLINE Uint64x8 UnpackEven(Uint64x8 a, Uint64x8 b) {
#if defined(__AVX512F__)
  return (Uint64x8)_mm512_unpacklo_epi64((__m512i)a, (__m512i)b);
#elif defined(QFT_HALVES)
  const Halves ua{.i = (Int16)a};
  Halves u{.i = (Int16)b};
  for (int h = 0; h < 2; ++h) u.in[h] = _mm256_unpacklo_epi64(ua.in[h], u.in[h]);
  return (Uint64x8)u.i;
#else
  return Uint64x8{a[0], b[0], a[2], b[2], a[4], b[4], a[6], b[6]};
#endif
}
QFT_INLINE Uint64x8 UnpackOdd(Uint64x8 a, Uint64x8 b) {
#if defined(__AVX512F__)
  return (Uint64x8)_mm512_unpackhi_epi64((__m512i)a, (__m512i)b);
#elif defined(QFT_HALVES)
  const Halves ua{.i = (Int16)a};
  Halves u{.i = (Int16)b};
  for (int h = 0; h < 2; ++h) u.in[h] = _mm256_unpackhi_epi64(ua.in[h], u.in[h]);
  return (Uint64x8)u.i;
#else
  return Uint64x8{a[1], b[1], a[3], b[3], a[5], b[5], a[7], b[7]};
#endif
}

// The 32 words of blocks `block` .. `block` + 7 in order. A 64-bit lane holds one block, each word
// of its state in the low half of a vector of its own; lane 2q holds block q and lane 2q + 1 block
// 4 + q, so that unpacking leaves four whole blocks in order in each vector.
QFT_INLINE void RandomWords(const RandomKeys& keys, uint64_t block, uint32_t* words) {
  const Uint64x8 blocks = BroadcastWide(block) + Uint64x8{0, 4, 1, 5, 2, 6, 3, 7};
  Uint64x8 c0 = blocks;
  Uint64x8 c1 = blocks >> 32;
  Uint64x8 c2 = BroadcastWide(keys.step);
  Uint64x8 c3 = BroadcastWide(keys.step >> 32);
  for (int round = 0; round < kPhiloxRounds; ++round) {
    const Uint64x8 p0 = MultiplyLow(c0, kPhiloxMul0);
    const Uint64x8 p1 = MultiplyLow(c2, kPhiloxMul1);
    c0 = (p1 >> 32) ^ c1 ^ BroadcastWide(keys.k0[round]);
    c1 = p1;
    c2 = (p0 >> 32) ^ c3 ^ BroadcastWide(keys.k1[round]);
    c3 = p0;
  }
  const Uint64x8 low = BroadcastWide(0xffffffffu);
  const Uint64x8 first = (c0 & low) | (c1 << 32);
  const Uint64x8 second = (c2 & low) | (c3 << 32);
  StoreInt(reinterpret_cast<int32_t*>(words), (Int16)UnpackEven(first, second));
  StoreInt(reinterpret_cast<int32_t*>(words) + kLanes, (Int16)UnpackOdd(first, second));
}

QFT_INLINE Uint16 LoadWords(const uint32_t* words) {
  Uint16 v;
  std::memcpy(&v, words, sizeof(v));
  return v;
}

// 16 consecutive 16-bit numbers of the words, low half first; `index` is the first one's.
QFT_INLINE Int16 LoadHalves(const uint32_t* words, int index) {
  Half16 halves;
  std::memcpy(&halves, reinterpret_cast<const char*>(words) + 2 * index, sizeof(halves));
#if defined(__AVX512F__)
  return (Int16)_mm512_cvtepu16_epi32((__m256i)halves);
#elif defined(QFT_HALVES)
  Halves u;
  u.in[0] = _mm256_cvtepu16_epi32(_mm256_castsi256_si128((__m256i)halves));
  u.in[1] = _mm256_cvtepu16_epi32(_mm256_extracti128_si256((__m256i)halves, 1));
  return u.i;
#else
  return __builtin_convertvector(halves, Int16);
#endif
}

// Integer part of v in [0, 2^32), which has no bits below its 24 significant ones.
QFT_INLINE Uint16 ToUnsigned(Float16 v) {
#if defined(__AVX512F__)
  return (Uint16)_mm512_cvttps_epu32((__m512)v);
#else
  const Float16 half_range = Broadcast(2147483648.0f);
  const Int16 upper = ~Less(v, half_range);
  const Int16 low = TruncateToInt(v - FromBits(Bits(half_range) & upper));
  return (Uint16)(low ^ (upper & BroadcastInt(INT32_MIN)));
#endif
}

// v + 1 where a < b.
QFT_INLINE Int16 AddOneWhereLess(Int16 v, Uint16 a, Uint16 b) {
#if defined(__AVX512F__)
  return (Int16)_mm512_mask_sub_epi32((__m512i)v, _mm512_cmplt_epu32_mask((__m512i)a, (__m512i)b),
                                      (__m512i)v, _mm512_set1_epi32(-1));
#else
  const Int16 bias = BroadcastInt(INT32_MIN);  // makes unsigned order signed order
  return v - LessInt((Int16)a ^ bias, (Int16)b ^ bias);
#endif
}

// sign(x) * (floor(|x|) + [random < fraction of |x| * 2^32]) with 32 random bits: exact however
// small |x| is. |x| < 2^31, not NaN.
QFT_INLINE Int16 RoundStochastic32(Float16 x, Uint16 random) {
  const Float16 magnitude = Abs(x);
  const Int16 whole = TruncateToInt(magnitude);
  const Float16 fraction = magnitude - ToFloat(whole);
  const Uint16 threshold = ToUnsigned(fraction * Broadcast(4294967296.0f));
  const Int16 rounded = AddOneWhereLess(whole, random, threshold);
  const Int16 sign = Bits(x) >> 31;
  return (rounded ^ sign) - sign;
}

// To nearest, ties to even. |v| < 2^23.
QFT_INLINE Int16 RoundFixed(Float16 v) {
#if defined(__AVX2__)
  return RoundToInt(v);
#else
  const Int16 sign = Bits(v) & BroadcastInt(INT32_MIN);
  const Int16 magic = Bits(Broadcast(8388608.0f));  // 2^23: no bit below one is left
  const Int16 magnitude = Bits(Abs(v) + FromBits(magic)) - magic;
  return (magnitude ^ (sign >> 31)) - (sign >> 31);
#endif
}

// floor(x + random / 65536) with 16 random bits, x first rounded to a multiple of 1/65536 (to
// nearest, ties to even). |x| is at most 127 and one ulp, and the result at most 127: the ulp, half
// of 1/65536, is a tie and goes to 127.
QFT_INLINE Int16 RoundStochastic16(Float16 x, Int16 random) {
  return (RoundFixed(x * Broadcast(65536.0f)) + random) >> 16;
}

}  // namespace qft::QFT_ISA
