// What the kernels share: vectors of eight elements of a row in fp32 registers, sums over a block
// in a fixed order, and launching.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <type_traits>

#include "kernels/ops.h"

namespace qft::cuda {

using BFloat16 = __nv_bfloat16;

// Threads of a block that works on one row; elements of a row a thread holds at once.
inline constexpr int kRowThreads = 256;
inline constexpr int kVector = 8;
inline constexpr unsigned kFullWarp = 0xffffffffu;
// 1.5 * 2^23: in a number beside it the low bits are the nearest integer, sign and all; conversions
// are slow.
inline constexpr float kIntegerFloat = 12582912.0f;

__host__ __device__ inline int64_t CeilDivide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}
__host__ __device__ inline int64_t RoundUp(int64_t a, int64_t b) {
  return CeilDivide(a, b) * b;
}
__host__ __device__ inline int64_t Smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}

__device__ inline float ToFloat(float x) {
  return x;
}
__device__ inline float ToFloat(BFloat16 x) {
  return __bfloat162float(x);
}
template <typename T>
__device__ inline T FromFloat(float x);
template <>
__device__ inline float FromFloat<float>(float x) {
  return x;
}
template <>
__device__ inline BFloat16 FromFloat<BFloat16>(float x) {
  return __float2bfloat16_rn(x);
}

// Whether eight elements from `p` on can be moved as vectors.
template <typename T>
__device__ inline bool Aligned8(const T* p) {
  constexpr uintptr_t kBytes = sizeof(T) * kVector < 16 ? sizeof(T) * kVector : 16;
  return reinterpret_cast<uintptr_t>(p) % kBytes == 0;
}

// Eight bf16 numbers, in order.
__device__ inline void UnpackBFloat16(const uint4& words, float (&v)[kVector]) {
  const uint32_t w[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    v[2 * i] = __uint_as_float(w[i] << 16);
    v[2 * i + 1] = __uint_as_float(w[i] & 0xffff0000u);
  }
}

// row[c .. c + 8) of `cols`, zeros behind the end.
__device__ inline void Load8(const float* row, int64_t c, int64_t cols, float (&v)[kVector]) {
  const float* p = row + c;
  if (c + kVector <= cols && Aligned8(p)) {
    const float4 low = *reinterpret_cast<const float4*>(p);
    const float4 high = *reinterpret_cast<const float4*>(p + 4);
    v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
    v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
    return;
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) v[i] = c + i < cols ? p[i] : 0.0f;
}
__device__ inline void Load8(const BFloat16* row, int64_t c, int64_t cols, float (&v)[kVector]) {
  const BFloat16* p = row + c;
  if (c + kVector <= cols && Aligned8(p)) {
    return UnpackBFloat16(*reinterpret_cast<const uint4*>(p), v);
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) v[i] = c + i < cols ? __bfloat162float(p[i]) : 0.0f;
}
// Four codes as numbers: a code and 128 beside 2^23.
__device__ inline void CodesToFloats4(uint32_t codes, float* v) {
  const uint32_t raised = codes ^ 0x80808080u;
#pragma unroll
  for (uint32_t j = 0; j < 4; ++j) {
    v[j] = __uint_as_float(__byte_perm(raised, 0x4b000000u, 0x7440u + j)) - 8388736.0f;
  }
}
__device__ inline void Load8(const int8_t* row, int64_t c, int64_t cols, float (&v)[kVector]) {
  const int8_t* p = row + c;
  if (c + kVector <= cols && Aligned8(p)) {
    const uint2 words = *reinterpret_cast<const uint2*>(p);
    CodesToFloats4(words.x, v);
    CodesToFloats4(words.y, v + 4);
    return;
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) v[i] = c + i < cols ? static_cast<float>(p[i]) : 0.0f;
}

// Whether each eight elements of each row of `cols` from `p` on can be moved as vectors.
template <typename T>
inline bool WholeVectors(const T* p, int64_t cols) {
  return cols % kVector == 0 && reinterpret_cast<uintptr_t>(p) % (sizeof(T) * kVector) == 0;
}

// Load8; kWhole promises WholeVectors of the matrix, and no branch stands between loads.
template <bool kWhole, typename T>
__device__ inline void LoadVector8(const T* row, int64_t c, int64_t cols, float (&v)[kVector]) {
  if constexpr (kWhole) {
    Load8(static_cast<const T*>(__builtin_assume_aligned(row + c, sizeof(T) * kVector)), 0, kVector,
          v);
  } else {
    Load8(row, c, cols, v);
  }
}

// Calls f(std::true_type()) or f(std::false_type()).
template <typename F>
void WithFlag(bool flag, F f) {
  flag ? f(std::true_type()) : f(std::false_type());
}

