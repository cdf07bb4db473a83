#include "kernels/cpu/attention.h"

#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/engine.h"

namespace qft::QFT_ISA {
namespace {

// Running softmax of a query tile: scores are in units of log2.
struct RunningSoftmax {
  alignas(64) float max[kAttentionTile];
  alignas(64) float sum[kAttentionTile];
  alignas(64) float factor[kAttentionTile];  // what to multiply earlier sums by
};

// Turns `scores` [count][64] into exp2(score - max) for one group of 16 queries and updates the
// running maximum and sum. Returns whether the maximum changed in any lane.
template <bool kMasked>
QFT_INLINE bool SoftmaxGroup(int group, const TileMask& mask, int32_t first_key, int32_t count,
                             float* scores, RunningSoftmax* softmax) {
  float* column = scores + group * kLanes;
  const Float16 old_max = Load(softmax->max + group * kLanes);
  Float16 max = old_max;
  for (int32_t i = 0; i < count; ++i) {
    Float16 s = Load(column + i * kAttentionTile);
    if (kMasked) s = Select(mask.Visible(group, first_key + i), s, Broadcast(kLowestFloat));
    max = MaxOf(s, max);
  }
  const Float16 factor = Exp2(old_max - max);
  Float16 sum = Load(softmax->sum + group * kLanes) * factor;
  for (int32_t i = 0; i < count; ++i) {
    Float16 p = Exp2(Load(column + i * kAttentionTile) - max);
    if (kMasked) p = FromBits(Bits(p) & mask.Visible(group, first_key + i));
    Store(column + i * kAttentionTile, p);
    sum += p;
  }
  Store(softmax->max + group * kLanes, max);
  Store(softmax->sum + group * kLanes, sum);
  Store(softmax->factor + group * kLanes, factor);
  return MaxLaneInt(old_max != max ? BroadcastInt(1) : BroadcastInt(0)) != 0;
}

template <bool kMasked>
bool SoftmaxTile(const TileMask& mask, int32_t first_key, int32_t count, float* scores,
                 RunningSoftmax* softmax) {
  bool changed = false;
  for (int group = 0; group < kAttentionTile / kLanes; ++group) {
    changed |= SoftmaxGroup<kMasked>(group, mask, first_key, count, scores, softmax);
  }
  return changed;
}

// out [dim][64] *= factor per column.
void RescaleColumns(const float* factor, int64_t dim, float* out) {
  Float16 f[4];
  for (int g = 0; g < 4; ++g) f[g] = Load(factor + g * kLanes);
  for (int64_t d = 0; d < dim; ++d) {
    float* row = out + d * kAttentionTile;
    for (int g = 0; g < 4; ++g) Store(row + g * kLanes, Load(row + g * kLanes) * f[g]);
  }
}

// Divides the sums by the softmax's, writes the tile's rows of out and log_sum_exp.
void FinishTile(const AttentionInput& input, int64_t head, int64_t first_query, int64_t count,
                RunningSoftmax* softmax, float* sums, float* rows) {
  const int64_t dim = input.shape.head_dim, padded = PaddedDim(dim);
  for (int g = 0; g < kAttentionTile; g += kLanes) {
    Store(softmax->factor + g, Broadcast(1.0f) / Load(softmax->sum + g));
  }
  RescaleColumns(softmax->factor, padded, sums);
  for (int64_t d = 0; d < padded; d += 16) {
    for (int64_t r = 0; r < kAttentionTile; r += 16) {
      Transpose16(sums + d * kAttentionTile + r, kAttentionTile, rows + r * padded + d, padded);
    }
  }
  for (int64_t i = 0; i < count; ++i) {
    float* to = input.out + ((first_query + i) * input.shape.heads + head) * dim;
    std::memcpy(to, rows + i * padded, static_cast<size_t>(dim) * sizeof(float));
  }
  if (input.log_sum_exp == nullptr) return;
  float* to = input.log_sum_exp + head * input.shape.tokens + first_query;
  for (int64_t i = 0; i < count; ++i) {
    const double max = static_cast<double>(softmax->max[i]) * 0.693147180559945309417;
    to[i] = static_cast<float>(max + LogFixed(static_cast<double>(softmax->sum[i])));
  }
}

}  // namespace

void AttendTile(const AttentionInput& input, int64_t head, int64_t first_query, float* scratch) {
  const AttentionShape& shape = input.shape;
  const int64_t dim = shape.head_dim, padded = PaddedDim(dim);
  const int64_t q_stride = shape.heads * dim, kv_stride = shape.kv_heads * dim;
  const int64_t kv_column = head / (shape.heads / shape.kv_heads) * dim;
  float* rows = scratch;  // queries, then each tile's values, then the result
  float* queries = rows + kAttentionTile * padded;
  float* sums = queries + kAttentionTile * padded;
  float* scores = sums + kAttentionTile * padded;

  const int64_t count = Smaller(kAttentionTile, shape.tokens - first_query);
  TileMask mask;
  FillMask(input.document_start, input.past, first_query, count, &mask);
  PackRows(input.q + first_query * q_stride + head * dim, q_stride, count, dim, padded, rows);
  PackTransposed(rows, padded, shape.scale * kLog2E, queries);

  RunningSoftmax softmax;
  for (int i = 0; i < kAttentionTile; ++i) softmax.max[i] = kLowestFloat;
  std::memset(softmax.sum, 0, sizeof(softmax.sum));
  std::memset(sums, 0, static_cast<size_t>(kAttentionTile * padded) * sizeof(float));

  const int64_t first_position = mask.position[0];
  const int64_t first_start = mask.start[0], last_start = mask.start[count - 1];
  const int64_t key_end = mask.position[count - 1] + 1;
  for (int64_t key = first_start; key < key_end;) {
    const int64_t tile_end = (key / kAttentionTile + 1) * kAttentionTile;
    const int64_t keys = Smaller(tile_end, key_end) - key;
    const float* k = input.k + key * kv_stride + kv_column;
    MultiplyTile({k, kv_stride, 1, queries, kAttentionTile, scores, kAttentionTile, dim, false},
                 keys, kAttentionTile);
    const bool masked = key + keys - 1 > first_position || last_start > key;
    const bool changed = masked ? SoftmaxTile<true>(mask, key, keys, scores, &softmax)
                                : SoftmaxTile<false>(mask, key, keys, scores, &softmax);
    if (changed && key > first_start) RescaleColumns(softmax.factor, padded, sums);
    PackRows(input.v + key * kv_stride + kv_column, kv_stride, keys, dim, padded, rows);
    MultiplyTile({rows, 1, padded, scores, kAttentionTile, sums, kAttentionTile, keys, true}, dim,
                 kAttentionTile);
    key += keys;
  }
  FinishTile(input, head, first_query, count, &softmax, sums, rows);
}

void CpuEngine::AttentionForward(const AttentionShape& shape, const int32_t* document_start,
                                 const Matrix& q, const Matrix& k, const Matrix& v,
                                 const Matrix& out, float* log_sum_exp) {
  if (!AttentionSupports(shape)) return Fail(kAttentionUnsupported);
  const AttentionInput input{shape,
                             0,
                             document_start,
                             static_cast<const float*>(q.data),
                             static_cast<const float*>(k.data),
                             static_cast<const float*>(v.data),
                             static_cast<float*>(out.data),
                             log_sum_exp};
  const int64_t tiles = CeilDivide(shape.tokens, kAttentionTile);
  const size_t bytes = static_cast<size_t>(AttendTileScratch(shape.head_dim)) * sizeof(float);
  // The longest tiles first, so that no worker is left with one at the end.
  pool_.ParallelFor(tiles * shape.heads, [&](int64_t task, int worker) {
    float* const scratch = reinterpret_cast<float*>(WorkerScratch(worker, bytes));
    if (scratch == nullptr) return;
    const int64_t tile = tiles - 1 - task / shape.heads;
    AttendTile(input, task % shape.heads, tile * kAttentionTile, scratch);
  });
}

}  // namespace qft::QFT_ISA
