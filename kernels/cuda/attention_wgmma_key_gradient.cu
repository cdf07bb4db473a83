// dk and dv of attention by wgmma and TMA, for Hopper (sm_90a).
//
// Scores are made transposed, keys as rows: probabilities and their gradients are then left factors
// in the registers in which they are made, and queries and dout right factors from the tiles that
// they were made of. The products that add to dk and dv run on while the next ones are started.
#include "kernels/cuda/attention_wgmma.cuh"

namespace qft::cuda {
namespace {

constexpr int kQueries = 64;  // of a tile
constexpr int kScores = kQueries / 2;
constexpr int kStages = 3;
constexpr int kLanes = 32;  // of the warp that copies

struct KeyGradientMaps {
  CUtensorMap q;
  CUtensorMap k;
  CUtensorMap v;
  CUtensorMap dout;
};

// Of the queries of a stage; lse in log2 units.
struct QueryStatistics {
  float lse[kQueries];
  float delta[kQueries];
  int start[kQueries];
};

// Shared memory: keys and values; stages, each queries and dout; their statistics; barriers.
template <int kDim>
struct KeyGradientLayout {
  static constexpr uint32_t kKeyTile = TileBytes<kDim>(kBlockRows);
  static constexpr uint32_t kQueryTile = TileBytes<kDim>(kQueries);
  static constexpr uint32_t kStagesAt = 2 * kKeyTile;
  static constexpr uint32_t kStatisticsAt = kStagesAt + kStages * 2 * kQueryTile;
  static constexpr uint32_t kRing =
      kStatisticsAt + kStages * static_cast<uint32_t>(sizeof(QueryStatistics));
  static constexpr uint32_t kKeysFull = kRing + Ring<kStages>::kBytes;
  static constexpr uint32_t kBytes = kKeysFull + kBarrierBytes;
  static_assert(kBytes <= 227 * 1024);
};

// What a block works on: keys [key, key + kBlockRows) of a kv head, and of each of its query heads
// the tiles of queries from `key` on that see any of them.
struct KeyGradientWork {
  int kv_head;
  int group;  // query heads
  int key;
  int tiles;  // of a query head

  __device__ explicit KeyGradientWork(const AttentionArguments& a)
      : kv_head(static_cast<int>(blockIdx.y)),
        group(a.heads / a.kv_heads),
        key(static_cast<int>(blockIdx.x) * kBlockRows),
        tiles((QueryEnd(a, min(key + kBlockRows, a.tokens) - 1) - key + kQueries - 1) / kQueries) {}

  __device__ int Head(int step) const { return kv_head * group + step / tiles; }
  __device__ int Query(int step) const { return key + step % tiles * kQueries; }
  __device__ int Steps() const { return group * tiles; }
};

// Of one query, on its way to shared memory. Behind the last query probabilities are 0.
struct QueryStatistic {
  float lse = kInfinity;
  float delta = 0.0f;
  int start = 0;

