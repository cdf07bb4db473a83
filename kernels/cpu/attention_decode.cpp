#include "kernels/cpu/attention.h"
#include "kernels/cpu/engine.h"

namespace qft::QFT_ISA {
namespace {

// From here on tiles beat one query at a time.
constexpr int64_t kTiledTokens = 8;

// scores[i] -> exp2(scores[i] - max); returns their sum.
float Softmax(int64_t count, float* scores) {
  float max = kLowestFloat;
  for (int64_t i = 0; i < count; ++i) max = scores[i] > max ? scores[i] : max;
  const Float16 offset = Broadcast(max);
  Float16 sum = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    const Float16 p = Exp2(Load(scores + i) - offset);
    Store(scores + i, p);
    sum += p;
  }
  float total = Sum(sum);
  for (; i < count; ++i) {
    scores[i] = Exp2(Broadcast(scores[i] - max))[0];
    total += scores[i];
  }
  return total;
}

// out[0 .. 16 groups) = factor * sum of weights[i] * rows[i]
template <int kGroups>
void WeightedColumns(const float* weights, const float* rows, int64_t stride, int64_t count,
                     float factor, float* out) {
  Float16 sum[kGroups] = {};
  for (int64_t i = 0; i < count; ++i) {
    const Float16 weight = Broadcast(weights[i]);
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) {
      sum[g] = Fma(weight, Load(rows + i * stride + g * kLanes), sum[g]);
    }
  }
#pragma GCC unroll 4
  for (int g = 0; g < kGroups; ++g) Store(out + g * kLanes, sum[g] * Broadcast(factor));
}

void WeightedRows(const float* weights, const float* rows, int64_t stride, int64_t count,
                  int64_t dim, float factor, float* out) {
  int64_t d = 0;
  for (; d + 4 * kLanes <= dim; d += 4 * kLanes) {
    WeightedColumns<4>(weights, rows + d, stride, count, factor, out + d);
  }
  for (; d + kLanes <= dim; d += kLanes) {
    WeightedColumns<1>(weights, rows + d, stride, count, factor, out + d);
  }
  if (d == dim) return;
  Float16 sum = {};
  for (int64_t i = 0; i < count; ++i) {
    sum = Fma(Broadcast(weights[i]), LoadPartial(rows + i * stride + d, dim - d), sum);
  }
  StorePartial(out + d, sum * Broadcast(factor), dim - d);
}

void AttendOne(const AttentionInput& input, int64_t head, int64_t query, float* scores) {
  const AttentionShape& shape = input.shape;
  const int64_t dim = shape.head_dim, stride = shape.kv_heads * dim;
  const int64_t kv_column = head / (shape.heads / shape.kv_heads) * dim;
  const int64_t row = (query * shape.heads + head) * dim;
  const int64_t first = input.document_start != nullptr ? input.document_start[query] : 0;
  const int64_t keys = input.past + query + 1 - first;
  const float* const k = input.k + first * stride + kv_column;
  const float* const v = input.v + first * stride + kv_column;
  const float factor = shape.scale * kLog2E;
  for (int64_t i = 0; i < keys; ++i) {
    scores[i] = Dot(input.q + row, k + i * stride, dim) * factor;
  }
  const float sum = Softmax(keys, scores);
  WeightedRows(scores, v, stride, keys, dim, 1.0f / sum, input.out + row);
}

}  // namespace

void CpuEngine::AttentionDecode(const AttentionShape& shape, int64_t past,
                                const int32_t* first_seen, const Matrix& q, const Matrix& k_cache,
                                const Matrix& v_cache, const Matrix& out) {
  if (!AttentionSupports(shape)) return Fail(kAttentionUnsupported);
  const AttentionInput input{shape,
                             past,
                             first_seen,
                             static_cast<const float*>(q.data),
                             static_cast<const float*>(k_cache.data),
                             static_cast<const float*>(v_cache.data),
                             static_cast<float*>(out.data),
                             nullptr};
  const bool tiled = shape.tokens >= kTiledTokens;
  const int64_t step = tiled ? kAttentionTile : 1;
  const int64_t floats = tiled ? AttendTileScratch(shape.head_dim) : past + shape.tokens;
  const size_t bytes = static_cast<size_t>(floats) * sizeof(float);
  pool_.ParallelFor(CeilDivide(shape.tokens, step) * shape.heads, [&](int64_t task, int worker) {
    float* const scratch = reinterpret_cast<float*>(WorkerScratch(worker, bytes));
    if (scratch == nullptr) return;
    const int64_t head = task % shape.heads, query = task / shape.heads * step;
    if (tiled) {
      AttendTile(input, head, query, scratch);
    } else {
      AttendOne(input, head, query, scratch);
    }
  });
}

}  // namespace qft::QFT_ISA
