// Functions shared by the layer kernels, with the same bits on every instruction set (simd.h).
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/simd.h"

namespace qft::QFT_ISA {

inline constexpr float kLog2E = 1.44269504f;
inline constexpr float kLowestFloat = -3.40282347e38f;

QFT_INLINE int64_t Smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
QFT_INLINE int64_t CeilDivide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

// a where a > b, else b: a NaN in `a` is dropped, one in `b` stays.
QFT_INLINE Float16 MaxOf(Float16 a, Float16 b) {
#if defined(__AVX512F__)
  return (Float16)_mm512_max_ps((__m512)a, (__m512)b);
#else
  return Select(a > b, a, b);
#endif
}

// 2^fraction * 2^exponent for fraction in [-0.5, 0.5], where `shifted` = 1.5 * 2^23 + exponent.
// Exponent -127 gives 0; NaN stays NaN.
QFT_INLINE Float16 ScaledExp2(Float16 fraction, Float16 shifted) {
  Float16 p = Broadcast(1.535336188319500e-4f);
  p = Fma(p, fraction, Broadcast(1.339887440266574e-3f));
  p = Fma(p, fraction, Broadcast(9.618437357674640e-3f));
  p = Fma(p, fraction, Broadcast(5.550332471162809e-2f));
  p = Fma(p, fraction, Broadcast(2.402264791363012e-1f));
  p = Fma(p, fraction, Broadcast(6.931472028550421e-1f));
  p = Fma(p, fraction, Broadcast(1.0f));
  return p * (Float16)(((Uint16)shifted << 23) + (127u << 23));
}

// 2^x for x <= 127; 0 below -126.5, NaN stays NaN.
QFT_INLINE Float16 Exp2(Float16 x) {
  const Float16 magic = Broadcast(12582912.0f);
  const Float16 clamped = MaxOf(Broadcast(-127.0f), x);
  const Float16 shifted = clamped + magic;
  return ScaledExp2(clamped - (shifted - magic), shifted);
}

// e^x for x <= 88; 0 below -87.7, NaN stays NaN.
QFT_INLINE Float16 ExpBounded(Float16 x) {
  const Float16 magic = Broadcast(12582912.0f);
  const Float16 clamped = MaxOf(Broadcast(-88.0f), x);
  const Float16 shifted = Fma(clamped, Broadcast(kLog2E), magic);
  return ScaledExp2(Fma(clamped, Broadcast(kLog2E), magic - shifted), shifted);
}

QFT_INLINE float Dot(const float* a, const float* b, int64_t count) {
  Float16 sum = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sum = Fma(Load(a + i), Load(b + i), sum);
  if (i < count) sum = Fma(LoadPartial(a + i, count - i), LoadPartial(b + i, count - i), sum);
  return Sum(sum);
}

// Natural logarithm to about 1e-15; a fixed sequence of operations, unlike libm's, which differs
// between processors. Of 0: -infinity; of what is negative or NaN: NaN.
QFT_INLINE double LogFixed(double x) {
  if (!(x > 0.0)) return x == 0.0 ? -__builtin_inf() : __builtin_nan("");
  uint64_t bits;
  std::memcpy(&bits, &x, sizeof(bits));
  if (bits == 0x7ff0000000000000u) return x;
  // The mantissa is taken from [sqrt(1/2), sqrt(2)).
  const int64_t exponent = static_cast<int64_t>(bits - 0x3fe6a09e667f3bcdu) >> 52;
  bits -= static_cast<uint64_t>(exponent) << 52;
  double mantissa;
  std::memcpy(&mantissa, &bits, sizeof(mantissa));
  const double s = (mantissa - 1.0) / (mantissa + 1.0);
  const double s2 = s * s;
  double p = 1.0 / 21.0;
  for (int n = 19; n >= 1; n -= 2) p = p * s2 + 1.0 / n;
  return static_cast<double>(exponent) * 0.693147180559945309417 + 2.0 * s * p;
}

// destination[j][i] = source[i][j] for a block of 16 x 16.
QFT_INLINE void Transpose16(const float* source, int64_t source_stride, float* destination,
                            int64_t destination_stride) {
#if defined(__AVX512F__)
  __m512 a[16], b[16];
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) a[i] = _mm512_loadu_ps(source + i * source_stride);
#pragma GCC unroll 8
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_ps(a[i], a[i + 1]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    a[i] = _mm512_shuffle_ps(b[i], b[i + 2], 0x44);
    a[i + 1] = _mm512_shuffle_ps(b[i], b[i + 2], 0xee);
    a[i + 2] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0x44);
    a[i + 3] = _mm512_shuffle_ps(b[i + 1], b[i + 3], 0xee);
  }
  // a[4 g + c] holds column c of each 128-bit lane for rows 4 g .. 4 g + 3.
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    b[c] = _mm512_shuffle_f32x4(a[c], a[c + 4], 0x88);
    b[c + 4] = _mm512_shuffle_f32x4(a[c], a[c + 4], 0xdd);
    b[c + 8] = _mm512_shuffle_f32x4(a[c + 8], a[c + 12], 0x88);
    b[c + 12] = _mm512_shuffle_f32x4(a[c + 8], a[c + 12], 0xdd);
  }
#pragma GCC unroll 4
  for (int c = 0; c < 4; ++c) {
    float* row = destination + c * destination_stride;
    _mm512_storeu_ps(row, _mm512_shuffle_f32x4(b[c], b[c + 8], 0x88));
    _mm512_storeu_ps(row + 4 * destination_stride, _mm512_shuffle_f32x4(b[c + 4], b[c + 12], 0x88));
    _mm512_storeu_ps(row + 8 * destination_stride, _mm512_shuffle_f32x4(b[c], b[c + 8], 0xdd));
    _mm512_storeu_ps(row + 12 * destination_stride,
                     _mm512_shuffle_f32x4(b[c + 4], b[c + 12], 0xdd));
  }
#else
  for (int j = 0; j < 16; ++j) {
    for (int i = 0; i < 16; ++i) {
      destination[j * destination_stride + i] = source[i * source_stride + j];
    }
  }
#endif
}

}  // namespace qft::QFT_ISA
