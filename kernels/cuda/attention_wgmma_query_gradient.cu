// dq of attention by wgmma and TMA, for Hopper (sm_90a).
//
// A warpgroup keeps its queries and dout in registers as left factors: from shared memory, which
// would be read as often as the keys and values, they would cost more than the products. The next
// scores are started before the products that add to dq.
#include "kernels/cuda/attention_wgmma.cuh"

namespace qft::cuda {
namespace {

constexpr int kKeys = 64;  // of a tile
constexpr int kScores = kKeys / 2;
constexpr int kStages = 4;

struct QueryGradientMaps {
  CUtensorMap k;
  CUtensorMap v;
};

// Shared memory: stages, each keys and values; barriers.
template <int kDim>
struct QueryGradientLayout {
  static constexpr uint32_t kKeyTile = TileBytes<kDim>(kKeys);
  static constexpr uint32_t kRing = kStages * 2 * kKeyTile;
  static constexpr uint32_t kBytes = kRing + Ring<kStages>::kBytes;
  static_assert(kBytes <= 227 * 1024);
};

// What a block works on: queries [first, first + kBlockRows) of a head, and the tiles of keys from
// `key` on that any of them sees. The tiles with most keys come first.
struct QueryGradientWork {
  int head;
  int first;
  int key;
  int tiles;

  __device__ explicit QueryGradientWork(const AttentionArguments& a)
      : head(static_cast<int>(blockIdx.y)),
        first(static_cast<int>(gridDim.x - 1 - blockIdx.x) * kBlockRows),
        key(a.Start(first)),
        tiles(TilesBefore(min(first + kBlockRows, a.tokens))) {}

  __device__ int TilesBefore(int end) const { return (end - key + kKeys - 1) / kKeys; }
  // That a warpgroup computes. The first does not see what may be the last tile of the block, and
  // nobody waits for it to leave that.
  __device__ int Tiles(int group) const {
    return group == 0 ? min(tiles, TilesBefore(first + kGroupRows)) : tiles;
  }
};

// One thread.
template <int kDim>
__device__ __forceinline__ void CopyQueryGradient(const QueryGradientMaps& maps,
                                                  const AttentionArguments& a,
                                                  const QueryGradientWork& work, uint32_t shared) {
  using Layout = QueryGradientLayout<kDim>;
  const int column = a.KvHead(work.head) * kDim;
  Ring<kStages> ring{shared + Layout::kRing};
  for (int i = 0; i < work.tiles; ++i) {
    const int key = work.key + i * kKeys;
    const uint32_t tile = shared + ring.index * 2 * Layout::kKeyTile;
    ring.WaitUntilEmpty();
    ArriveExpecting(ring.Full(), 2 * Layout::kKeyTile);
    LoadTile<kDim, kKeys>(maps.k, column, key, tile, ring.Full());
    LoadTile<kDim, kKeys>(maps.v, column, key, tile + Layout::kKeyTile, ring.Full());
    ring.Advance();
  }
}

// A warpgroup's dq.
template <int kDim>
struct QueryGradients {
  using Layout = QueryGradientLayout<kDim>;

  const AttentionArguments& a;
  const WarpWindow window;
  const QueryPair pair;
  const uint32_t shared;
  uint32_t q[kDim / 16][4];
  uint32_t dout[kDim / 16][4];
  float dq[kDim / 2] = {};
  float s[kScores];
  float ds[kScores];
  uint32_t gradients[kKeys / 16][4];

  // Of the warp's queries, from `warp_query` on.
  __device__ QueryGradients(const AttentionArguments& arguments, int head, int warp_query,
                            uint32_t shared_address)
      : a(arguments),
        window(arguments, warp_query, kMmaRows),
        pair(arguments, warp_query, head),
        shared(shared_address) {
    const int64_t stride = static_cast<int64_t>(a.heads) * kDim;
    LoadFragments<kDim>(static_cast<const BFloat16*>(a.q.data) + head * kDim, stride, kDim,
                        warp_query, a.tokens, q);
    LoadFragments<kDim>(static_cast<const BFloat16*>(a.dout.data) + head * kDim, stride, kDim,
                        warp_query, a.tokens, dout);
  }

