#include "kernels/cuda/attention_forward.cuh"
#include "kernels/cuda/engine.h"

namespace qft::cuda {
namespace {

// From here on tiles beat one query at a time.
constexpr int64_t kTiledTokens = 16;

constexpr int kDecodeThreads = 512;
// Keys that a team works on at once.
constexpr int kDecodeKeys = 4;

// Lanes that share a key, 8 features each: a power of two.
constexpr int TeamLanes(int dim) {
  int lanes = 1;
  while (lanes * kVector < dim) lanes *= 2;
  return lanes;
}

// Softmax over the keys of a team, in log2 units; each lane sums its 8 features.
struct TeamState {
  float max = -kInfinity;
  float sum = 0.0f;
  float values[kVector] = {};

  __device__ void Raise(float score) {
    const float before = max;
    max = fmaxf(max, score);
    const float factor = exp2f(before - Base());
    sum *= factor;
#pragma unroll
    for (int i = 0; i < kVector; ++i) values[i] *= factor;
  }
  // What to subtract from scores: the maximum, or 0 while there is none.
  __device__ float Base() const {
    return max == -kInfinity ? 0.0f : max;
  }
  __device__ void Add(float score, const float (&value)[kVector]) {
    const float weight = exp2f(score - Base());
    sum += weight;
#pragma unroll
    for (int i = 0; i < kVector; ++i) values[i] = fmaf(weight, value[i], values[i]);
  }
};

// The team's part of the keys: team, team + teams, ... Lanes behind the last feature are idle, but
// take part in the exchange.
__device__ TeamState SumKeys(const AttentionArguments& a, int query, int head, int lanes) {
  const int team = static_cast<int>(threadIdx.x) / lanes, teams = kDecodeThreads / lanes;
  const int feature = static_cast<int>(threadIdx.x) % lanes * kVector;
  const int count = a.head_dim - feature;  // of the lane's features
  const bool active = count > 0;
  const int keys = a.past + query + 1, kv_head = a.KvHead(head);
  float q[kVector] = {};
  if (active) LoadElements(a.q, a.QueryOffset(query, head) + feature, count, q);
  TeamState state;
  for (int first = a.Start(query); first < keys; first += kDecodeKeys * teams) {
    float scores[kDecodeKeys];
#pragma unroll
    for (int u = 0; u < kDecodeKeys; ++u) {
      const int key = first + u * teams + team;
      float k[kVector] = {}, sum = 0.0f;
      if (active && key < keys) LoadElements(a.k, a.KeyOffset(key, kv_head) + feature, count, k);
#pragma unroll
      for (int i = 0; i < kVector; ++i) sum = fmaf(q[i], k[i], sum);
      for (int offset = lanes / 2; offset > 0; offset /= 2) {
        sum += __shfl_xor_sync(kFullWarp, sum, offset);
      }
      scores[u] = key < keys ? sum * a.scale_log2 : -kInfinity;
    }
#pragma unroll
    for (int u = 0; u < kDecodeKeys; ++u) state.Raise(scores[u]);
#pragma unroll
    for (int u = 0; u < kDecodeKeys; ++u) {
      const int key = first + u * teams + team;
      float v[kVector] = {};
      if (active && key < keys) LoadElements(a.v, a.KeyOffset(key, kv_head) + feature, count, v);
      state.Add(scores[u], v);
    }
  }
  return state;
}

// A block a (head, query). Teams of `lanes` threads share the keys; their sums come together in
// order. Shared memory: per team its maximum, its sum and head_dim values.
__global__ void __launch_bounds__(kDecodeThreads)
    DecodeKernel(const AttentionArguments a, int lanes) {
  const int head = static_cast<int>(blockIdx.x), query = static_cast<int>(blockIdx.y);
  const int team = static_cast<int>(threadIdx.x) / lanes, teams = kDecodeThreads / lanes;
  const int feature = static_cast<int>(threadIdx.x) % lanes * kVector;
  float* maxima = reinterpret_cast<float*>(SharedMemory());
  float *totals = maxima + teams, *values = totals + teams;
  const TeamState state = SumKeys(a, query, head, lanes);
  if (feature == 0) {
    maxima[team] = state.max;
    totals[team] = state.sum;
  }
  for (int i = 0; i < kVector && feature + i < a.head_dim; ++i) {
    values[team * a.head_dim + feature + i] = state.values[i];
  }
  __syncthreads();
  const int column = 2 * static_cast<int>(threadIdx.x);
  if (column >= a.head_dim) return;
  float max = -kInfinity;
  for (int i = 0; i < teams; ++i) max = fmaxf(max, maxima[i]);
  const float base = max == -kInfinity ? 0.0f : max;
  float sum = 0.0f, even = 0.0f, odd = 0.0f;
  for (int i = 0; i < teams; ++i) {
    const float factor = exp2f(maxima[i] - base);
    sum = fmaf(factor, totals[i], sum);
    even = fmaf(factor, values[i * a.head_dim + column], even);
    odd = fmaf(factor, values[i * a.head_dim + column + 1], odd);
  }
  StorePair(a.out, a.QueryOffset(query, head) + column, even / sum, odd / sum);
}

cudaError_t LaunchDecode(const AttentionArguments& a, cudaStream_t stream) {
  const int lanes = TeamLanes(a.head_dim);
  const size_t shared = static_cast<size_t>(kDecodeThreads / lanes) * (a.head_dim + 2);
  const dim3 grid(static_cast<unsigned>(a.heads), static_cast<unsigned>(a.tokens));
  return LaunchKernel(DecodeKernel, grid, kDecodeThreads, shared * sizeof(float), stream, a, lanes);
}

}  // namespace

void CudaEngine::AttentionDecode(const AttentionShape& shape, int64_t past,
                                 const int32_t* first_seen, const Matrix& q, const Matrix& k_cache,
                                 const Matrix& v_cache, const Matrix& out) {
  if (!AttentionSupports(shape)) return Fail(kAttentionUnsupported);
  for (const Matrix* matrix : {&q, &k_cache, &v_cache, &out}) {
    if (!IsFloating(*matrix)) return Fail(kAttentionDTypeUnsupported);
  }
  if (shape.tokens == 0) return;
  AttentionArguments a = MakeAttentionArguments(shape, q, k_cache, v_cache, out);
  a.past = static_cast<int>(past);
  a.document_start = first_seen;
  const cudaError_t error = shape.tokens < kTiledTokens
                                ? LaunchDecode(a, stream_)
                                : LaunchAttentionForward(a, architecture_, stream_);
  if (!Check(error, "attention decode")) return;
  CheckLaunch("attention decode");
}

}  // namespace qft::cuda
