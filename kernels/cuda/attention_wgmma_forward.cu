// The forward pass of attention by wgmma and TMA, for Hopper (sm_90a).
//
// Each of a block's warpgroups has the scores of the next keys made while it sums the values of
// these, and makes its probabilities while the tensor cores still sum. The two take turns at
// starting products, so that one's probabilities are made while the other's products run.
#include "kernels/cuda/attention_wgmma.cuh"

namespace qft::cuda {
namespace {

constexpr int kKeys = 128;  // of a tile
constexpr int kScores = kKeys / 2;
constexpr int kStages = 2;
constexpr int kFirstTurn = 1;  // the barrier of the first warpgroup's turn

struct ForwardMaps {
  CUtensorMap q;
  CUtensorMap k;
  CUtensorMap v;
};

// Shared memory: queries, the rings of keys and of values, barriers.
template <int kDim>
struct ForwardLayout {
  static constexpr uint32_t kKeyTile = TileBytes<kDim>(kKeys);
  static constexpr uint32_t kKeysAt = TileBytes<kDim>(kBlockRows);
  static constexpr uint32_t kValuesAt = kKeysAt + kStages * kKeyTile;
  static constexpr uint32_t kKeyRing = kValuesAt + kStages * kKeyTile;
  static constexpr uint32_t kValueRing = kKeyRing + Ring<kStages>::kBytes;
  static constexpr uint32_t kQueriesFull = kValueRing + Ring<kStages>::kBytes;
  static constexpr uint32_t kBytes = kQueriesFull + kBarrierBytes;
  static_assert(kBytes <= 227 * 1024);
};

// What a block works on: queries [first, first + kBlockRows) of a head, and the tiles of keys from
// `key` on that any of them sees. The tiles with most keys come first.
struct ForwardWork {
  int head;
  int first;
  int key;
  int tiles;

  __device__ explicit ForwardWork(const AttentionArguments& a)
      : head(static_cast<int>(blockIdx.y)),
        first(static_cast<int>(gridDim.x - 1 - blockIdx.x) * kBlockRows),
        key(a.Start(first)),
        tiles((a.past + min(first + kBlockRows, a.tokens) - key + kKeys - 1) / kKeys) {}
};

// One thread.
template <int kDim>
__device__ __forceinline__ void CopyForward(const ForwardMaps& maps, const AttentionArguments& a,
                                            const ForwardWork& work, uint32_t shared) {
  using Layout = ForwardLayout<kDim>;
  const int kv_column = a.KvHead(work.head) * kDim;
  Ring<kStages> keys{shared + Layout::kKeyRing};
  Ring<kStages> values{shared + Layout::kValueRing};
  ArriveExpecting(shared + Layout::kQueriesFull, TileBytes<kDim>(kBlockRows));
  LoadTile<kDim, kBlockRows>(maps.q, work.head * kDim, work.first, shared,
                             shared + Layout::kQueriesFull);
  for (int i = 0; i < work.tiles; ++i) {
    const int key = work.key + i * kKeys;
    keys.WaitUntilEmpty();
    ArriveExpecting(keys.Full(), Layout::kKeyTile);
    LoadTile<kDim, kKeys>(maps.k, kv_column, key,
                          shared + Layout::kKeysAt + keys.index * Layout::kKeyTile, keys.Full());
    values.WaitUntilEmpty();
    ArriveExpecting(values.Full(), Layout::kKeyTile);
    LoadTile<kDim, kKeys>(maps.v, kv_column, key,
                          shared + Layout::kValuesAt + values.index * Layout::kKeyTile,
                          values.Full());
    keys.Advance();
    values.Advance();
  }
}

// s = -inf where the lane's queries, `query` and that + 8, do not see the key.
__device__ __forceinline__ void MaskScores(const AttentionArguments& a, int query, int first_key,
                                           float (&s)[kScores]) {
  const int key = first_key + FragmentColumn();
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int begin = a.Start(min(query + 8 * half, a.tokens - 1)) - key;
    const int end = a.past + query + 8 * half - key;
#pragma unroll
    for (int i = 2 * half; i < kScores; i += 4) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const int column = i / 4 * 8 + e;
        if (column < begin || column > end) s[i + e] = -kInfinity;
      }
    }
  }
}

