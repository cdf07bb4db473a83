#include "kernels/cuda/attention_forward.cuh"
#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_simt.cuh"
#include "kernels/cuda/attention_wgmma.h"
#include "kernels/cuda/engine.h"

namespace qft::cuda {
namespace {

// --- fp32
// ------------------------------------------------------------------------------------------

constexpr size_t SimtForwardShared(int tile, int dim) {
  return (2 * tile * SimtStride(dim) + tile * SimtStride(tile)) * sizeof(float);
}

__device__ float MaxOverRow(float x) {
#pragma unroll
  for (int offset = kSimtSide / 2; offset > 0; offset /= 2) {
    x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, offset));
  }
  return x;
}

__device__ float SumOverRow(float x) {
#pragma unroll
  for (int offset = kSimtSide / 2; offset > 0; offset /= 2) {
    x += __shfl_xor_sync(kFullWarp, x, offset);
  }
  return x;
}

// products -> scores in log2 units, -inf where query first_query + row does not see the key.
template <int kTile>
__device__ void MaskSimtScores(const AttentionArguments& a, int first_query, int first_key,
                               float (&scores)[kTile / kSimtSide][kTile / kSimtSide]) {
#pragma unroll
  for (int i = 0; i < kTile / kSimtSide; ++i) {
    const int query = min(first_query + SimtRow(i), a.tokens - 1);
    const int start = a.Start(query);
#pragma unroll
    for (int j = 0; j < kTile / kSimtSide; ++j) {
      const int key = first_key + SimtColumn(j);
      const bool visible = key >= start && key <= a.past + query;
      scores[i][j] = visible ? scores[i][j] * a.scale_log2 : -kInfinity;
    }
  }
}

// scores -> probabilities; rescales the sums of the rows.
template <int kTile, int kVectors>
__device__ void UpdateSimtRows(float (&scores)[kTile / kSimtSide][kTile / kSimtSide],
                               RowState (&state)[kTile / kSimtSide],
                               float (&sums)[kTile / kSimtSide][kVectors][kSimtVector]) {
  constexpr int kOwn = kTile / kSimtSide;
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    float largest = scores[i][0];
#pragma unroll
    for (int j = 1; j < kOwn; ++j) largest = fmaxf(largest, scores[i][j]);
    const float factor = state[i].Raise(MaxOverRow(largest));
    float sum = 0.0f;
#pragma unroll
    for (int j = 0; j < kOwn; ++j) {
      scores[i][j] = exp2f(scores[i][j] - state[i].Base());
      sum += scores[i][j];
    }
    state[i].sum += SumOverRow(sum);
#pragma unroll
    for (int c = 0; c < kVectors; ++c) {
#pragma unroll
      for (int e = 0; e < kSimtVector; ++e) sums[i][c][e] *= factor;
    }
  }
}

// A block a (tile of kTile queries, head). head_dim <= 64 * kVectors; matrices fp32 or bf16.
template <int kTile, int kVectors>
__global__ void __launch_bounds__(kSimtThreads) SimtForwardKernel(const AttentionArguments a) {
  constexpr int kOwn = kTile / kSimtSide;
  const int dim = a.head_dim;
  float* q_tile = reinterpret_cast<float*>(SharedMemory());
  float* kv_tile = q_tile + kTile * SimtStride(dim);
  float* weights = kv_tile + kTile * SimtStride(dim);
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kTile;
  const int head = static_cast<int>(blockIdx.y), kv_head = a.KvHead(head);
  const int64_t kv_stride = static_cast<int64_t>(a.kv_heads) * dim;
  const int end = a.past + min(first + kTile, a.tokens);
  LoadSimtTile<kTile>(a.q, a.QueryOffset(first, head), static_cast<int64_t>(a.heads) * dim,
                      a.tokens - first, dim, q_tile);
  RowState state[kOwn];
  float sums[kOwn][kVectors][kSimtVector] = {};
  for (int key = a.Start(first) / kTile * kTile; key < end; key += kTile) {
    float scores[kOwn][kOwn];
    __syncthreads();
    LoadSimtTile<kTile>(a.k, a.KeyOffset(key, kv_head), kv_stride, end - key, dim, kv_tile);
    __syncthreads();
    SimtProducts<kTile>(q_tile, kv_tile, dim, scores);
    MaskSimtScores<kTile>(a, first, key, scores);
    UpdateSimtRows<kTile, kVectors>(scores, state, sums);
    StoreSimtScores<kTile>(scores, weights);
    __syncthreads();
    LoadSimtTile<kTile>(a.v, a.KeyOffset(key, kv_head), kv_stride, end - key, dim, kv_tile);
    __syncthreads();
    AddWeightedRows<kTile, kVectors>(weights, kv_tile, dim, sums);
  }
#pragma unroll
  for (int i = 0; i < kOwn; ++i) {
    const int query = first + SimtRow(i);
    if (query >= a.tokens) continue;
    StoreSimtRow<kVectors>(sums[i], 1.0f / state[i].sum, dim, a.out, a.QueryOffset(query, head));
    if (a.log_sum_exp != nullptr && SimtColumn(0) == 0) {
      a.log_sum_exp[a.StatisticOffset(query, head)] = state[i].LogSumExp();
    }
  }
}

