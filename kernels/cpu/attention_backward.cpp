#include "kernels/cpu/attention_tile.h"
#include "kernels/cpu/engine.h"

namespace qft::QFT_ISA {
namespace {

constexpr int64_t kReduceRows = 16;

// How the work is cut; depends on the shape alone. A task is one head and one of two ranges of
// keys, [0, split) and [split, T), about equal in work when every token sees all before it. Each
// task makes dk and dv of its keys and a partial dq; ReduceRows adds the partials in a fixed order.
struct BackwardPlan {
  int64_t split;
  int64_t ranges;
  bool grouped;  // several heads share a kv head: dk and dv are made per head, then summed

  explicit BackwardPlan(const AttentionShape& shape) {
    const int64_t tiles = CeilDivide(shape.tokens, kAttentionTile);
    ranges = tiles >= 4 ? 2 : 1;
    split = ranges == 1 ? shape.tokens : (tiles * 5 + 8) / 16 * kAttentionTile;
    grouped = shape.heads != shape.kv_heads;
  }
  int64_t DqFloats(const AttentionShape& shape) const {
    return (shape.tokens - split) * shape.heads * shape.head_dim;
  }
  int64_t DkFloats(const AttentionShape& shape) const {
    return grouped ? shape.tokens * shape.heads * shape.head_dim : 0;
  }
};

struct BackwardInput {
  AttentionShape shape;
  const int32_t* document_start;
  const float* q;
  const float* k;
  const float* v;
  const float* out;
  const float* log_sum_exp;
  const float* dout;
};

// Where one head's gradients go: row t at base + t * stride. dq's row 0 is the task's first query.
struct HeadGradients {
  float* dq;
  float* dk;
  float* dv;
  int64_t q_stride;
  int64_t kv_stride;
};

// One packed query tile: queries and dout as rows [64][padded] and transposed [padded][64] (queries
// times scale * log2 e), and per query log_sum_exp in log2 units and delta = sum_d dout * out.
struct QueryTile {
  float* q;
  float* q_transposed;
  float* dout;
  float* dout_transposed;
  float* lse;
  float* delta;

  static int64_t Floats(int64_t padded) { return kAttentionTile * (4 * padded + 2); }
  QueryTile(float* base, int64_t tile, int64_t padded) {
    const int64_t part = kAttentionTile * padded;
    q = base + tile * Floats(padded);
    q_transposed = q + part;
    dout = q_transposed + part;
    dout_transposed = dout + part;
    lse = dout_transposed + part;
    delta = lse + kAttentionTile;
  }
};

// Scratch of one task.
struct BackwardScratch {
  float* k;        // [64][padded]
  float* v;        // [64][padded]
  float* dk;       // [64][padded]
  float* dv;       // [64][padded]
  float* scores;   // [64][64], then probabilities
  float* dscores;  // [64][64]
  float* dq;       // [tokens][padded]
  float* tiles;    // QueryTile each