__device__ inline void Store8(float* row, int64_t c, int64_t cols, const float (&v)[kVector]) {
  float* p = row + c;
  if (c + kVector <= cols && Aligned8(p)) {
    *reinterpret_cast<float4*>(p) = make_float4(v[0], v[1], v[2], v[3]);
    *reinterpret_cast<float4*>(p + 4) = make_float4(v[4], v[5], v[6], v[7]);
    return;
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    if (c + i < cols) p[i] = v[i];
  }
}
__device__ inline uint4 PackBFloat16(const float (&v)[kVector]) {
  uint32_t w[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
    w[i] = reinterpret_cast<const uint32_t&>(pair);
  }
  return make_uint4(w[0], w[1], w[2], w[3]);
}
__device__ inline void Store8(BFloat16* row, int64_t c, int64_t cols, const float (&v)[kVector]) {
  BFloat16* p = row + c;
  if (c + kVector <= cols && Aligned8(p)) {
    *reinterpret_cast<uint4*>(p) = PackBFloat16(v);
    return;
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    if (c + i < cols) p[i] = __float2bfloat16_rn(v[i]);
  }
}
__device__ inline void Store8(int8_t* row, int64_t c, int64_t cols, const int (&v)[kVector]) {
  int8_t* p = row + c;
  if (c + kVector <= cols && Aligned8(p)) {
    int2 words{0, 0};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      words.x |= (v[i] & 0xff) << (8 * i);
      words.y |= (v[4 + i] & 0xff) << (8 * i);
    }
    *reinterpret_cast<int2*>(p) = words;
    return;
  }
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    if (c + i < cols) p[i] = static_cast<int8_t>(v[i]);
  }
}

// Store8; kWhole promises WholeVectors of the matrix. The compiler may cut an assignment of four
// words to pieces, but not this store.
template <bool kWhole, typename T>
__device__ inline void StoreVector8(T* row, int64_t c, int64_t cols, const float (&v)[kVector]) {
  if constexpr (kWhole && std::is_same_v<T, BFloat16>) {
    __stcs(reinterpret_cast<uint4*>(row + c), PackBFloat16(v));
  } else {
    Store8(row, c, cols, v);
  }
}

struct AddValues {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct MaxOfValues {
  template <typename T>
  __device__ T operator()(T a, T b) const {
    return a > b ? a : b;
  }
};

template <typename T, typename Op>
__device__ inline T WarpReduce(T value, Op op) {
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    value = op(value, __shfl_xor_sync(kFullWarp, value, offset));
  }
  return value;
}

// Largest of all threads' numbers, none of them negative; every thread gets it. Another barrier
// must stand before a second call, which nothing else keeps off what the first still reads.
template <int kMostWarps = 32>
__device__ inline int32_t LargestOfBlock(int32_t value) {
  __shared__ int32_t partial[kMostWarps];
  const int warps = static_cast<int>(blockDim.x) / 32;
  const int lane = threadIdx.x % 32;
  value = __reduce_max_sync(kFullWarp, value);
  if (lane == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  return __reduce_max_sync(kFullWarp, lane < warps ? partial[lane] : 0);
}

// Over all threads of the block (a multiple of 32, at most 1,024), in an order that depends on
// their number alone; every thread gets the result. Ends with a barrier, so that it can be called
// again.
template <typename T, typename Op>
__device__ inline T BlockReduce(T value, Op op) {
  __shared__ T partial[32];
  value = WarpReduce(value, op);
  const int warps = static_cast<int>(blockDim.x) / 32;
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  T result = partial[0];
  for (int i = 1; i < warps; ++i) result = op(result, partial[i]);
  __syncthreads();
  return result;
}

// LargestOfBlock and BlockReduce for a loop that calls one of them again and again; `turn` counts
// the calls, which take two places of shared memory in turn, so that one barrier each is enough.
__device__ inline int32_t LargestInTurn(int32_t value, int turn) {
  __shared__ int32_t partial[2][32];
  const int warps = static_cast<int>(blockDim.x) / 32;
  const int lane = threadIdx.x % 32;
  value = __reduce_max_sync(kFullWarp, value);
  if (lane == 0) partial[turn % 2][threadIdx.x / 32] = value;
  __syncthreads();
  return __reduce_max_sync(kFullWarp, lane < warps ? partial[turn % 2][lane] : 0);
}
template <typename T>
__device__ inline T SumInTurn(T value, int turn) {
  __shared__ T partial[2][32];
  const int warps = static_cast<int>(blockDim.x) / 32;
  const int lane = threadIdx.x % 32;
  value = WarpReduce(value, AddValues());
  if (lane == 0) partial[turn % 2][threadIdx.x / 32] = value;
  __syncthreads();
  return WarpReduce(lane < warps ? partial[turn % 2][lane] : T{0}, AddValues());
}

// How a row whose largest magnitude is known becomes codes, the rule of every engine:
// code = round(x * inverse), inverse = top / absmax and scale = absmax / top, each one fp32
// division. `zero`: all codes are 0, because the row is zero, or too small for `inverse` to be
// finite (scale 0), or not finite (scale NaN).
struct RowScale {
  float scale;
  float inverse;
  bool zero;
};

__device__ inline RowScale MakeRowScale(int32_t absmax_bits, float top) {
  const float absmax = __int_as_float(absmax_bits);
  const float inverse = __fdiv_rn(top, absmax);
  if (absmax_bits >= 0x7f800000) return {__int_as_float(0x7fc00000), 0.0f, true};
  if (!(inverse <= 3.402823466e+38f)) return {0.0f, 0.0f, true};
  return {__fdiv_rn(absmax, top), inverse, false};
}

// Bit pattern of |x|: orders magnitudes, any NaN above infinity.
__device__ inline int32_t MagnitudeBits(float x) {
  return __float_as_int(x) & 0x7fffffff;
}

// The larger magnitude; a NaN that is positive where one is NaN, so that it orders above infinity.
__device__ inline float LargerMagnitude(float a, float b) {
  float larger;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(larger) : "f"(fabsf(a)), "f"(fabsf(b)));
  return larger;
}

