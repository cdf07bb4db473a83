// The kernels of the backward pass for tensor cores. Each makes the probabilities anew from
// log_sum_exp; a.delta holds sum_d dout * out. q, k, v, dout bf16, 16-byte aligned; dq, dk, dv fp32
// or bf16. Probabilities and their gradients stay in registers: what MultiplyAdd returns is what it
// takes as its left factor.
#pragma once

#include "kernels/cuda/attention_mma.cuh"

namespace qft::cuda {
namespace {

constexpr int kBackwardStages = 2;

// Keys of a tile of the kernel for dq, queries of one of the kernel for dk and dv.
constexpr int BackwardStep(int dim) {
  return dim <= 64 ? 64 : 32;
}

// --- dq
// --------------------------------------------------------------------------------------------

constexpr int kQueryGradientWarps = 4;
constexpr int kQueryGradientThreads = 32 * kQueryGradientWarps;
constexpr int kQueryGradientRows = kQueryGradientWarps * kMmaRows;

template <int kDim>
constexpr size_t QueryGradientShared() {
  return kBackwardStages * 2 * TileBytes<kDim>(BackwardStep(kDim));
}

// dc = 0 where the lane's queries do not see the key.
template <int kKeys>
__device__ void MaskGradients(const AttentionArguments& a, int query, int first_key,
                              float (&dc)[kKeys / 8][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int start = a.Start(min(query + 8 * half, a.tokens - 1));
#pragma unroll
    for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int key = first_key + 8 * j + FragmentColumn() + e;
        if (key < start || key > query + 8 * half) dc[j][2 * half + e] = 0.0f;
      }
    }
  }
}

// Adds what the keys of one tile give to dq of a warp's 16 queries.
template <int kDim, int kKeys>
__device__ void AddQueryGradient(const AttentionArguments& a, const uint32_t (&q)[kDim / 16][4],
                                 const uint32_t (&dout)[kDim / 16][4], const QueryPair& pair,
                                 int key, bool masked, uint32_t k_tile,
                                 float (&dq)[1][kDim / 8][4]) {
  float c[kKeys / 8][4] = {}, dc[kKeys / 8][4] = {};
  MultiplyTransposed<kDim, kKeys>(q, k_tile, c);
  MultiplyTransposed<kDim, kKeys>(dout, k_tile + TileBytes<kDim>(kKeys), dc);
#pragma unroll
  for (int j = 0; j < kKeys / 8; ++j) {
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float p = Exp2Fast(fmaf(c[j][e], a.scale_log2, -pair.lse_log2[e / 2]));
      dc[j][e] = p * (dc[j][e] - pair.delta[e / 2]);
    }
  }
  if (masked) MaskGradients<kKeys>(a, pair.query, key, dc);
  uint32_t weights[1][kKeys / 16][4];
  Pack<kKeys>(dc, weights[0]);
  Multiply<kDim, 1, kKeys>(weights, k_tile, dq);
}

// dq. A block a (tile of kQueryGradientRows queries, head), a warp 16 of the queries. A stage of
// shared memory is a tile of keys and one of values; one is copied while the other is used.
template <int kDim, bool kPart>
__global__ void __launch_bounds__(kQueryGradientThreads)
    MmaQueryGradientKernel(const AttentionArguments a) {
  constexpr int kKeys = BackwardStep(kDim), kThreads = kQueryGradientThreads;
  constexpr uint32_t kStage = 2 * TileBytes<kDim>(kKeys);
  const uint32_t shared = SharedAddress(SharedMemory());
  const int head = static_cast<int>(blockIdx.y);
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kQueryGradientRows;
  const int end = min(first + kQueryGradientRows, a.tokens);
  const int warp_query = first + Warp() * kMmaRows;
  const int features = Features<kDim, kPart>(a);
  const int64_t q_stride = static_cast<int64_t>(a.heads) * features;
  const int64_t kv_stride = static_cast<int64_t>(a.kv_heads) * features;
  const auto* k = static_cast<const BFloat16*>(a.k.data) + a.KvHead(head) * features;
  const auto* v = static_cast<const BFloat16*>(a.v.data) + a.KvHead(head) * features;
  int key = a.Start(first) / kKeys * kKeys;
  uint32_t stage = shared;
  CopyTile<kDim, kKeys, kThreads>(k, kv_stride, features, key, end, stage);
  CopyTile<kDim, kKeys, kThreads>(v, kv_stride, features, key, end, stage + kStage / 2);
  CommitCopies();

  const WarpWindow window(a, warp_query, kMmaRows);
  const QueryPair pair(a, warp_query, head);
  uint32_t q[kDim / 16][4], dout[kDim / 16][4];
  LoadFragments<kDim>(static_cast<const BFloat16*>(a.q.data) + head * features, q_stride, features,
                      warp_query, end, q);
  LoadFragments<kDim>(static_cast<const BFloat16*>(a.dout.data) + head * features, q_stride,
                      features, warp_query, end, dout);
  float dq[1][kDim / 8][4] = {};
  for (; key < end; key += kKeys) {
    WaitForCopies();
    __syncthreads();
    const uint32_t other = shared + (stage == shared ? kStage : 0);
    if (key + kKeys < end) {
      CopyTile<kDim, kKeys, kThreads>(k, kv_stride, features, key + kKeys, end, other);
      CopyTile<kDim, kKeys, kThreads>(v, kv_stride, features, key + kKeys, end, other + kStage / 2);
      CommitCopies();
    }
    if (window.Sees(key, kKeys)) {
      AddQueryGradient<kDim, kKeys>(a, q, dout, pair, key, !window.SeesAll(key, kKeys), stage, dq);
    }
    stage = other;
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int query = warp_query + FragmentRow() + 8 * half;
    if (query >= a.tokens) continue;
    StoreFragmentRow<kDim>(dq[0], half, a.scale, features, a.dq, a.QueryOffset(query, head));
  }
}

