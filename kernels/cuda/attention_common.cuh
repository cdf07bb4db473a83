// What all attention kernels take, and what a query sees.
#pragma once

#include <limits>

#include "kernels/cuda/attention_device.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/ops.h"

namespace qft::cuda {

inline constexpr char kAttentionUnsupported[] = "attention: head_dim must be even and at most 256";
inline constexpr char kAttentionDTypeUnsupported[] = "attention: matrices must be fp32 or bf16";
inline constexpr float kLog2E = 1.44269504088896341f;
inline constexpr float kLn2 = 0.69314718055994531f;
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The memory of an fp32 or bf16 matrix.
struct Elements {
  void* data = nullptr;
  bool bf16 = false;
};

// Queries are rows 0 .. tokens - 1 of q; row t is at position past + t and sees the keys (rows of k
// and v) from document_start[t] up to its position.
// q, out, dout, dq [tokens, heads * head_dim]; k, v, dk, dv [.., kv_heads * head_dim];
// log_sum_exp, delta [heads, tokens].
struct AttentionArguments {
  int tokens = 0;
  int past = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  float scale = 0;                          // multiplies q.k
  float scale_log2 = 0;                     // scale * log2(e)
  const int32_t* document_start = nullptr;  // nullptr: all 0
  Elements q, k, v, out;
  float* log_sum_exp = nullptr;  // nullptr: not wanted (forward alone)
  Elements dout, dq, dk, dv;
  float* delta = nullptr;  // sum over a head's features of dout * out

  __device__ int Start(int query) const {
    return document_start == nullptr ? 0 : document_start[query];
  }
  __device__ int KvHead(int head) const { return head / (heads / kv_heads); }
  __device__ int64_t QueryOffset(int query, int head) const {
    return (static_cast<int64_t>(query) * heads + head) * head_dim;
  }
  __device__ int64_t KeyOffset(int key, int kv_head) const {
    return (static_cast<int64_t>(key) * kv_heads + kv_head) * head_dim;
  }
  __device__ int64_t StatisticOffset(int query, int head) const {
    return static_cast<int64_t>(head) * tokens + query;
  }
};

// The first query behind all that see a key of [first_key, last_key]: document_start does not
// decrease, so it is the first whose document starts behind last_key. All lanes of a warp, which
// look at 32 queries at a time.
__device__ inline int QueryEnd(const AttentionArguments& a, int last_key) {
  int low = last_key;  // sees last_key
  int high = a.tokens;
  while (high - low > 1) {
    const int step = (high - low + 31) / 32;
    const int query = low + step * (static_cast<int>(threadIdx.x) % 32 + 1);
    const bool sees = query < high && a.Start(query) <= last_key;
    low += step * __popc(__ballot_sync(kFullWarp, sees));
    high = min(high, low + step);
  }
  return high;
}

// Softmax of a row as far as its keys have come. Scores are in log2 units.
struct RowState {
  float max = -kInfinity;
  float sum = 0.0f;

  // What to subtract from scores: the maximum, or 0 while the row has seen nothing.
  __device__ float Base() const { return max == -kInfinity ? 0.0f : max; }
  // Takes in the maximum of further scores; returns the factor for what was summed before.
  __device__ float Raise(float score) {
    const float before = max;
    max = fmaxf(max, score);
    const float factor = exp2f(before - Base());
    sum *= factor;
    return factor;
  }
  __device__ float LogSumExp() const { return (max + log2f(sum)) * kLn2; }
};

__device__ inline float2 LoadPair(const float* p) {
  return *reinterpret_cast<const float2*>(p);
}
__device__ inline float2 LoadPair(const BFloat16* p) {
  return __bfloat1622float2(*reinterpret_cast<const __nv_bfloat162*>(p));
}

// p[0 .. 8) of `count`, zeros behind. Rows whose head_dim is no multiple of 8 begin wherever a pair
// may.
template <typename T>
__device__ inline void LoadElements(const T* p, int count, float (&v)[kVector]) {
  if (count >= kVector && Aligned8(p)) return Load8(p, 0, kVector, v);
#pragma unroll
  for (int i = 0; i < kVector; i += 2) {
    const float2 pair = i < count ? LoadPair(p + i) : make_float2(0.0f, 0.0f);
    v[i] = pair.x;
    v[i + 1] = pair.y;
  }
}

// Eight elements from `offset` on, zeros behind the first `count`; both are even.
__device__ inline void LoadElements(const Elements& x, int64_t offset, int count,
                                    float (&v)[kVector]) {
  if (x.bf16) {
    LoadElements(static_cast<const BFloat16*>(x.data) + offset, count, v);
  } else {
    LoadElements(static_cast<const float*>(x.data) + offset, count, v);
  }
}

// Two elements from `offset` on, an even one.
__device__ inline void StorePair(const Elements& x, int64_t offset, float first, float second) {
  if (x.bf16) {
    *reinterpret_cast<__nv_bfloat162*>(static_cast<BFloat16*>(x.data) + offset) =
        __floats2bfloat162_rn(first, second);
  } else {
    *reinterpret_cast<float2*>(static_cast<float*>(x.data) + offset) = make_float2(first, second);
  }
}

inline bool AttentionSupports(const AttentionShape& shape) {
  return shape.head_dim > 0 && shape.head_dim <= kMostHeadDim && shape.head_dim % 2 == 0;
}

inline bool IsFloating(const Matrix& matrix) {
  return matrix.dtype == DType::kF32 || matrix.dtype == DType::kBF16;
}

inline Elements ElementsOf(const Matrix& matrix) {
  return {matrix.data, matrix.dtype == DType::kBF16};
}

// bf16 that asynchronous copies of 16 bytes can read.
inline bool FitsTensorCores(const Elements& x) {
  return x.bf16 && reinterpret_cast<uintptr_t>(x.data) % 16 == 0;
}

// Whether the kernels for tensor cores take this: heads that fill more than half of the columns of
// a tile, 64 or 128. They scale scores behind the maximum, so the scale must be positive.
inline bool UsesTensorCores(const AttentionArguments& a) {
  return a.head_dim > 32 && a.head_dim <= 128 && a.scale > 0 && FitsTensorCores(a.q) &&
         FitsTensorCores(a.k) && FitsTensorCores(a.v);
}

// Whether a head fills the columns of their tiles.
inline bool FillsTiles(const AttentionArguments& a) {
  return a.head_dim == 64 || a.head_dim == 128;
}

// Processors with 100 KiB of shared memory or so, where big tiles leave room for one block alone.
inline bool HasLittleSharedMemory(int architecture) {
  return architecture == 86 || architecture == 89 || architecture >= 120;
}

inline AttentionArguments MakeAttentionArguments(const AttentionShape& shape, const Matrix& q,
                                                 const Matrix& k, const Matrix& v,
                                                 const Matrix& out) {
  AttentionArguments a;
  a.tokens = static_cast<int>(shape.tokens);
  a.heads = shape.heads;
  a.kv_heads = shape.kv_heads;
  a.head_dim = shape.head_dim;
  a.scale = shape.scale;
  a.scale_log2 = shape.scale * kLog2E;
  a.q = ElementsOf(q);
  a.k = ElementsOf(k);
  a.v = ElementsOf(v);
  a.out = ElementsOf(out);
  return a;
}

}  // namespace qft::cuda