template <int kTile, int kVectors>
cudaError_t LaunchSimt(const AttentionArguments& a, cudaStream_t stream) {
  const dim3 grid(static_cast<unsigned>(CeilDivide(a.tokens, kTile)), a.heads);
  return LaunchKernel(SimtForwardKernel<kTile, kVectors>, grid, kSimtThreads,
                      SimtForwardShared(kTile, a.head_dim), stream, a);
}

// --- tensor cores
// ----------------------------------------------------------------------------------

constexpr int kForwardWarps = 4;
constexpr int kForwardThreads = 32 * kForwardWarps;
constexpr int kForwardKeys = 64;

constexpr int ForwardQueries(int row_tiles) {
  return kForwardWarps * kMmaRows * row_tiles;
}

// c = -inf where the lane's queries, `query` and that + 8, do not see the key.
__device__ void MaskScores(const AttentionArguments& a, int query, int first_key,
                           float (&c)[kForwardKeys / 8][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int start = a.Start(min(query + 8 * half, a.tokens - 1));
    const int last = a.past + query + 8 * half;
#pragma unroll
    for (int j = 0; j < kForwardKeys / 8; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int key = first_key + 8 * j + FragmentColumn() + e;
        if (key < start || key > last) c[j][2 * half + e] = -kInfinity;
      }
    }
  }
}

// The lane's two rows of a row tile. A type of its own, since of an array RowState[n][2] nvcc 13.0
// initialises [0] alone and leaves zeros in the others.
struct RowPair {
  RowState half[2];
};

// Products -> probabilities; rescales the sums of the rows. The states' sums are of the lane's
// columns.
template <int kDim>
__device__ void UpdateRows(float scale_log2, RowPair& state, float (&c)[kForwardKeys / 8][4],
                           float (&sums)[kDim / 8][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = -kInfinity;
#pragma unroll
    for (int j = 0; j < kForwardKeys / 8; ++j) {
      largest = fmaxf(largest, fmaxf(c[j][2 * half], c[j][2 * half + 1]));
    }
    const float factor = state.half[half].Raise(MaxOverQuad(largest) * scale_log2);
    const float base = state.half[half].Base();
#pragma unroll
    for (int j = 0; j < kForwardKeys / 8; ++j) {
#pragma unroll
      for (int e = 2 * half; e < 2 * half + 2; ++e) {
        c[j][e] = Exp2Fast(fmaf(c[j][e], scale_log2, -base));
        state.half[half].sum += c[j][e];
      }
    }
#pragma unroll
    for (int j = 0; j < kDim / 8; ++j) {
      sums[j][2 * half] *= factor;
      sums[j][2 * half + 1] *= factor;
    }
  }
}

template <int kDim, int kRowTiles>
__device__ void StoreRows(const AttentionArguments& a, int features, int head, int first,
                          const RowPair (&state)[kRowTiles],
                          const float (&sums)[kRowTiles][kDim / 8][4]) {
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = first + kMmaRows * i + FragmentRow() + 8 * half;
      RowState row = state[i].half[half];
      row.sum = SumOverQuad(row.sum);
      if (query >= a.tokens) continue;
      StoreFragmentRow<kDim>(sums[i], half, 1.0f / row.sum, features, a.out,
                             a.QueryOffset(query, head));
      if (a.log_sum_exp != nullptr && FragmentColumn() == 0) {
        a.log_sum_exp[a.StatisticOffset(query, head)] = row.LogSumExp();
      }
    }
  }
}