// --- dk and dv
// -------------------------------------------------------------------------------------

// Of each query of a stage, behind the tiles in shared memory.
template <int kQueries>
struct StageStatistics {
  float lse[kQueries];
  float delta[kQueries];
  int32_t start[kQueries];
};

// Shared memory: keys and values, then per stage queries and dout, then per stage the statistics.
template <int kDim, int kWarps>
struct KeyGradientLayout {
  static constexpr int kQueries = BackwardStep(kDim);
  static constexpr uint32_t kKeyTile = TileBytes<kDim>(kWarps * kMmaRows);
  static constexpr uint32_t kQueryTile = TileBytes<kDim>(kQueries);
  static constexpr uint32_t kStages = 2 * kKeyTile;
  static constexpr uint32_t kStatistics = kStages + kBackwardStages * 2 * kQueryTile;
  static constexpr uint32_t kBytes =
      kStatistics + kBackwardStages * static_cast<uint32_t>(sizeof(StageStatistics<kQueries>));
};

// Begins to copy queries [first, first + kQueries) of a head, their dout and statistics; zeros
// behind the last query.
template <int kDim, int kWarps>
__device__ void CopyQueries(const AttentionArguments& a, int features, int head, int first,
                            int stage, uint32_t shared) {
  using Layout = KeyGradientLayout<kDim, kWarps>;
  constexpr int kQueries = Layout::kQueries, kThreads = 32 * kWarps;
  const int64_t stride = static_cast<int64_t>(a.heads) * features;
  const uint32_t tiles = shared + Layout::kStages + stage * 2 * Layout::kQueryTile;
  CopyTile<kDim, kQueries, kThreads>(static_cast<const BFloat16*>(a.q.data) + head * features,
                                     stride, features, first, a.tokens, tiles);
  CopyTile<kDim, kQueries, kThreads>(static_cast<const BFloat16*>(a.dout.data) + head * features,
                                     stride, features, first, a.tokens, tiles + Layout::kQueryTile);
  const uint32_t statistics = shared + Layout::kStatistics +
                              stage * static_cast<uint32_t>(sizeof(StageStatistics<kQueries>));
  for (int i = static_cast<int>(threadIdx.x); i < kQueries; i += kThreads) {
    const bool valid = first + i < a.tokens;
    const int query = valid ? first + i : 0;
    const int64_t at = a.StatisticOffset(query, head);
    const uint32_t to = statistics + i * 4;
    CopyAsync4(to, a.log_sum_exp + at, valid);
    CopyAsync4(to + kQueries * 4, a.delta + at, valid);
    const bool documents = a.document_start != nullptr;
    CopyAsync4(to + kQueries * 8,
               documents ? a.document_start + query : static_cast<const void*>(a.delta),
               documents && valid);
  }
}

// Products of a warp's 16 keys (rows) and the queries of a stage (columns), c of k and q, dc of v
// and dout -> probabilities and their gradients, both 0 where a query does not see the key.
// `query`, `key`: of the lane's first column and row.
template <int kQueries>
__device__ void MakeKeyGradients(float scale_log2, const StageStatistics<kQueries>& statistics,
                                 int query, int key, bool masked, float (&c)[kQueries / 8][4],
                                 float (&dc)[kQueries / 8][4]) {
#pragma unroll
  for (int j = 0; j < kQueries / 8; ++j) {
#pragma unroll
    for (int side = 0; side < 2; ++side) {
      const int column = 8 * j + side;
      const int at = column + FragmentColumn();
      const float lse_log2 = statistics.lse[at] * kLog2E;
      const float delta = statistics.delta[at];
      const int start = statistics.start[at];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float& p = c[j][2 * half + side];
        float& dp = dc[j][2 * half + side];
        p = Exp2Fast(fmaf(p, scale_log2, -lse_log2));
        dp = p * (dp - delta);
        const int row = key + 8 * half;
        if (masked && (row > query + column || row < start)) p = dp = 0.0f;
      }
    }
  }
}

