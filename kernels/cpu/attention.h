// Tiled attention as attention.cpp offers it to the ops.
#pragma once

#include <cstdint>

#include "kernels/cpu/layer_util.h"
#include "kernels/ops.h"

namespace qft::QFT_ISA {

// Queries, and keys at most, of a tile; part of the numerics.
inline constexpr int64_t kAttentionTile = 64;

QFT_INLINE bool AttentionSupports(const AttentionShape& shape) {
  return shape.head_dim > 0 && shape.head_dim <= kMostHeadDim && shape.head_dim % 2 == 0;
}
inline constexpr char kAttentionUnsupported[] = "attention: head_dim must be even and at most 256";

// What a tile of queries reads and writes.
struct AttentionInput {
  AttentionShape shape;
  int64_t past;                   // position of query row 0
  const int32_t* document_start;  // [T] or nullptr: all 0
  const float* q;
  const float* k;
  const float* v;
  float* out;
  float* log_sum_exp;  // [heads, T] or nullptr
};

QFT_INLINE int64_t PaddedDim(int64_t dim) {
  return CeilDivide(dim, kLanes) * kLanes;
}

// Floats of scratch for AttendTile.
QFT_INLINE int64_t AttendTileScratch(int64_t head_dim) {
  return kAttentionTile * (4 * PaddedDim(head_dim) + kAttentionTile);
}

// One tile of queries of one head over all the keys it sees.
void AttendTile(const AttentionInput& input, int64_t head, int64_t first_query, float* scratch);

}  // namespace qft::QFT_ISA
