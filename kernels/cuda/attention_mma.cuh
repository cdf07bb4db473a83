// Pieces of the attention kernels for tensor cores: bf16 tiles in shared memory, their products in
// the fragments of MultiplyAdd, and which keys the queries of a warp see.
//
// A tile of n rows of kDim elements takes n * kDim * 2 bytes; the 16-byte chunks of row r are
// permuted by r % 8, so that eight rows of one column of chunks lie in different banks. Heads may
// have fewer features than a tile has columns, an even number; the others are zeros.
#pragma once

#include "kernels/cuda/attention_common.cuh"

namespace qft::cuda {

// Rows of a score tile that a warp owns (and a multiple of them where it owns several).
inline constexpr int kMmaRows = 16;

__device__ inline int Lane() {
  return static_cast<int>(threadIdx.x) % 32;
}
__device__ inline int Warp() {
  return static_cast<int>(threadIdx.x) / 32;
}
// Row (and that row + 8) and first of two columns that the lane holds of a fragment of c.
__device__ inline int FragmentRow() {
  return Lane() / 4;
}
__device__ inline int FragmentColumn() {
  return Lane() % 4 * 2;
}

template <int kDim>
__host__ __device__ constexpr uint32_t TileBytes(int rows) {
  return static_cast<uint32_t>(rows) * kDim * sizeof(BFloat16);
}

// Of the 16-byte chunk `chunk` of row `row`; tiles begin at multiples of kSharedAlignment. Chunk
// chunk + 2 n, where chunk < 2, is at that address with n << 5 flipped: one instruction, so that
// the addresses of a loop's steps need no registers each.
template <int kDim>
__device__ inline uint32_t ChunkAddress(uint32_t tile, int row, int chunk) {
  return tile + TileBytes<kDim>(row) + (static_cast<uint32_t>(chunk ^ (row % 8)) << 4);
}
__device__ inline uint32_t SkipChunkPairs(uint32_t address, int pairs) {
  return address ^ static_cast<uint32_t>(pairs) << 5;
}

// Features of a head: kDim, so that a compiler knows them, or, where kPart, fewer.
template <int kDim, bool kPart>
__device__ inline int Features(const AttentionArguments& a) {
  return kPart ? a.head_dim : kDim;
}

// Begins to copy a chunk of a row of `features`, zeros behind the first `count` of the chunk. Where
// whole chunks make a row, all are aligned to 16 bytes; else they begin where a pair may.
__device__ inline void CopyChunk(uint32_t to, const BFloat16* from, int features, int count) {
  if (features % kVector == 0) return CopyAsync16(to, from, count > 0);
#pragma unroll
  for (int i = 0; i < kVector; i += 2) CopyAsync4(to + 2 * i, from + i, i < count);
}

// Begins to copy rows [first, first + kRows) of `from`, `features` of each, to the tile; zeros
// behind them and from row `end` on. All threads of the block.
template <int kDim, int kRows, int kThreads>
__device__ inline void CopyTile(const BFloat16* from, int64_t stride, int features, int first,
                                int end, uint32_t tile) {
  constexpr int kChunks = kDim / kVector;
  constexpr int kRowStep = kThreads / kChunks;
  static_assert(kRowStep % 8 == 0 && kRows % kRowStep == 0);
  const int row = static_cast<int>(threadIdx.x) / kChunks;
  const int chunk = static_cast<int>(threadIdx.x) % kChunks;
  const uint32_t to = ChunkAddress<kDim>(tile, row, chunk);
  const BFloat16* source = from + (first + row) * stride + chunk * kVector;
  const int count = features - chunk * kVector;
#pragma unroll
  for (int i = 0; i < kRows; i += kRowStep) {
    CopyChunk(to + TileBytes<kDim>(i), source, features, first + row + i < end ? count : 0);
    source += kRowStep * stride;
  }
}

// Adds a * b^T to c: a the kRowTiles * 16 rows of a tile from `a_row` on, a multiple of 8, b the
// first kColumns rows of a tile.
template <int kDim, int kRowTiles, int kColumns>
__device__ inline void MultiplyTransposed(uint32_t a, int a_row, uint32_t b,
                                          float (&c)[kRowTiles][kColumns / 8][4]) {
  const int lane = Lane();
  const uint32_t a_begin = ChunkAddress<kDim>(a, a_row + lane % 16, lane / 16);
  const uint32_t b_begin = ChunkAddress<kDim>(b, lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    uint32_t left[kRowTiles][4];
    const uint32_t a_address = SkipChunkPairs(a_begin, step);
    const uint32_t b_address = SkipChunkPairs(b_begin, step);
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) LoadMatrices(a_address + TileBytes<kDim>(16 * i), left[i]);
#pragma unroll
    for (int j = 0; j < kColumns / 16; ++j) {
      uint32_t right[4];
      LoadMatrices(b_address + TileBytes<kDim>(16 * j), right);
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
        MultiplyAdd(left[i], right[0], right[1], c[i][2 * j]);
        MultiplyAdd(left[i], right[2], right[3], c[i][2 * j + 1]);
      }
    }
  }
}

