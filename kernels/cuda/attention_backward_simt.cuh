// The fp32 kernels of the backward pass, for any even head_dim up to 256 and fp32 or bf16 memory.
// Each makes the probabilities anew from log_sum_exp; a.delta holds sum_d dout * out.
#pragma once

#include "kernels/cuda/attention_simt.cuh"

namespace qft::cuda {
namespace {

constexpr size_t SimtBackwardShared(int tile, int dim) {
  return (4 * tile * SimtStride(dim) + 2 * tile * SimtStride(tile)) * sizeof(float);
}

// What one query adds to the gradients of its scores.
struct QueryStatistics {
  int start;
  float lse_log2;
  float delta;

  __device__ QueryStatistics(const AttentionArguments& a, int query, int head) {
    const int row = min(query, a.tokens - 1);
    start = a.Start(row);
    lse_log2 = a.log_sum_exp[a.StatisticOffset(row, head)] * kLog2E;
    delta = a.delta[a.StatisticOffset(row, head)];
  }
};

// score (q.k) -> probability, and dscore (dout.v) -> its gradient; both 0 where the query does not
// see the key, or is behind the last one.
__device__ inline void SimtGradient(const AttentionArguments& a, const QueryStatistics& statistics,
                                    int query, int key, float* score, float* dscore) {
  const bool visible = key >= statistics.start && key <= query && query < a.tokens;
  const float p = exp2f(*score * a.scale_log2 - statistics.lse_log2);
  *dscore = visible ? p * (*dscore - statistics.delta) : 0.0f;
  *score = visible ? p : 0.0f;
}

// dq. A block a (tile of kTile queries, head). head_dim <= 64 * kVectors.
template <int kTile, int kVectors>
__global__ void __launch_bounds__(kSimtThreads)
    SimtQueryGradientKernel(const AttentionArguments a) {
  constexpr int kOwn = kTile / kSimtSide;
  const int dim = a.head_dim;
  const int part = kTile * SimtStride(dim);
  float* q_tile = reinterpret_cast<float*>(SharedMemory());
  float *dout_tile = q_tile + part, *k_tile = q_tile + 2 * part, *v_tile = q_tile + 3 * part;
  float* weights = q_tile + 4 * part;
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTile;
  const int head = static_cast<int>(blockIdx.y), kv_head = a.KvHead(head);
  const int64_t q_stride = static_cast<int64_t>(a.heads) * dim;
  const int64_t kv_stride = static_cast<int64_t>(a.kv_heads) * dim;
  const int64_t q_offset = a.QueryOffset(first, head);
  const int end = min(first + kTile, a.tokens);
  LoadSimtTile<kTile>(a.q, q_offset, q_stride, end - first, dim, q_tile);
  LoadSimtTile<kTile>(a.dout, q_offset, q_stride, end - first, dim, dout_tile);
  float sums[kOwn][kVectors][kSimtVector] = {};
  for (int key = a.Start(first) / kTile * kTile; key < end; key += kTile) {
    const int64_t kv_offset = a.KeyOffset(key, kv_head);
    float scores[kOwn][kOwn], dscores[kOwn][kOwn];
    __syncthreads();
    LoadSimtTile<kTile>(a.k, kv_offset, kv_stride, end - key, dim, k_tile);
    LoadSimtTile<kTile>(a.v, kv_offset, kv_stride, end - key, dim, v_tile);
    __syncthreads();
    SimtProducts<kTile>(q_tile, k_tile, dim, scores);
    SimtProducts<kTile>(dout_tile, v_tile, dim, dscores);
#pragma unroll
    for (int i = 0; i < kOwn; ++i) {
      const int query = first + SimtRow(i);
      const QueryStatistics statistics(a, query, head);
#pragma unroll
      for (int j = 0; j < kOwn; ++j) {
        SimtGradient(a, statistics, query, key + SimtColumn(j), &scores[i][j], &dscores[i][j]);
      }
    }
    StoreSimtScores<kTile>(dscores, weights);
    __syncthreads();
    AddWeightedRows<kTile, kVectors>(weights, k_tile, dim, sums);
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int query = first + SimtRow(i);
    if (query >= a.tokens) continue;
    StoreSimtRow<kVectors>(sums[i], a.scale, dim, a.dq, a.QueryOffset(query, head));
  }
}

// dk and dv. A block a (tile of kTile keys, kv head); its query heads come one after the other.
// head_dim <= 64 * kVectors.
template <int kTile, int kVectors>
__global__ void __launch_bounds__(kSimtThreads) SimtKeyGradientKernel(const AttentionArguments a) {
  constexpr int kOwn = kTile / kSimtSide;
  const int dim = a.head_dim;
  const int part = kTile * SimtStride(dim);
  float* k_tile = reinterpret_cast<float*>(SharedMemory());
  float *v_tile = k_tile + part, *q_tile = k_tile + 2 * part, *dout_tile = k_tile + 3 * part;
  float* weights = k_tile + 4 * part;
  float* dweights = weights + kTile * SimtStride(kTile);
  const int first = static_cast<int>(blockIdx.x) * kTile, kv_head = static_cast<int>(blockIdx.y);
  const int64_t q_stride = static_cast<int64_t>(a.heads) * dim;
  const int64_t kv_stride = static_cast<int64_t>(a.kv_heads) * dim;
  const int key_end = min(first + kTile, a.tokens);
  const int query_end = QueryEnd(a, key_end - 1);
  const int group = a.heads / a.kv_heads;
  LoadSimtTile<kTile>(a.k, a.KeyOffset(first, kv_head), kv_stride, key_end - first, dim, k_tile);
  LoadSimtTile<kTile>(a.v, a.KeyOffset(first, kv_head), kv_stride, key_end - first, dim, v_tile);
  float dk[kOwn][kVectors][kSimtVector] = {}, dv[kOwn][kVectors][kSimtVector] = {};
  for (int head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (int query_tile = first; query_tile < query_end; query_tile += kTile) {
      const int64_t q_offset = a.QueryOffset(query_tile, head);
      float scores[kOwn][kOwn], dscores[kOwn][kOwn];
      __syncthreads();
      LoadSimtTile<kTile>(a.q, q_offset, q_stride, a.tokens - query_tile, dim, q_tile);
      LoadSimtTile<kTile>(a.dout, q_offset, q_stride, a.tokens - query_tile, dim, dout_tile);
      __syncthreads();
      SimtProducts<kTile>(k_tile, q_tile, dim, scores);
      SimtProducts<kTile>(v_tile, dout_tile, dim, dscores);
#pragma unroll
      for (int j = 0; j < kOwn; ++j) {
        const int query = query_tile + SimtColumn(j);
        const QueryStatistics statistics(a, query, head);
#pragma unroll
        for (int i = 0; i < kOwn; ++i) {
          SimtGradient(a, statistics, query, first + SimtRow(i), &scores[i][j], &dscores[i][j]);
        }
      }
      StoreSimtScores<kTile>(scores, weights);
      StoreSimtScores<kTile>(dscores, dweights);
      __syncthreads();
      AddWeightedRows<kTile, kVectors>(weights, dout_tile, dim, dv);
      AddWeightedRows<kTile, kVectors>(dweights, q_tile, dim, dk);
    }
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int key = first + SimtRow(i);
    if (key >= a.tokens) continue;
    StoreSimtRow<kVectors>(dk[i], a.scale, dim, a.dk, a.KeyOffset(key, kv_head));
    StoreSimtRow<kVectors>(dv[i], 1.0f, dim, a.dv, a.KeyOffset(key, kv_head));
  }
}

}  // namespace
}  // namespace qft::cuda