// Products -> probabilities, and the factors for what was summed before. The sums of `rows` are of
// the lane's columns.
__device__ __forceinline__ void MakeProbabilities(float scale_log2, RowState (&rows)[2],
                                                  float (&s)[kScores], float (&factor)[2]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    float largest = -kInfinity;
#pragma unroll
    for (int i = 2 * half; i < kScores; i += 4) largest = fmaxf(largest, fmaxf(s[i], s[i + 1]));
    factor[half] = rows[half].Raise(MaxOverQuad(largest) * scale_log2);
    const float base = rows[half].Base();
#pragma unroll
    for (int i = 2 * half; i < kScores; i += 4) {
#pragma unroll
      for (int e = i; e < i + 2; ++e) {
        s[e] = Exp2Fast(fmaf(s[e], scale_log2, -base));
        rows[half].sum += s[e];
      }
    }
  }
}

// A warpgroup's queries as far as their keys have come.
template <int kDim>
struct ForwardRows {
  const AttentionArguments& a;
  const WarpWindow window;
  const int query;  // the lane's first, the other is that + 8
  RowState rows[2];
  float out[kDim / 2] = {};
  uint32_t weights[kKeys / 16][4];

  // Of the warp's queries, from `warp_query` on.
  __device__ ForwardRows(const AttentionArguments& arguments, int warp_query)
      : a(arguments), window(arguments, warp_query, kMmaRows), query(warp_query + FragmentRow()) {}

  // s, the products with keys from `key` on, become probabilities.
  __device__ __forceinline__ void TakeScores(int key, float (&s)[kScores], float (&factor)[2]) {
    if (!window.SeesAll(key, kKeys)) MaskScores(a, query, key, s);
    MakeProbabilities(a.scale_log2, rows, s, factor);
  }
  __device__ __forceinline__ void Rescale(const float (&factor)[2]) {
#pragma unroll
    for (int i = 0; i < kDim / 2; ++i) out[i] *= factor[i / 2 % 2];
  }
  __device__ __forceinline__ void Store(int head) const {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      RowState row = rows[half];
      row.sum = SumOverQuad(row.sum);
      const int own = query + 8 * half;
      if (own >= a.tokens) continue;
      StoreRow(out, half, 1.0f / row.sum, a.out, a.QueryOffset(own, head));
      if (a.log_sum_exp != nullptr && FragmentColumn() == 0) {
        a.log_sum_exp[a.StatisticOffset(own, head)] = row.LogSumExp();
      }
    }
  }
};

