// Sixteen columns of a steady row of codes (lion_steady.cuh) in registers. What bounds these
// updates is instructions, so they are counted.
#pragma once

#include "kernels/cuda/lion_row.cuh"
#include "kernels/cuda/philox.cuh"

namespace qft::cuda {

inline constexpr int kWords = kWide / 4;  // of codes
inline constexpr uint32_t kOnes = 0x01010101u;
inline constexpr uint32_t kSignBits = 0x80808080u;

struct LionKeys {
  RoundKeys weight;
  RoundKeys momentum;
};

struct SteadyRow {
  float beta1, rest1, beta2, rest2;  // of Lion
  uint32_t threshold;                // an update is a step where its random bits are below
  float move;                        // magnitude of an update, in steps
  PhiloxRow weight_random;
  PhiloxRow momentum_random;
};

// Code i of a word. The product lands in the low bits.
__device__ inline float CodeValue(uint32_t word, int i) {
  const int bits = __dp4a(static_cast<int>(word), 1 << (8 * i), __float_as_int(kIntegerFloat));
  return __int_as_float(bits) - kIntegerFloat;
}

// Bytes a and b of two words and the signs of bytes: __byte_perm does not do signs.
__device__ inline uint32_t PermuteSigns(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(selector));
  return result;
}

// Bytes of ones where the number is negative.
__device__ inline uint32_t SignMask(const float (&u)[4]) {
  const uint32_t low = PermuteSigns(__float_as_uint(u[0]), __float_as_uint(u[1]), 0x00fb);
  const uint32_t high = PermuteSigns(__float_as_uint(u[2]), __float_as_uint(u[3]), 0x00fb);
  return __byte_perm(low, high, 0x5410);
}

__device__ inline uint32_t Word(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// What a thread's updates of a row did; changed and saturated only if the row does not grow.
struct RowCounts {
  uint32_t moved = 0;
  uint32_t changed = 0;
  uint32_t saturated = 0;
  float nonzero = 0;     // updates other than 0
  bool outside = false;  // steps that do not fit the grid
};

// Sets `bit` of `nonzero` unless `u` is 0 (or no number), and then of `moving` if its random bits
// say so: two compares and two instructions under their predicates, which is not what a compiler
// makes.
__device__ inline void Decide(float u, uint32_t random, uint32_t threshold, uint32_t bit,
                              uint32_t* moving, float* nonzero) {
  asm("{\n"
      ".reg .pred some, moves;\n"
      "setp.gt.f32 some, %2, 0f00000000;\n"
      "@some add.f32 %1, %1, 0f3F800000;\n"
      "setp.lt.and.u32 moves, %3, %4, some;\n"
      "@moves or.b32 %0, %0, %5;\n"
      "}"
      : "+r"(*moving), "+f"(*nonzero)
      : "f"(fabsf(u)), "r"(random), "r"(threshold), "r"(bit));
}

// Bit 7 of a byte where the code's magnitude is 127 or more, and for -126 and 126 perhaps: those
// are looked at one by one.
__device__ inline uint32_t NearEdge(uint32_t codes) {
  return (codes ^ PermuteSigns(codes, 0, 0xba98)) + 2 * kOnes;
}

// 16 columns in work: codes and residuals before and after they move, and what decides how.
struct Columns {
  uint32_t codes[kWords];
  uint32_t rests[kWords];  // 24 + r in each byte, so that a step up or down stays in its byte
  uint32_t edge;           // NearEdge of the codes
  float next[kWide];       // momentum
  float largest;           // magnitude of it
};

__device__ inline void LoadRests(uint2 plane, uint32_t (&rests)[kWords]) {
  constexpr uint32_t kLow = 0x0f * kOnes;
  constexpr uint32_t kBias = 24 * kOnes;
  rests[0] = (plane.x & kLow) ^ kBias;
  rests[1] = (plane.y & kLow) ^ kBias;
  rests[2] = (plane.x >> 4 & kLow) ^ kBias;
  rests[3] = (plane.y >> 4 & kLow) ^ kBias;
}

__device__ inline uint2 PackRests(const uint32_t (&rests)[kWords]) {
  constexpr uint32_t kLow = 0x0f * kOnes;
  uint32_t nibbles[kWords];
#pragma unroll
  for (int k = 0; k < kWords; ++k) nibbles[k] = (rests[k] & kLow) ^ 8 * kOnes;
  return make_uint2(nibbles[0] | nibbles[2] << 4, nibbles[1] | nibbles[3] << 4);
}

// Moves word k up by a step where a byte of `up` is one, down where one of `down` is; returns ones
// where codes change. What leaves its byte is caught by NearEdge.
template <bool kFine>
__device__ inline uint32_t Move4(uint32_t up, uint32_t down, int k, Columns* columns) {
  uint32_t code = columns->codes[k] ^ kSignBits;
  uint32_t changed = up | down;
  if constexpr (kFine) {
    columns->rests[k] = columns->rests[k] + up - down;
    const uint32_t carries = columns->rests[k] >> 4;  // 1: none, 2: a code up, 0: a code down
    changed = ~carries & kOnes;
    code = code + (carries & 3 * kOnes) - kOnes;
  } else {
    code = code + up - down;
  }
  columns->codes[k] = code ^ kSignBits;
  columns->edge |= NearEdge(columns->codes[k]);
  return changed;
}

// Renews the momentum of 16 columns and moves their codes.
template <bool kFine>
__device__ inline void Move16(const LionKeys& keys, const SteadyRow& row, float momentum_grid,
                              float gradient_grid, const uint4& momentum, const uint4& gradient,
                              uint32_t weight_block, Columns* columns, RowCounts* counts) {
  columns->edge = 0;
  columns->largest = 0.0f;
  uint32_t moved = 0;
  uint32_t changed = 0;
#pragma unroll
  for (int k = 0; k < kWords; ++k) {
    const PhiloxBlock random =
        PhiloxOf(keys.weight, row.weight_random, weight_block + static_cast<uint32_t>(k));
    float u[4];
    uint32_t moving = 0;
    float some = 0.0f;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float m = momentum_grid * CodeValue(Word(momentum, k), i);
      const float g = gradient_grid * CodeValue(Word(gradient, k), i);
      u[i] = row.beta1 * m + row.rest1 * g;
      Decide(u[i], random.word[i], row.threshold, 1u << (8 * i), &moving, &some);
      float& next = columns->next[4 * k + i];
      next = row.beta2 * m + row.rest2 * g;
      columns->largest = LargerMagnitude(columns->largest, next);
    }
    const uint32_t rising = SignMask(u);
    changed += Move4<kFine>(moving & rising, moving & ~rising, k, columns);
    moved += moving;
    counts->nonzero += some;
  }
  counts->moved = __dp4a(moved, kOnes, counts->moved);
  if (kFine) counts->changed = __dp4a(changed, kOnes, counts->changed);
}