__device__ inline int RoundToInt(float x) {
  return __float2int_rn(x);
}

// floor(x + random / 65536), x first rounded to a multiple of 1/65536. |x| at most 127 and one ulp.
__device__ inline int RoundStochastic16(float x, uint32_t random) {
  return (__float2int_rn(x * 65536.0f) + static_cast<int>(random)) >> 16;
}

// The lowest byte of each word, in order.
__device__ inline uint2 LowBytes(const uint32_t (&w)[kVector]) {
  uint32_t pairs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) pairs[i] = __byte_perm(w[2 * i], w[2 * i + 1], 0x0040);
  return make_uint2(__byte_perm(pairs[0], pairs[1], 0x5410),
                    __byte_perm(pairs[2], pairs[3], 0x5410));
}

// floor(x + random / 65536) of eight numbers given in 65536ths, rounded to whole ones first; packed
// in order, a Philox block's numbers low half first. |x| at most 127; what is no number becomes 0.
__device__ inline uint2 PackStochastic8(const float (&x)[kVector], const PhiloxBlock& random) {
  uint32_t sums[kVector];  // codes in bits 16 .. 24
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    sums[i] = __dp2a_lo(random.word[i / 2], i % 2 == 0 ? 0x0001u : 0x0100u,
                        static_cast<uint32_t>(__float2int_rn(x[i])));
  }
  uint32_t pairs[4];
#pragma unroll
  for (int i = 0; i < 4; ++i) pairs[i] = __byte_perm(sums[2 * i], sums[2 * i + 1], 0x0062);
  return make_uint2(__byte_perm(pairs[0], pairs[1], 0x5410),
                    __byte_perm(pairs[2], pairs[3], 0x5410));
}

// Eight codes packed in order: RoundStochastic16 with the numbers of a Philox block, low half
// first, or RoundToInt. What is no number becomes code 0.
template <bool kStochastic>
__device__ inline uint2 PackCodes8(const float (&x)[kVector], const PhiloxBlock& random) {
  if constexpr (kStochastic) {
    float scaled[kVector];
#pragma unroll
    for (int i = 0; i < kVector; ++i) scaled[i] = x[i] * 65536.0f;
    return PackStochastic8(scaled, random);
  } else {
    uint32_t codes[kVector];
#pragma unroll
    for (int i = 0; i < kVector; ++i) codes[i] = static_cast<uint32_t>(__float2int_rn(x[i]));
    return LowBytes(codes);
  }
}

// Packed codes to row[c .. c + 8) of `cols`. kWhole promises WholeVectors of the matrix.
template <bool kWhole = false>
__device__ inline void StoreCodes8(int8_t* row, int64_t c, int64_t cols, uint2 codes) {
  int8_t* p = row + c;
  if constexpr (!kWhole) {
    if (c + kVector > cols || !Aligned8(p)) {
#pragma unroll
      for (int i = 0; i < kVector; ++i) {
        const uint32_t word = i < 4 ? codes.x : codes.y;
        if (c + i < cols) p[i] = static_cast<int8_t>(word >> (8 * (i % 4)));
      }
      return;
    }
  }
  *reinterpret_cast<uint2*>(p) = codes;
}

// Byte j of word i becomes byte i of word j.
__device__ inline void Transpose4(uint32_t (&w)[4]) {
  const uint32_t a = __byte_perm(w[0], w[1], 0x5140);
  const uint32_t b = __byte_perm(w[2], w[3], 0x5140);
  const uint32_t c = __byte_perm(w[0], w[1], 0x7362);
  const uint32_t d = __byte_perm(w[2], w[3], 0x7362);
  w[0] = __byte_perm(a, b, 0x5410);
  w[1] = __byte_perm(a, b, 0x7632);
  w[2] = __byte_perm(c, d, 0x5410);
  w[3] = __byte_perm(c, d, 0x7632);
}

// sign(x) * (floor(|x|) + [random < fraction of |x| * 2^32]). |x| < 2^31, not NaN.
__device__ inline int RoundStochastic32(float x, uint32_t random) {
  const float magnitude = fabsf(x);
  const int whole = __float2int_rz(magnitude);
  const float fraction = magnitude - static_cast<float>(whole);
  const uint32_t threshold = __float2uint_rz(fraction * 4294967296.0f);
  const int rounded = whole + (random < threshold ? 1 : 0);
  return x < 0.0f ? -rounded : rounded;
}

}  // namespace qft::cuda
