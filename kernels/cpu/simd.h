// Sixteen fp32 lanes on every instruction set, with the same bits: each function here is a fixed
// sequence of IEEE operations per lane, and reductions have a fixed order.
//
// Files that include this are compiled once per instruction set (QFT_ISA = plain, avx2, avx512),
// everything in namespace qft::QFT_ISA. They use no standard containers and no inline function of
// another header that could be emitted out of line: the linker would keep one copy of it, perhaps
// one that the processor at hand cannot run.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#define QFT_INLINE static inline __attribute__((always_inline))

namespace qft::QFT_ISA {

inline constexpr int kLanes = 16;

typedef float Float16 __attribute__((vector_size(64)));
typedef int32_t Int16 __attribute__((vector_size(64)));
typedef uint32_t Uint16 __attribute__((vector_size(64)));
typedef int8_t Byte16 __attribute__((vector_size(16)));

#if defined(__AVX2__) && !defined(__AVX512F__)
#define QFT_HALVES 1
// With vectors of 32 bytes GCC halves the arithmetic of one of 64 by itself, but compares, converts
// and stores it lane by lane: those go through here.
union Halves {
  Float16 f;
  Int16 i;
  __m256 fp[2];
  __m256i in[2];
};
#endif

QFT_INLINE Float16 Load(const float* p) {
  Float16 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
QFT_INLINE void Store(float* p, Float16 v) {
#if defined(QFT_HALVES)
  const Halves u{v};
  _mm256_storeu_ps(p, u.fp[0]);
  _mm256_storeu_ps(p + 8, u.fp[1]);
#else
  std::memcpy(p, &v, sizeof(v));
#endif
}
QFT_INLINE Int16 LoadInt(const int32_t* p) {
  Int16 v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}
QFT_INLINE void StoreInt(int32_t* p, Int16 v) {
#if defined(QFT_HALVES)
  const Halves u{.i = v};
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), u.in[0]);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), u.in[1]);
#else
  std::memcpy(p, &v, sizeof(v));
#endif
}

// Loads `count` < 16 lanes, the others 0.
QFT_INLINE Float16 LoadPartial(const float* p, int64_t count) {
#if defined(__AVX512F__)
  return (Float16)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1u), p);
#else
  Float16 v = {};
  std::memcpy(&v, p, static_cast<size_t>(count) * sizeof(float));
  return v;
#endif
}
QFT_INLINE void StorePartial(float* p, Float16 v, int64_t count) {
#if defined(__AVX512F__)
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1u), (__m512)v);
#else
  std::memcpy(p, &v, static_cast<size_t>(count) * sizeof(float));
#endif
}