  __device__ uint32_t KeyTile(const Ring<kStages>& ring) const {
    return shared + ring.index * 2 * Layout::kKeyTile;
  }
  __device__ __forceinline__ void StartScores(const Ring<kStages>& ring) {
    MultiplyFeatures<kDim, kKeys>(q, KeyTile(ring), s);
    CommitProducts();
  }
  __device__ __forceinline__ void StartScoreGradients(const Ring<kStages>& ring) {
    MultiplyFeatures<kDim, kKeys>(dout, KeyTile(ring) + Layout::kKeyTile, ds);
    CommitProducts();
  }
  __device__ __forceinline__ void StartSums(const Ring<kStages>& ring) {
    MultiplyRows<kDim, kKeys>(gradients, KeyTile(ring), true, dq);
  }
  // While the last batch goes on, the scores of the keys from `key` on become probabilities; then
  // the left factor is made. ptxas would put all products one after the other if it were written
  // during others, or if products went on into the next round of a loop.
  __device__ __forceinline__ void MakeFactor(int key) {
    WaitForProducts<1>();
    PinRegisters(s);
#pragma unroll
    for (int i = 0; i < kScores; ++i) {
      s[i] = Exp2Fast(fmaf(s[i], a.scale_log2, -pair.lse_log2[i / 2 % 2]));
    }
    const bool masked = !window.SeesAll(key, kKeys);
    if (masked) Mask(key, s);
    WaitForProducts<0>();
    PinRegisters(ds);
    PinRegisters(dq);
#pragma unroll
    for (int i = 0; i < kScores; ++i) ds[i] = s[i] * (ds[i] - pair.delta[i / 2 % 2]);
    if (masked) Mask(key, ds);
    PackSums(ds, gradients);
  }
  // d = 0 where the lane's queries do not see the key.
  __device__ __forceinline__ void Mask(int first_key, float (&d)[kScores]) const {
    const int key = first_key + FragmentColumn();
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = pair.query + 8 * half;
      const int begin = a.Start(min(query, a.tokens - 1)) - key;
      const int end = query - key;
#pragma unroll
      for (int i = 2 * half; i < kScores; i += 4) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int column = i / 4 * 8 + e;
          if (column < begin || column > end) d[i + e] = 0.0f;
        }
      }
    }
  }
  __device__ __forceinline__ void Store(int head) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int own = pair.query + 8 * half;
      if (own < a.tokens) StoreRow(dq, half, a.scale, a.dq, a.QueryOffset(own, head));
    }
  }
};

// A warpgroup; `group` is 0 or 1.
template <int kDim>
__device__ __forceinline__ void ComputeQueryGradient(const AttentionArguments& a,
                                                     const QueryGradientWork& work, int group,
                                                     uint32_t shared) {
  using Layout = QueryGradientLayout<kDim>;
  QueryGradients<kDim> state(a, work.head,
                             work.first + group * kGroupRows + WarpInGroup() * kMmaRows, shared);
  Ring<kStages> ring{shared + Layout::kRing};
  ring.WaitUntilFull();
  PinRegisters(state.s);
  PinRegisters(state.ds);
  BeginProducts();
  state.StartScores(ring);
  state.StartScoreGradients(ring);
  state.MakeFactor(work.key);
  for (int i = 1; i < work.Tiles(group); ++i) {
    const Ring<kStages> previous = ring;
    ring.Advance();
    ring.WaitUntilFull();
    PinRegisters(state.dq);
    BeginProducts();
    state.StartScores(ring);
    state.StartSums(previous);
    state.StartScoreGradients(ring);
    state.MakeFactor(work.key + i * kKeys);
    previous.Leave();
  }
  PinRegisters(state.dq);
  BeginProducts();
  state.StartSums(ring);
  CommitProducts();
  WaitForProducts<0>();
  PinRegisters(state.dq);
  state.Store(work.head);
}

// A block a (tile of kBlockRows queries, head).
template <int kDim>
__global__ void __launch_bounds__(kWgmmaThreads, 1)
    QueryGradientWgmmaKernel(const __grid_constant__ QueryGradientMaps maps,
                             const __grid_constant__ AttentionArguments a) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t wgmma_shared[];
  const uint32_t shared = SharedAddress(wgmma_shared);
  const int warpgroup = WarpgroupIndex();
  if (threadIdx.x == 0) {
    Ring<kStages>{shared + QueryGradientLayout<kDim>::kRing}.Init(1);
    PublishBarriers();
  }
  __syncthreads();
  const QueryGradientWork work(a);
  if (warpgroup == 0) {
    GiveRegisters<kProducerRegisters>();
    if (threadIdx.x == 0) CopyQueryGradient<kDim>(maps, a, work, shared);
  } else {
    TakeRegisters<kConsumerRegisters>();
    ComputeQueryGradient<kDim>(a, work, warpgroup - 1, shared);
  }
#endif
}

template <int kDim>
cudaError_t Launch(const AttentionArguments& a, cudaStream_t stream) {
  QueryGradientMaps maps{};
  cudaError_t error = MapHeads(&maps.k, a.k, a.tokens, a.kv_heads, kDim, kKeys);
  if (error != cudaSuccess) return error;
  error = MapHeads(&maps.v, a.v, a.tokens, a.kv_heads, kDim, kKeys);
  if (error != cudaSuccess) return error;
  return LaunchWgmma(QueryGradientWgmmaKernel<kDim>, a.heads, QueryGradientLayout<kDim>::kBytes,
                     maps, a, stream);
}

}  // namespace

cudaError_t LaunchWgmmaQueryGradient(const AttentionArguments& a, cudaStream_t stream) {
  return a.head_dim == 64 ? Launch<64>(a, stream) : Launch<128>(a, stream);
}

}  // namespace qft::cuda