// A block a (tile of ForwardQueries queries, head), a warp kRowTiles * 16 of the queries. q, k, v
// bf16, 16-byte aligned; out fp32 or bf16. The value tile is copied while the scores are made, the
// next key tile while the values are summed. The tiles with most keys come first.
template <int kDim, int kRowTiles, bool kPart>
__global__ void __launch_bounds__(kForwardThreads) MmaForwardKernel(const AttentionArguments a) {
  constexpr int kQueries = ForwardQueries(kRowTiles), kKeys = kForwardKeys;
  const uint32_t q_tile = SharedAddress(SharedMemory());
  const uint32_t k_tile = q_tile + TileBytes<kDim>(kQueries);
  const uint32_t v_tile = k_tile + TileBytes<kDim>(kKeys);
  const int head = static_cast<int>(blockIdx.y);
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kQueries;
  const int end = a.past + min(first + kQueries, a.tokens);
  const int warp_row = Warp() * kMmaRows * kRowTiles;
  const int features = Features<kDim, kPart>(a);
  const int64_t q_stride = static_cast<int64_t>(a.heads) * features;
  const int64_t kv_stride = static_cast<int64_t>(a.kv_heads) * features;
  const auto* k = static_cast<const BFloat16*>(a.k.data) + a.KvHead(head) * features;
  const auto* v = static_cast<const BFloat16*>(a.v.data) + a.KvHead(head) * features;
  const WarpWindow window(a, first + warp_row, kMmaRows * kRowTiles);
  RowPair state[kRowTiles];
  float sums[kRowTiles][kDim / 8][4] = {};

  int key = a.Start(first) / kKeys * kKeys;
  CopyTile<kDim, kQueries, kForwardThreads>(
      static_cast<const BFloat16*>(a.q.data) + head * features, q_stride, features, first, a.tokens,
      q_tile);
  CopyTile<kDim, kKeys, kForwardThreads>(k, kv_stride, features, key, end, k_tile);
  CommitCopies();
  for (; key < end; key += kKeys) {
    const bool seen = window.Sees(key, kKeys);
    uint32_t weights[kRowTiles][kKeys / 16][4];
    WaitForCopies();
    __syncthreads();
    CopyTile<kDim, kKeys, kForwardThreads>(v, kv_stride, features, key, end, v_tile);
    CommitCopies();
    if (seen) {
      float c[kRowTiles][kKeys / 8][4] = {};
      MultiplyTransposed<kDim, kRowTiles, kKeys>(q_tile, warp_row, k_tile, c);
      const bool masked = !window.SeesAll(key, kKeys);
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
        if (masked) MaskScores(a, first + warp_row + kMmaRows * i + FragmentRow(), key, c[i]);
        UpdateRows<kDim>(a.scale_log2, state[i], c[i], sums[i]);
        Pack<kKeys>(c[i], weights[i]);
      }
    }
    WaitForCopies();
    __syncthreads();
    if (key + kKeys < end) {
      CopyTile<kDim, kKeys, kForwardThreads>(k, kv_stride, features, key + kKeys, end, k_tile);
      CommitCopies();
    }
    if (seen) Multiply<kDim, kRowTiles, kKeys>(weights, v_tile, sums);
  }
  StoreRows<kDim, kRowTiles>(a, features, head, first + warp_row, state, sums);
}

template <int kDim, int kRowTiles, bool kPart>
cudaError_t LaunchMma(const AttentionArguments& a, cudaStream_t stream) {
  constexpr int kQueries = ForwardQueries(kRowTiles);
  const dim3 grid(static_cast<unsigned>(CeilDivide(a.tokens, kQueries)), a.heads);
  return LaunchKernel(MmaForwardKernel<kDim, kRowTiles, kPart>, grid, kForwardThreads,
                      TileBytes<kDim>(kQueries + 2 * kForwardKeys), stream, a);
}

template <bool kPart>
cudaError_t LaunchMma(const AttentionArguments& a, int architecture, cudaStream_t stream) {
  if (a.head_dim <= 64) return LaunchMma<64, 2, kPart>(a, stream);
  return HasLittleSharedMemory(architecture) ? LaunchMma<128, 1, kPart>(a, stream)
                                             : LaunchMma<128, 2, kPart>(a, stream);
}

}  // namespace

cudaError_t LaunchAttentionForward(const AttentionArguments& a, int architecture,
                                   cudaStream_t stream) {
  if (UsesTensorCores(a)) {
    if (!FillsTiles(a)) return LaunchMma<true>(a, architecture, stream);
    return architecture == 90 ? LaunchWgmmaForward(a, stream)
                              : LaunchMma<false>(a, architecture, stream);
  }
  return a.head_dim <= 128 ? LaunchSimt<64, 2>(a, stream) : LaunchSimt<32, 4>(a, stream);
}

void CudaEngine::AttentionForward(const AttentionShape& shape, const int32_t* document_start,
                                  const Matrix& q, const Matrix& k, const Matrix& v,
                                  const Matrix& out, float* log_sum_exp) {
  if (!AttentionSupports(shape)) return Fail(kAttentionUnsupported);
  for (const Matrix* matrix : {&q, &k, &v, &out}) {
    if (!IsFloating(*matrix)) return Fail(kAttentionDTypeUnsupported);
  }
  if (shape.tokens == 0) return;
  AttentionArguments a = MakeAttentionArguments(shape, q, k, v, out);
  a.document_start = document_start;
  a.log_sum_exp = log_sum_exp;
  if (!Check(LaunchAttentionForward(a, architecture_, stream_), "attention forward")) return;
  CheckLaunch("attention forward");
}

}  // namespace qft::cuda