  static int64_t Floats(int64_t tokens, int64_t padded) {
    const int64_t tiles = CeilDivide(tokens, kAttentionTile);
    return kAttentionTile * (4 * padded + 2 * kAttentionTile + tiles * padded) +
           tiles * QueryTile::Floats(padded);
  }
  BackwardScratch(float* base, int64_t query_tiles, int64_t padded) {
    const int64_t part = kAttentionTile * padded, square = kAttentionTile * kAttentionTile;
    k = base;
    v = k + part;
    dk = v + part;
    dv = dk + part;
    scores = dv + part;
    dscores = scores + square;
    dq = dscores + square;
    tiles = dq + query_tiles * part;
  }
};

void PackQueryTile(const BackwardInput& input, int64_t head, int64_t first, const QueryTile& tile) {
  const AttentionShape& shape = input.shape;
  const int64_t dim = shape.head_dim, padded = PaddedDim(dim), stride = shape.heads * dim;
  const int64_t offset = first * stride + head * dim;
  const int64_t count = Smaller(kAttentionTile, shape.tokens - first);
  PackRows(input.q + offset, stride, count, dim, padded, tile.q);
  PackTransposed(tile.q, padded, shape.scale * kLog2E, tile.q_transposed);
  PackRows(input.dout + offset, stride, count, dim, padded, tile.dout);
  PackTransposed(tile.dout, padded, 1.0f, tile.dout_transposed);
  for (int64_t i = 0; i < kAttentionTile; ++i) {
    const bool used = i < count;
    tile.lse[i] = used ? input.log_sum_exp[head * shape.tokens + first + i] * kLog2E : 0.0f;
    tile.delta[i] = used ? Dot(tile.dout + i * padded, input.out + offset + i * stride, dim) : 0.0f;
  }
}

// scores -> probabilities, and dscores (dout . v) -> probability * (dscores - delta). What a query
// does not see becomes zero in both.
template <bool kMasked>
void ScoreGradients(const TileMask& mask, int32_t first_key, int32_t count, const QueryTile& tile,
                    float* scores, float* dscores) {
  for (int group = 0; group < kAttentionTile / kLanes; ++group) {
    const Float16 lse = Load(tile.lse + group * kLanes);
    const Float16 delta = Load(tile.delta + group * kLanes);
    for (int32_t i = 0; i < count; ++i) {
      const int64_t at = i * kAttentionTile + group * kLanes;
      Float16 p = Exp2(Load(scores + at) - lse);
      Float16 ds = p * (Load(dscores + at) - delta);
      if (kMasked) {
        const Int16 visible = mask.Visible(group, first_key + i);
        p = FromBits(Bits(p) & visible);
        ds = FromBits(Bits(ds) & visible);
      }
      Store(scores + at, p);
      Store(dscores + at, ds);
    }
  }
}

// Adds the contributions of one query tile and one key tile to dk, dv and dq.
void BackwardTile(const BackwardInput& input, int64_t first_query, int64_t first_key, int64_t keys,
                  const QueryTile& tile, const BackwardScratch& scratch, float* dq) {
  constexpr int64_t kTile = kAttentionTile;
  const int64_t dim = input.shape.head_dim, padded = PaddedDim(dim);
  const int64_t count = Smaller(kTile, input.shape.tokens - first_query);
  MultiplyTile({scratch.k, padded, 1, tile.q_transposed, kTile, scratch.scores, kTile, dim, false},
               keys, kTile);
  MultiplyTile(
      {scratch.v, padded, 1, tile.dout_transposed, kTile, scratch.dscores, kTile, dim, false}, keys,
      kTile);
  const bool masked = first_key + keys - 1 > first_query ||
                      input.document_start[first_query + count - 1] > first_key;
  TileMask mask;
  if (masked) {
    FillMask(input.document_start, 0, first_query, count, &mask);
    ScoreGradients<true>(mask, first_key, keys, tile, scratch.scores, scratch.dscores);
  } else {
    ScoreGradients<false>(mask, first_key, keys, tile, scratch.scores, scratch.dscores);
  }
  MultiplyTile({scratch.scores, kTile, 1, tile.dout, padded, scratch.dv, padded, count, true}, keys,
               padded);
  MultiplyTile({scratch.dscores, kTile, 1, tile.q, padded, scratch.dk, padded, count, true}, keys,
               padded);
  MultiplyTile({scratch.dscores, 1, kTile, scratch.k, padded, dq, padded, keys, true}, count,
               padded);
}

void StoreScaled(const float* rows, int64_t padded, int64_t count, int64_t dim, float scale,
                 float* to, int64_t stride) {
  for (int64_t r = 0; r < count; ++r) {
    for (int64_t d = 0; d < dim; ++d) to[r * stride + d] = rows[r * padded + d] * scale;
  }
}

// One head and the keys [key_begin, key_end), key_begin a multiple of the tile.
void BackwardRange(const BackwardInput& input, int64_t head, int64_t key_begin, int64_t key_end,
                   const HeadGradients& to, float* scratch_base) {
  const AttentionShape& shape = input.shape;
  const int64_t dim = shape.head_dim, padded = PaddedDim(dim), kv_stride = shape.kv_heads * dim;
  const int64_t kv_column = head / (shape.heads / shape.kv_heads) * dim;
  const int64_t part = kAttentionTile * padded;
  const int64_t first_tile = key_begin / kAttentionTile;
  const int64_t tiles = CeilDivide(shape.tokens, kAttentionTile) - first_tile;
  const BackwardScratch scratch(scratch_base, tiles, padded);
  std::memset(scratch.dq, 0, static_cast<size_t>(tiles * part) * sizeof(float));
  int64_t packed = 0;  // query tiles packed so far
  for (int64_t key = key_begin; key < key_end; key += kAttentionTile) {
    const int64_t keys = Smaller(kAttentionTile, key_end - key);
    const int64_t offset = key * kv_stride + kv_column;
    PackRows(input.k + offset, kv_stride, keys, dim, padded, scratch.k);
    PackRows(input.v + offset, kv_stride, keys, dim, padded, scratch.v);
    std::memset(scratch.dk, 0, static_cast<size_t>(2 * part) * sizeof(float));
    for (int64_t i = key / kAttentionTile - first_tile; i < tiles; ++i) {
      const int64_t query = (first_tile + i) * kAttentionTile;
      if (input.document_start[query] >= key + keys) break;
      const QueryTile tile(scratch.tiles, i, padded);
      for (; packed <= i; ++packed) {
        PackQueryTile(input, head, (first_tile + packed) * kAttentionTile,
                      QueryTile(scratch.tiles, packed, padded));
      }
      BackwardTile(input, query, key, keys, tile, scratch, scratch.dq + i * part);
    }
    StoreScaled(scratch.dk, padded, keys, dim, shape.scale, to.dk + key * to.kv_stride,
                to.kv_stride);
    StoreScaled(scratch.dv, padded, keys, dim, 1.0f, to.dv + key * to.kv_stride, to.kv_stride);
  }
  StoreScaled(scratch.dq, padded, shape.tokens - key_begin, dim, shape.scale, to.dq, to.q_stride);
}

// to[d] = from[0][d] + from[1][d] + ..., the `parts` of them `part_stride` apart.
void SumParts(const float* from, int64_t parts, int64_t part_stride, int64_t dim, float* to) {
  for (int64_t d = 0; d < dim; ++d) {
    float sum = from[d];
    for (int64_t p = 1; p < parts; ++p) sum += from[p * part_stride + d];
    to[d] = sum;
  }
}

void AddRow(const float* from, int64_t cols, float* to) {
  for (int64_t c = 0; c < cols; ++c) to[c] += from[c];
}

}  // namespace

size_t CpuEngine::AttentionBackwardScratch(const AttentionShape& shape) const {
  const BackwardPlan plan(shape);
  return static_cast<size_t>(plan.DqFloats(shape) + 2 * plan.DkFloats(shape)) * sizeof(float);
}

void CpuEngine::AttentionBackward(const AttentionShape& shape, const int32_t* document_start,
                                  const Matrix& q, const Matrix& k, const Matrix& v,
                                  const Matrix& out, const float* log_sum_exp, const Matrix& dout,
                                  const Matrix& dq, const Matrix& dk, const Matrix& dv,
                                  void* scratch) {
  if (!AttentionSupports(shape)) return Fail(kAttentionUnsupported);
  const BackwardInput input{shape,
                            document_start,
                            static_cast<const float*>(q.data),
                            static_cast<const float*>(k.data),
                            static_cast<const float*>(v.data),
                            static_cast<const float*>(out.data),
                            log_sum_exp,
                            static_cast<const float*>(dout.data)};
  const BackwardPlan plan(shape);
  const int64_t dim = shape.head_dim, q_stride = shape.heads * dim;
  const int64_t kv_stride = shape.kv_heads * dim, group = shape.heads / shape.kv_heads;
  float* const dq_out = static_cast<float*>(dq.data);
  float* const dk_out = static_cast<float*>(dk.data);
  float* const dv_out = static_cast<float*>(dv.data);
  float* const dq_partial = static_cast<float*>(scratch);
  float* const dk_heads = plan.grouped ? dq_partial + plan.DqFloats(shape) : dk_out;
  float* const dv_heads = plan.grouped ? dk_heads + plan.DkFloats(shape) : dv_out;
  const size_t bytes =
      static_cast<size_t>(BackwardScratch::Floats(shape.tokens, PaddedDim(dim))) * sizeof(float);

  pool_.ParallelFor(shape.heads * plan.ranges, [&](int64_t task, int worker) {
    float* const worker_scratch = reinterpret_cast<float*>(WorkerScratch(worker, bytes));
    if (worker_scratch == nullptr) return;
    const int64_t head = task / plan.ranges, column = head * dim;
    const bool second = task % plan.ranges == 1;
    const HeadGradients to{(second ? dq_partial : dq_out) + column, dk_heads + column,
                           dv_heads + column, q_stride, q_stride};
    BackwardRange(input, head, second ? plan.split : 0, second ? shape.tokens : plan.split, to,
                  worker_scratch);
  });
  pool_.ParallelFor(CeilDivide(shape.tokens, kReduceRows), [&](int64_t task, int) {
    const int64_t end = Smaller(shape.tokens, (task + 1) * kReduceRows);
    for (int64_t t = task * kReduceRows; t < end; ++t) {
      if (t >= plan.split) {
        AddRow(dq_partial + (t - plan.split) * q_stride, q_stride, dq_out + t * q_stride);
      }
      for (int64_t h = 0; plan.grouped && h < shape.kv_heads; ++h) {
        const int64_t from = t * q_stride + h * group * dim, to = t * kv_stride + h * dim;
        SumParts(dk_heads + from, group, dim, dim, dk_out + to);
        SumParts(dv_heads + from, group, dim, dim, dv_out + to);
      }
    }
  });
}

}  // namespace qft::QFT_ISA