// Adds what a stage's queries give to dk and dv of a warp's 16 keys, `key` and on.
template <int kDim, int kWarps>
__device__ void AddKeyGradient(const AttentionArguments& a, int first_query, int key, int stage,
                               uint32_t shared, float (&dk)[1][kDim / 8][4],
                               float (&dv)[1][kDim / 8][4]) {
  using Layout = KeyGradientLayout<kDim, kWarps>;
  constexpr int kQueries = Layout::kQueries;
  const auto& statistics = reinterpret_cast<const StageStatistics<kQueries>*>(
      reinterpret_cast<const char*>(SharedMemory()) + Layout::kStatistics)[stage];
  const int last = min(first_query + kQueries, a.tokens) - 1;
  if (last < key || statistics.start[0] >= key + kMmaRows) return;
  const bool masked =
      key + kMmaRows - 1 > first_query || statistics.start[last - first_query] > key;
  const uint32_t q_tile = shared + Layout::kStages + stage * 2 * Layout::kQueryTile;
  const uint32_t dout_tile = q_tile + Layout::kQueryTile;
  const int row = Warp() * kMmaRows;
  float c[1][kQueries / 8][4] = {}, dc[1][kQueries / 8][4] = {};
  MultiplyTransposed<kDim, 1, kQueries>(shared, row, q_tile, c);
  MultiplyTransposed<kDim, 1, kQueries>(shared + Layout::kKeyTile, row, dout_tile, dc);
  MakeKeyGradients<kQueries>(a.scale_log2, statistics, first_query + FragmentColumn(),
                             key + FragmentRow(), masked, c[0], dc[0]);
  uint32_t weights[1][kQueries / 16][4];
  Pack<kQueries>(c[0], weights[0]);
  Multiply<kDim, 1, kQueries>(weights, dout_tile, dv);
  Pack<kQueries>(dc[0], weights[0]);
  Multiply<kDim, 1, kQueries>(weights, q_tile, dk);
}

// dk and dv. A block a (tile of 16 * kWarps keys, kv head), a warp 16 of the keys; the query heads
// of the kv head come one after the other, in each the tiles of queries that see a key of the tile.
// One stage of queries is copied while the other is used.
template <int kDim, int kWarps, bool kPart>
__global__ void __launch_bounds__(32 * kWarps) MmaKeyGradientKernel(const AttentionArguments a) {
  using Layout = KeyGradientLayout<kDim, kWarps>;
  constexpr int kKeys = kWarps * kMmaRows, kThreads = 32 * kWarps, kQueries = Layout::kQueries;
  const uint32_t shared = SharedAddress(SharedMemory());
  const int first = static_cast<int>(blockIdx.x) * kKeys;
  const int kv_head = static_cast<int>(blockIdx.y);
  const int key_end = min(first + kKeys, a.tokens);
  const int group = a.heads / a.kv_heads;
  const int features = Features<kDim, kPart>(a);
  const int64_t stride = static_cast<int64_t>(a.kv_heads) * features;
  const int query_begin = first / kQueries * kQueries;
  const int tiles = (QueryEnd(a, key_end - 1) - query_begin + kQueries - 1) / kQueries;
  CopyTile<kDim, kKeys, kThreads>(static_cast<const BFloat16*>(a.k.data) + kv_head * features,
                                  stride, features, first, key_end, shared);
  CopyTile<kDim, kKeys, kThreads>(static_cast<const BFloat16*>(a.v.data) + kv_head * features,
                                  stride, features, first, key_end, shared + Layout::kKeyTile);
  CopyQueries<kDim, kWarps>(a, features, kv_head * group, query_begin, 0, shared);
  CommitCopies();
  const int warp_key = first + Warp() * kMmaRows;
  float dk[1][kDim / 8][4] = {}, dv[1][kDim / 8][4] = {};
  for (int step = 0; step < group * tiles; ++step) {
    WaitForCopies();
    __syncthreads();
    const int next = step + 1;
    if (next < group * tiles) {
      CopyQueries<kDim, kWarps>(a, features, kv_head * group + next / tiles,
                                query_begin + next % tiles * kQueries, next % 2, shared);
      CommitCopies();
    }
    AddKeyGradient<kDim, kWarps>(a, query_begin + step % tiles * kQueries, warp_key, step % 2,
                                 shared, dk, dv);
  }
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int key = warp_key + FragmentRow() + 8 * half;
    if (key >= a.tokens) continue;
    StoreFragmentRow<kDim>(dk[0], half, a.scale, features, a.dk, a.KeyOffset(key, kv_head));
    StoreFragmentRow<kDim>(dv[0], half, 1.0f, features, a.dv, a.KeyOffset(key, kv_head));
  }
}

}  // namespace
}  // namespace qft::cuda