// The same with the 16 rows of a in registers.
template <int kDim, int kColumns>
__device__ inline void MultiplyTransposed(const uint32_t (&a)[kDim / 16][4], uint32_t b,
                                          float (&c)[kColumns / 8][4]) {
  const int lane = Lane();
  const uint32_t b_begin = ChunkAddress<kDim>(b, lane % 8 + lane / 16 * 8, lane / 8 % 2);
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    const uint32_t b_address = SkipChunkPairs(b_begin, step);
#pragma unroll
    for (int j = 0; j < kColumns / 16; ++j) {
      uint32_t right[4];
      LoadMatrices(b_address + TileBytes<kDim>(16 * j), right);
      MultiplyAdd(a[step], right[0], right[1], c[2 * j]);
      MultiplyAdd(a[step], right[2], right[3], c[2 * j + 1]);
    }
  }
}

// Adds a * b to c: a [kRowTiles * 16, kRows] in registers, b the first kRows rows of a tile.
template <int kDim, int kRowTiles, int kRows>
__device__ inline void Multiply(const uint32_t (&a)[kRowTiles][kRows / 16][4], uint32_t b,
                                float (&c)[kRowTiles][kDim / 8][4]) {
  const uint32_t b_begin = ChunkAddress<kDim>(b, Lane() % 16, Lane() / 16);
#pragma unroll
  for (int j = 0; j < kDim / 16; ++j) {
    const uint32_t b_address = SkipChunkPairs(b_begin, j);
#pragma unroll
    for (int step = 0; step < kRows / 16; ++step) {
      uint32_t right[4];
      LoadMatricesTransposed(b_address + TileBytes<kDim>(16 * step), right);
#pragma unroll
      for (int i = 0; i < kRowTiles; ++i) {
        MultiplyAdd(a[i][step], right[0], right[1], c[i][2 * j]);
        MultiplyAdd(a[i][step], right[2], right[3], c[i][2 * j + 1]);
      }
    }
  }
}

__device__ inline uint32_t PackPair(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const uint32_t&>(pair);
}

// Fragments of c [16, kColumns] as fragments of a [16, kColumns].
template <int kColumns>
__device__ inline void Pack(const float (&c)[kColumns / 8][4], uint32_t (&a)[kColumns / 16][4]) {
#pragma unroll
  for (int step = 0; step < kColumns / 16; ++step) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const float(&from)[4] = c[2 * step + half];
      a[step][2 * half] = PackPair(from[0], from[1]);
      a[step][2 * half + 1] = PackPair(from[2], from[3]);
    }
  }
}

// The lane's part of the first `features` of one row of c (half 0: FragmentRow(), 1: that + 8),
// times `factor`, to x from `offset` on.
template <int kDim>
__device__ inline void StoreFragmentRow(const float (&c)[kDim / 8][4], int half, float factor,
                                        int features, const Elements& x, int64_t offset) {
#pragma unroll
  for (int j = 0; j < kDim / 8; ++j) {
    if (8 * j + FragmentColumn() >= features) continue;
    StorePair(x, offset + 8 * j + FragmentColumn(), c[j][2 * half] * factor,
              c[j][2 * half + 1] * factor);
  }
}

// Rows first .. first + 15 of `from`, `features` of each, as fragments of a; zeros behind them and
// from row `end` on.
template <int kDim>
__device__ inline void LoadFragments(const BFloat16* from, int64_t stride, int features, int first,
                                     int end, uint32_t (&a)[kDim / 16][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + FragmentRow() + 8 * half;
    const BFloat16* source = from + row * stride + FragmentColumn();
#pragma unroll
    for (int step = 0; step < kDim / 16; ++step) {
#pragma unroll
      for (int side = 0; side < 2; ++side) {
        const int column = 16 * step + 8 * side;
        const bool inside = row < end && column + FragmentColumn() < features;
        a[step][2 * side + half] = inside ? *reinterpret_cast<const uint32_t*>(source + column) : 0;
      }
    }
  }
}

// What the lane knows of its two queries.
struct QueryPair {
  int query;  // and that + 8
  float lse_log2[2];
  float delta[2];

  __device__ QueryPair(const AttentionArguments& a, int first, int head)
      : query(first + FragmentRow()) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64_t at = a.StatisticOffset(min(query + 8 * half, a.tokens - 1), head);
      lse_log2[half] = a.log_sum_exp[at] * kLog2E;
      delta[half] = a.delta[at];
    }
  }
};

// Over the four lanes that share a row of c.
__device__ inline float MaxOverQuad(float x) {
  x = fmaxf(x, __shfl_xor_sync(kFullWarp, x, 1));
  return fmaxf(x, __shfl_xor_sync(kFullWarp, x, 2));
}

__device__ inline float SumOverQuad(float x) {
  x += __shfl_xor_sync(kFullWarp, x, 1);
  return x + __shfl_xor_sync(kFullWarp, x, 2);
}

// Keys that some, and that all, of a warp's queries see.
struct WarpWindow {
  int some_begin;
  int some_end;
  int all_begin;
  int all_end;

  // Queries [first, first + count), as far as there are so many.
  __device__ WarpWindow(const AttentionArguments& a, int first, int count) {
    if (first >= a.tokens) {
      some_begin = some_end = all_begin = all_end = 0;
      return;
    }
    const int last = min(first + count, a.tokens) - 1;
    some_begin = a.Start(first);
    some_end = a.past + last + 1;
    all_begin = a.Start(last);
    all_end = a.past + first + 1;
  }
  __device__ bool Sees(int key, int count) const {
    return key < some_end && key + count > some_begin;
  }
  __device__ bool SeesAll(int key, int count) const {
    return key >= all_begin && key + count <= all_end;
  }
};

}  // namespace qft::cuda