QFT_INLINE Float16 Broadcast(float x) {
#if defined(QFT_HALVES)
  Halves u;
  u.fp[0] = u.fp[1] = _mm256_set1_ps(x);
  return u.f;
#else
  return Float16{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
#endif
}
QFT_INLINE Int16 BroadcastInt(int32_t x) {
#if defined(QFT_HALVES)
  Halves u;
  u.in[0] = u.in[1] = _mm256_set1_epi32(x);
  return u.i;
#else
  return Int16{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
#endif
}

QFT_INLINE Int16 Bits(Float16 v) {
  return (Int16)v;
}
QFT_INLINE Float16 FromBits(Int16 v) {
  return (Float16)v;
}

// a * b + c with one rounding.
QFT_INLINE Float16 Fma(Float16 a, Float16 b, Float16 c) {
#if defined(__AVX512F__)
  return (Float16)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(QFT_HALVES)
  const Halves ua{a}, ub{b};
  Halves u{c};
  for (int h = 0; h < 2; ++h) u.fp[h] = _mm256_fmadd_ps(ua.fp[h], ub.fp[h], u.fp[h]);
  return u.f;
#else
  Float16 r;
  for (int i = 0; i < kLanes; ++i) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return r;
#endif
}

// Masks: all bits of a lane, or none.
QFT_INLINE Int16 Less(Float16 a, Float16 b) {
#if defined(QFT_HALVES)
  const Halves ua{a};
  Halves u{b};
  for (int h = 0; h < 2; ++h) u.fp[h] = _mm256_cmp_ps(ua.fp[h], u.fp[h], _CMP_LT_OQ);
  return u.i;
#else
  return a < b;
#endif
}
QFT_INLINE Int16 LessInt(Int16 a, Int16 b) {
#if defined(QFT_HALVES)
  const Halves ua{.i = a};
  Halves u{.i = b};
  for (int h = 0; h < 2; ++h) u.in[h] = _mm256_cmpgt_epi32(u.in[h], ua.in[h]);
  return u.i;
#else
  return a < b;
#endif
}
QFT_INLINE Int16 EqualInt(Int16 a, Int16 b) {
#if defined(QFT_HALVES)
  const Halves ua{.i = a};
  Halves u{.i = b};
  for (int h = 0; h < 2; ++h) u.in[h] = _mm256_cmpeq_epi32(u.in[h], ua.in[h]);
  return u.i;
#else
  return a == b;
#endif
}

QFT_INLINE Float16 Select(Int16 mask, Float16 yes, Float16 no) {
  return (Float16)((mask & (Int16)yes) | (~mask & (Int16)no));
}
// a > b ? a : b, so b where one is NaN; Min likewise.
QFT_INLINE Float16 Max(Float16 a, Float16 b) {
#if defined(__AVX512F__)
  return (Float16)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(QFT_HALVES)
  const Halves ua{a};
  Halves u{b};
  for (int h = 0; h < 2; ++h) u.fp[h] = _mm256_max_ps(ua.fp[h], u.fp[h]);
  return u.f;
#else
  return Select(a > b, a, b);
#endif
}
QFT_INLINE Float16 Min(Float16 a, Float16 b) {
#if defined(__AVX512F__)
  return (Float16)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(QFT_HALVES)
  const Halves ua{a};
  Halves u{b};
  for (int h = 0; h < 2; ++h) u.fp[h] = _mm256_min_ps(ua.fp[h], u.fp[h]);
  return u.f;
#else
  return Select(a < b, a, b);
#endif
}
QFT_INLINE Float16 Abs(Float16 v) {
  return FromBits(Bits(v) & BroadcastInt(0x7fffffff));
}
QFT_INLINE Int16 MaxInt(Int16 a, Int16 b) {
#if defined(__AVX512F__)
  return (Int16)_mm512_max_epi32((__m512i)a, (__m512i)b);
#elif defined(QFT_HALVES)
  const Halves ua{.i = a};
  Halves u{.i = b};
  for (int h = 0; h < 2; ++h) u.in[h] = _mm256_max_epi32(ua.in[h], u.in[h]);
  return u.i;
#else
  const Int16 mask = a > b;
  return (mask & a) | (~mask & b);
#endif
}
QFT_INLINE Int16 AbsInt(Int16 v) {
#if defined(__AVX512F__)
  return (Int16)_mm512_abs_epi32((__m512i)v);
#else
  return MaxInt(v, -v);
#endif
}

// To nearest, ties to even. |v| < 2^22.
QFT_INLINE Int16 RoundToInt(Float16 v) {
#if defined(__AVX512F__)
  return (Int16)_mm512_cvtps_epi32((__m512)v);
#elif defined(QFT_HALVES)
  Halves u{v};
  for (int h = 0; h < 2; ++h) u.in[h] = _mm256_cvtps_epi32(u.fp[h]);
  return u.i;
#else
  const Float16 magic = Broadcast(12582912.0f);  // 1.5 * 2^23
  return Bits(v + magic) - Bits(magic);
#endif
}
// Towards zero. |v| < 2^31.
QFT_INLINE Int16 TruncateToInt(Float16 v) {
#if defined(QFT_HALVES)
  Halves u{v};
  for (int h = 0; h < 2; ++h) u.in[h] = _mm256_cvttps_epi32(u.fp[h]);
  return u.i;
#else
  return __builtin_convertvector(v, Int16);
#endif
}
QFT_INLINE Float16 ToFloat(Int16 v) {
#if defined(QFT_HALVES)
  Halves u{.i = v};
  for (int h = 0; h < 2; ++h) u.fp[h] = _mm256_cvtepi32_ps(u.in[h]);
  return u.f;
#else
  return __builtin_convertvector(v, Float16);
#endif
}

// Codes are widened and narrowed by instructions of each set: left to the compiler they go through
// single lanes. Values to narrow fit 8 bits.
QFT_INLINE Int16 WidenCodes(Byte16 v) {
#if defined(__AVX512F__)
  return (Int16)_mm512_cvtepi8_epi32((__m128i)v);
#elif defined(QFT_HALVES)
  Halves u;
  u.in[0] = _mm256_cvtepi8_epi32((__m128i)v);
  u.in[1] = _mm256_cvtepi8_epi32(_mm_srli_si128((__m128i)v, 8));
  return u.i;
#else
  return __builtin_convertvector(v, Int16);
#endif
}
QFT_INLINE Byte16 NarrowCodes(Int16 v) {
#if defined(__AVX512F__)
  return (Byte16)_mm512_cvtepi32_epi8((__m512i)v);
#elif defined(QFT_HALVES)
  const Halves u{.i = v};
  // Packing works within halves of 128 bits: put its four parts back in order.
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(u.in[0], u.in[1]), 0xd8);
  return (Byte16)_mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
#else
  return __builtin_convertvector(v, Byte16);
#endif
}

QFT_INLINE Int16 LoadCodes(const int8_t* p) {
  Byte16 v;
  std::memcpy(&v, p, sizeof(v));
  return WidenCodes(v);
}
QFT_INLINE void StoreCodes(int8_t* p, Int16 v) {
  const Byte16 bytes = NarrowCodes(v);
  std::memcpy(p, &bytes, sizeof(bytes));
}
QFT_INLINE Int16 LoadCodesPartial(const int8_t* p, int64_t count) {
#if defined(__AVX512F__)
  return WidenCodes((Byte16)_mm_maskz_loadu_epi8(static_cast<__mmask16>((1u << count) - 1u), p));
#else
  Byte16 v = {};
  std::memcpy(&v, p, static_cast<size_t>(count));
  return WidenCodes(v);
#endif
}
QFT_INLINE void StoreCodesPartial(int8_t* p, Int16 v, int64_t count) {
#if defined(__AVX512F__)
  _mm_mask_storeu_epi8(p, static_cast<__mmask16>((1u << count) - 1u), (__m128i)NarrowCodes(v));
#else
  const Byte16 bytes = NarrowCodes(v);
  std::memcpy(p, &bytes, static_cast<size_t>(count));
#endif
}

// ((0+8)+(4+12)) + ...: halves folded onto each other.
// bf16, to nearest, ties to even; a NaN may become anything.
QFT_INLINE void StoreHalves(uint16_t* p, Float16 v) {
  typedef uint16_t Half16 __attribute__((vector_size(32)));
  const Int16 bits = Bits(v);
  const Int16 even = (bits >> 16) & BroadcastInt(1);
  const Half16 rounded =
      __builtin_convertvector((bits + BroadcastInt(0x7fff) + even) >> 16, Half16);
  std::memcpy(p, &rounded, sizeof(rounded));
}
QFT_INLINE void StoreHalvesPartial(uint16_t* p, Float16 v, int64_t count) {
  uint16_t all[kLanes];
  StoreHalves(all, v);
  std::memcpy(p, all, static_cast<size_t>(count) * sizeof(uint16_t));
}
QFT_INLINE Float16 LoadHalves(const uint16_t* p) {
  typedef uint16_t Half16 __attribute__((vector_size(32)));
  Half16 v;
  std::memcpy(&v, p, sizeof(v));
  return FromBits(__builtin_convertvector(v, Int16) << 16);
}
QFT_INLINE Float16 LoadHalvesPartial(const uint16_t* p, int64_t count) {
  uint16_t all[kLanes] = {};
  std::memcpy(all, p, static_cast<size_t>(count) * sizeof(uint16_t));
  return LoadHalves(all);
}

QFT_INLINE float Sum(Float16 v) {
  float s[8];
  for (int i = 0; i < 8; ++i) s[i] = v[i] + v[i + 8];
  for (int i = 0; i < 4; ++i) s[i] = s[i] + s[i + 4];
  return (s[0] + s[2]) + (s[1] + s[3]);
}
QFT_INLINE float MaxLane(Float16 v) {
  float m = v[0];
  for (int i = 1; i < kLanes; ++i) m = v[i] > m ? v[i] : m;
  return m;
}
QFT_INLINE int32_t MaxLaneInt(Int16 v) {
  int32_t m = v[0];
  for (int i = 1; i < kLanes; ++i) m = v[i] > m ? v[i] : m;
  return m;
}

}  // namespace qft::QFT_ISA