  __device__ QueryStatistic(const AttentionArguments& a, int query, int head) {
    if (query >= a.tokens) return;
    const int64_t at = a.StatisticOffset(query, head);
    lse = a.log_sum_exp[at] * kLog2E;
    delta = a.delta[at];
    start = a.Start(query);
  }
  __device__ void Write(QueryStatistics& to, int i) const {
    to.lse[i] = lse;
    to.delta[i] = delta;
    to.start[i] = start;
  }
};

// A warp. Statistics have no alignment that TMA could use.
template <int kDim>
__device__ __forceinline__ void CopyKeyGradient(const KeyGradientMaps& maps,
                                                const AttentionArguments& a,
                                                const KeyGradientWork& work, uint8_t* memory) {
  using Layout = KeyGradientLayout<kDim>;
  const uint32_t shared = SharedAddress(memory);
  auto* statistics = reinterpret_cast<QueryStatistics*>(memory + Layout::kStatisticsAt);
  const int lane = Lane();
  Ring<kStages> ring{shared + Layout::kRing};
  if (lane == 0) {
    const uint32_t full = shared + Layout::kKeysFull;
    ArriveExpecting(full, 2 * Layout::kKeyTile);
    LoadTile<kDim, kBlockRows>(maps.k, work.kv_head * kDim, work.key, shared, full);
    LoadTile<kDim, kBlockRows>(maps.v, work.kv_head * kDim, work.key, shared + Layout::kKeyTile,
                               full);
  }
  for (int step = 0; step < work.Steps(); ++step) {
    const int head = work.Head(step);
    const int query = work.Query(step);
    const QueryStatistic first(a, query + lane, head);
    const QueryStatistic second(a, query + lane + kLanes, head);
    ring.WaitUntilEmpty();
    if (lane == 0) {
      const uint32_t tile = shared + Layout::kStagesAt + ring.index * 2 * Layout::kQueryTile;
      ArriveExpecting(ring.Full(), 2 * Layout::kQueryTile);
      LoadTile<kDim, kQueries>(maps.q, head * kDim, query, tile, ring.Full());
      LoadTile<kDim, kQueries>(maps.dout, head * kDim, query, tile + Layout::kQueryTile,
                               ring.Full());
    }
    first.Write(statistics[ring.index], lane);
    second.Write(statistics[ring.index], lane + kLanes);
    Arrive(ring.Full());
    ring.Advance();
  }
}

// What the lane's keys, `key` and that + 8, see of a stage's queries, `query` and on.
struct KeyView {
  int key;
  int query;
  const QueryStatistics& statistics;

  // Whether some query of the tile does not see all the keys of the warp.
  __device__ bool IsMasked(int tokens) const {
    const int first = key - FragmentRow();
    const int last = min(kQueries, tokens - query) - 1;
    return first + kMmaRows - 1 > query || statistics.start[last] > first;
  }
  // d = 0 where the query does not see the key.
  __device__ __forceinline__ void Mask(float (&d)[kScores]) const {
#pragma unroll
    for (int i = 0; i < kScores; i += 4) {
      const int column = 2 * i + FragmentColumn();
      const int2 start = *reinterpret_cast<const int2*>(statistics.start + column);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        const int row = key + e / 2 * 8;
        const bool hidden = row > query + column + e % 2;
        if (hidden | (row < (e % 2 == 0 ? start.x : start.y))) d[i + e] = 0.0f;
      }
    }
  }
  // Products of keys and queries -> probabilities.
  __device__ __forceinline__ void MakeProbabilities(float scale_log2, float (&s)[kScores]) const {
#pragma unroll
    for (int i = 0; i < kScores; i += 4) {
      const float2 lse =
          *reinterpret_cast<const float2*>(statistics.lse + 2 * i + FragmentColumn());
      s[i] = Exp2Fast(fmaf(s[i], scale_log2, -lse.x));
      s[i + 1] = Exp2Fast(fmaf(s[i + 1], scale_log2, -lse.y));
      s[i + 2] = Exp2Fast(fmaf(s[i + 2], scale_log2, -lse.x));
      s[i + 3] = Exp2Fast(fmaf(s[i + 3], scale_log2, -lse.y));
    }
  }
  // Products of values and dout -> gradients of scores.
  __device__ __forceinline__ void MakeGradients(const float (&p)[kScores],
                                                float (&ds)[kScores]) const {
#pragma unroll
    for (int i = 0; i < kScores; i += 4) {
      const float2 delta =
          *reinterpret_cast<const float2*>(statistics.delta + 2 * i + FragmentColumn());
      ds[i] = p[i] * (ds[i] - delta.x);
      ds[i + 1] = p[i + 1] * (ds[i + 1] - delta.y);
      ds[i + 2] = p[i + 2] * (ds[i + 2] - delta.x);
      ds[i + 3] = p[i + 3] * (ds[i + 3] - delta.y);
    }
  }
};

// A warpgroup's gradients of its keys.
template <int kDim>
struct KeyGradients {
  using Layout = KeyGradientLayout<kDim>;