// The scale of a block of momentum and its inverse, like MakeRowScale's, in one division: the first
// of the block's eight threads, neighbours in the warp, makes the scale, which it alone needs, the
// others the inverse.
__device__ inline RowScale MakeBlockScale(float largest) {
  constexpr float kTop = 127.0f;
  constexpr int kThreads = kMomentumBlock / kWide;
  const bool first = threadIdx.x % kThreads == 0;
  const float quotient = __fdiv_rn(first ? largest : kTop, first ? kTop : largest);
  const float inverse = __shfl_sync(kFullWarp, quotient, 1, kThreads);
  if (__float_as_int(largest) >= 0x7f800000) return {__int_as_float(0x7fc00000), 0.0f, true};
  if (!(inverse <= 3.402823466e+38f)) return {0.0f, 0.0f, true};
  return {quotient, inverse, false};
}

// Codes of 16 columns of momentum. Where the scale is zero its inverse is too, and what is no
// number converts to 0.
template <bool kTiny>
__device__ inline uint4 EncodeMomentum16(const LionKeys& keys, const SteadyRow& row, float inverse,
                                         uint32_t momentum_block, const float (&next)[kWide]) {
  uint2 words[kWide / kVector];
#pragma unroll
  for (int k = 0; k < kWide / kVector; ++k) {
    const PhiloxBlock random =
        PhiloxOf(keys.momentum, row.momentum_random, momentum_block + static_cast<uint32_t>(k));
    float scaled[kVector];
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      // In 65536ths: a power of two changes no rounding, as long as the factor is finite.
      const float value = next[kVector * k + i];
      scaled[i] = kTiny ? value * inverse * 65536.0f : value * (inverse * 65536.0f);
    }
    words[k] = PackStochastic8(scaled, random);
  }
  return make_uint4(words[0].x, words[0].y, words[1].x, words[1].y);
}

}  // namespace qft::cuda