// A warpgroup; `group` is 0 or 1. Both go through the same tiles, or they could not take turns.
template <int kDim>
__device__ __forceinline__ void ComputeForward(const AttentionArguments& a, const ForwardWork& work,
                                               int group, uint32_t shared) {
  using Layout = ForwardLayout<kDim>;
  Ring<kStages> keys{shared + Layout::kKeyRing};
  Ring<kStages> values{shared + Layout::kValueRing};
  const uint32_t queries = shared + group * BoxBytes(kGroupRows);
  ForwardRows<kDim> state(a, work.first + group * kGroupRows + WarpInGroup() * kMmaRows);
  float s[kScores];
  float factor[2];
  const auto start_scores = [&] {
    MultiplyFeatures<kDim, kBlockRows, kKeys>(
        queries, shared + Layout::kKeysAt + keys.index * Layout::kKeyTile, s);
    CommitProducts();
  };
  const auto start_sums = [&] {
    MultiplyRows<kDim, kKeys>(state.weights,
                              shared + Layout::kValuesAt + values.index * Layout::kKeyTile, true,
                              state.out);
    CommitProducts();
  };

  if (group == 1) MeetWithoutWaiting(kFirstTurn, 2 * kWarpgroup);
  WaitBarrier(shared + Layout::kQueriesFull, 0);
  keys.WaitUntilFull();
  PinRegisters(s);
  BeginProducts();
  start_scores();
  WaitForProducts<0>();
  PinRegisters(s);
  keys.Leave();
  keys.Advance();
  state.TakeScores(work.key, s, factor);
  PackSums(s, state.weights);
  if (work.tiles > 1) keys.WaitUntilFull();
  for (int i = 1; i < work.tiles; ++i) {
    values.WaitUntilFull();
    Meet(kFirstTurn + group, 2 * kWarpgroup);
    PinRegisters(s);
    PinRegisters(state.out);
    BeginProducts();
    start_scores();
    start_sums();
    MeetWithoutWaiting(kFirstTurn + 1 - group, 2 * kWarpgroup);
    WaitForProducts<1>();
    PinRegisters(s);
    keys.Leave();
    keys.Advance();
    state.TakeScores(work.key + i * kKeys, s, factor);
    // Also where a basic block ends, or ptxas would move all of TakeScores behind the products.
    if (i + 1 < work.tiles) keys.WaitUntilFull();
    WaitForProducts<0>();
    PinRegisters(state.out);
    values.Leave();
    values.Advance();
    PackSums(s, state.weights);
    state.Rescale(factor);
  }
  if (group == 0) Meet(kFirstTurn, 2 * kWarpgroup);
  values.WaitUntilFull();
  PinRegisters(state.out);
  BeginProducts();
  start_sums();
  WaitForProducts<0>();
  PinRegisters(state.out);
  state.Store(work.head);
}

template <int kDim>
__device__ void InitForward(uint32_t shared) {
  using Layout = ForwardLayout<kDim>;
  Ring<kStages>{shared + Layout::kKeyRing}.Init(1);
  Ring<kStages>{shared + Layout::kValueRing}.Init(1);
  InitBarrier(shared + Layout::kQueriesFull, 1);
  PublishBarriers();
}

// A block a (tile of kBlockRows queries, head).
template <int kDim>
__global__ void __launch_bounds__(kWgmmaThreads, 1)
    ForwardWgmmaKernel(const __grid_constant__ ForwardMaps maps,
                       const __grid_constant__ AttentionArguments a) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t wgmma_shared[];
  const uint32_t shared = SharedAddress(wgmma_shared);
  const int warpgroup = WarpgroupIndex();
  if (threadIdx.x == 0) InitForward<kDim>(shared);
  __syncthreads();
  const ForwardWork work(a);
  if (warpgroup == 0) {
    GiveRegisters<kProducerRegisters>();
    if (threadIdx.x == 0) CopyForward<kDim>(maps, a, work, shared);
  } else {
    TakeRegisters<kConsumerRegisters>();
    ComputeForward<kDim>(a, work, warpgroup - 1, shared);
  }
#endif
}

template <int kDim>
cudaError_t Launch(const AttentionArguments& a, cudaStream_t stream) {
  ForwardMaps maps{};
  const int64_t keys = static_cast<int64_t>(a.past) + a.tokens;
  cudaError_t error = MapHeads(&maps.q, a.q, a.tokens, a.heads, kDim, kBlockRows);
  if (error != cudaSuccess) return error;
  error = MapHeads(&maps.k, a.k, keys, a.kv_heads, kDim, kKeys);
  if (error != cudaSuccess) return error;
  error = MapHeads(&maps.v, a.v, keys, a.kv_heads, kDim, kKeys);
  if (error != cudaSuccess) return error;
  return LaunchWgmma(ForwardWgmmaKernel<kDim>, a.heads, ForwardLayout<kDim>::kBytes, maps, a,
                     stream);
}

}  // namespace

cudaError_t LaunchWgmmaForward(const AttentionArguments& a, cudaStream_t stream) {
  return a.head_dim == 64 ? Launch<64>(a, stream) : Launch<128>(a, stream);
}

}  // namespace qft::cuda