  const AttentionArguments& a;
  const KeyGradientWork& work;
  const uint32_t shared;
  const uint32_t keys;  // the warpgroup's tile; that of values is kKeyTile behind
  const int key;        // the lane's first, the other is that + 8
  float dk[kDim / 2] = {};
  float dv[kDim / 2] = {};
  float s[kScores];
  float ds[kScores];
  uint32_t weights[kQueries / 16][4];
  uint32_t gradients[kQueries / 16][4];

  __device__ KeyGradients(const AttentionArguments& arguments, const KeyGradientWork& its_work,
                          int group, uint32_t shared_address)
      : a(arguments),
        work(its_work),
        shared(shared_address),
        keys(shared_address + group * BoxBytes(kGroupRows)),
        key(its_work.key + group * kGroupRows + WarpInGroup() * kMmaRows + FragmentRow()) {}

  __device__ uint32_t QueryTile(const Ring<kStages>& ring) const {
    return shared + Layout::kStagesAt + ring.index * 2 * Layout::kQueryTile;
  }
  __device__ __forceinline__ void StartScores(const Ring<kStages>& ring) {
    MultiplyFeatures<kDim, kBlockRows, kQueries>(keys, QueryTile(ring), s);
    CommitProducts();
  }
  __device__ __forceinline__ void StartScoreGradients(const Ring<kStages>& ring) {
    MultiplyFeatures<kDim, kBlockRows, kQueries>(keys + Layout::kKeyTile,
                                                 QueryTile(ring) + Layout::kQueryTile, ds);
    CommitProducts();
  }
  __device__ __forceinline__ void StartSums(const Ring<kStages>& ring) {
    MultiplyRows<kDim, kQueries>(weights, QueryTile(ring) + Layout::kQueryTile, true, dv);
    MultiplyRows<kDim, kQueries>(gradients, QueryTile(ring), true, dk);
    CommitProducts();
  }
  // The scores of this step become probabilities, while the sums of the last may go on; then, when
  // all products are over, gradients of scores and both left factors are made. ptxas would put all
  // products one after the other if a factor were written during others, or if products went on
  // into the next round of a loop.
  __device__ __forceinline__ void MakeFactors(int step, const Ring<kStages>& ring,
                                              const QueryStatistics& statistics) {
    const KeyView view{key, work.Query(step), statistics};
    const bool masked = view.IsMasked(a.tokens);
    PinRegisters(s);
    view.MakeProbabilities(a.scale_log2, s);
    if (masked) view.Mask(s);
    WaitForProducts<0>();
    PinSums();
    BeginProducts();
    PinRegisters(ds);
    StartScoreGradients(ring);
    PackSums(s, weights);
    WaitForProducts<0>();
    PinRegisters(ds);
    view.MakeGradients(s, ds);
    if (masked) view.Mask(ds);
    PackSums(ds, gradients);
  }
  __device__ __forceinline__ void PinSums() {
    PinRegisters(dk);
    PinRegisters(dv);
  }
  __device__ __forceinline__ void Store() const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int own = key + 8 * half;
      if (own >= a.tokens) continue;
      StoreRow(dk, half, a.scale, a.dk, a.KeyOffset(own, work.kv_head));
      StoreRow(dv, half, 1.0f, a.dv, a.KeyOffset(own, work.kv_head));
    }
  }
};

// The second warpgroup's keys are behind the queries of a head's first tile: it leaves that to the
// first, if there are more. Returns the step that is next.
__device__ __forceinline__ int SkipHidden(const KeyGradientWork& work, int group, int step,
                                          Ring<kStages>& ring) {
  if (group == 0 || work.tiles == 1 || step % work.tiles != 0) return step;
  ring.WaitUntilFull();
  ring.Leave();
  ring.Advance();
  return step + 1;
}

// A warpgroup; `group` is 0 or 1.
template <int kDim>
__device__ __forceinline__ void ComputeKeyGradient(const AttentionArguments& a,
                                                   const KeyGradientWork& work, int group,
                                                   uint8_t* memory) {
  using Layout = KeyGradientLayout<kDim>;
  const uint32_t shared = SharedAddress(memory);
  const auto* statistics = reinterpret_cast<const QueryStatistics*>(memory + Layout::kStatisticsAt);
  KeyGradients<kDim> state(a, work, group, shared);
  Ring<kStages> ring{shared + Layout::kRing};
  WaitBarrier(shared + Layout::kKeysFull, 0);
  int step = SkipHidden(work, group, 0, ring);
  ring.WaitUntilFull();
  PinRegisters(state.s);
  BeginProducts();
  state.StartScores(ring);
  WaitForProducts<0>();
  state.MakeFactors(step, ring, statistics[ring.index]);
  while (step + 1 < work.Steps()) {
    const Ring<kStages> previous = ring;
    ring.Advance();
    step = SkipHidden(work, group, step + 1, ring);
    ring.WaitUntilFull();
    state.PinSums();
    BeginProducts();
    state.StartScores(ring);
    state.StartSums(previous);
    WaitForProducts<1>();
    state.MakeFactors(step, ring, statistics[ring.index]);
    previous.Leave();
  }
  state.PinSums();
  BeginProducts();
  state.StartSums(ring);
  WaitForProducts<0>();
  state.PinSums();
  state.Store();
}

// A stage is full when its tiles have come and each lane has written its statistics.
template <int kDim>
__device__ void InitKeyGradient(uint32_t shared) {
  using Layout = KeyGradientLayout<kDim>;
  Ring<kStages>{shared + Layout::kRing}.Init(1 + kLanes);
  InitBarrier(shared + Layout::kKeysFull, 1);
  PublishBarriers();
}

// A block a (tile of kBlockRows keys, kv head).
template <int kDim>
__global__ void __launch_bounds__(kWgmmaThreads, 1)
    KeyGradientWgmmaKernel(const __grid_constant__ KeyGradientMaps maps,
                           const __grid_constant__ AttentionArguments a) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t wgmma_shared[];
  const int warpgroup = WarpgroupIndex();
  if (threadIdx.x == 0) InitKeyGradient<kDim>(SharedAddress(wgmma_shared));
  __syncthreads();
  const KeyGradientWork work(a);
  if (warpgroup == 0) {
    GiveRegisters<kProducerRegisters>();
    if (threadIdx.x < kLanes) CopyKeyGradient<kDim>(maps, a, work, wgmma_shared);
  } else {
    TakeRegisters<kConsumerRegisters>();
    ComputeKeyGradient<kDim>(a, work, warpgroup - 1, wgmma_shared);
  }
#endif
}

template <int kDim>
cudaError_t Launch(const AttentionArguments& a, cudaStream_t stream) {
  KeyGradientMaps maps{};
  cudaError_t error = MapHeads(&maps.q, a.q, a.tokens, a.heads, kDim, kQueries);
  if (error != cudaSuccess) return error;
  error = MapHeads(&maps.k, a.k, a.tokens, a.kv_heads, kDim, kBlockRows);
  if (error != cudaSuccess) return error;
  error = MapHeads(&maps.v, a.v, a.tokens, a.kv_heads, kDim, kBlockRows);
  if (error != cudaSuccess) return error;
  error = MapHeads(&maps.dout, a.dout, a.tokens, a.heads, kDim, kQueries);
  if (error != cudaSuccess) return error;
  return LaunchWgmma(KeyGradientWgmmaKernel<kDim>, a.kv_heads, KeyGradientLayout<kDim>::kBytes,
                     maps, a, stream);
}

}  // namespace

cudaError_t LaunchWgmmaKeyGradient(const AttentionArguments& a, cudaStream_t stream) {
  return a.head_dim == 64 ? Launch<64>(a, stream) : Launch<128>(a, stream);
}

}  // namespace qft::cuda
