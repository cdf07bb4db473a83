// Pieces of tiled attention shared by forward and backward. A tile is 64 queries by at most
// 64 keys, scores lie transposed ([key][query]) so that the softmax runs over lanes without
// shuffles. Every output element is one chain of Fma in a fixed order, however it is blocked.
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cpu/attention.h"
#include "kernels/cpu/layer_util.h"

namespace qft::QFT_ISA {

#if defined(__AVX512F__)
using Register = Float16;
inline constexpr int kRegisterLanes = 16;
inline constexpr int kBlockRegisters = 4;
QFT_INLINE Register LoadRegister(const float* p) {
  return Load(p);
}
QFT_INLINE void StoreRegister(float* p, Register v) {
  Store(p, v);
}
QFT_INLINE Register FmaRegister(float a, Register b, Register c) {
  return Fma(Broadcast(a), b, c);
}
#elif defined(__AVX2__)
using Register = __m256;
inline constexpr int kRegisterLanes = 8;
inline constexpr int kBlockRegisters = 2;
QFT_INLINE Register LoadRegister(const float* p) {
  return _mm256_loadu_ps(p);
}
QFT_INLINE void StoreRegister(float* p, Register v) {
  _mm256_storeu_ps(p, v);
}
QFT_INLINE Register FmaRegister(float a, Register b, Register c) {
  return _mm256_fmadd_ps(_mm256_set1_ps(a), b, c);
}
#else
using Register = float;
inline constexpr int kRegisterLanes = 1;
inline constexpr int kBlockRegisters = 4;
QFT_INLINE Register LoadRegister(const float* p) {
  return *p;
}
QFT_INLINE void StoreRegister(float* p, Register v) {
  *p = v;
}
QFT_INLINE Register FmaRegister(float a, Register b, Register c) {
  return __builtin_fmaf(a, b, c);
}
#endif

inline constexpr int kBlockRows = 6;

// The operands of c (+)= a * b: a(m, k) = a[m * a_row + k * a_depth], b(k, n) = b[k * b_stride +
// n].
struct TileProduct {
  const float* a;
  int64_t a_row;
  int64_t a_depth;
  const float* b;
  int64_t b_stride;
  float* c;
  int64_t c_stride;
  int64_t depth;
  bool accumulate;
};

template <int kRows, int kRegisters>
static void MultiplyBlock(const TileProduct& p, int64_t row, int64_t column) {
  float* c = p.c + row * p.c_stride + column;
  Register sum[kRows][kRegisters] = {};
  if (p.accumulate) {
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 8
      for (int n = 0; n < kRegisters; ++n) {
        sum[m][n] = LoadRegister(c + m * p.c_stride + n * kRegisterLanes);
      }
    }
  }
  const float* a = p.a + row * p.a_row;
  const float* b = p.b + column;
  for (int64_t k = 0; k < p.depth; ++k) {
    Register right[kRegisters];
#pragma GCC unroll 8
    for (int n = 0; n < kRegisters; ++n) right[n] = LoadRegister(b + n * kRegisterLanes);
#pragma GCC unroll 8
    for (int m = 0; m < kRows; ++m) {
      const float left = a[m * p.a_row];
#pragma GCC unroll 8
      for (int n = 0; n < kRegisters; ++n) sum[m][n] = FmaRegister(left, right[n], sum[m][n]);
    }
    a += p.a_depth;
    b += p.b_stride;
  }
#pragma GCC unroll 8
  for (int m = 0; m < kRows; ++m) {
#pragma GCC unroll 8
    for (int n = 0; n < kRegisters; ++n) {
      StoreRegister(c + m * p.c_stride + n * kRegisterLanes, sum[m][n]);
    }
  }
}

template <int kRegisters>
static void MultiplyColumns(const TileProduct& p, int64_t rows, int64_t column) {
  int64_t row = 0;
  for (; row + kBlockRows <= rows; row += kBlockRows) {
    MultiplyBlock<kBlockRows, kRegisters>(p, row, column);
  }
  switch (rows - row) {
    case 5:
      return MultiplyBlock<5, kRegisters>(p, row, column);
    case 4:
      return MultiplyBlock<4, kRegisters>(p, row, column);
    case 3:
      return MultiplyBlock<3, kRegisters>(p, row, column);
    case 2:
      return MultiplyBlock<2, kRegisters>(p, row, column);
    case 1:
      return MultiplyBlock<1, kRegisters>(p, row, column);
    default:
      return;
  }
}

// `columns` is a multiple of 16.
static void MultiplyTile(const TileProduct& p, int64_t rows, int64_t columns) {
  constexpr int64_t kStep = kBlockRegisters * kRegisterLanes;
  int64_t column = 0;
  for (; column + kStep <= columns; column += kStep) {
    MultiplyColumns<kBlockRegisters>(p, rows, column);
  }
#if defined(__AVX512F__)
  switch ((columns - column) / kRegisterLanes) {
    case 3:
      return MultiplyColumns<3>(p, rows, column);
    case 2:
      return MultiplyColumns<2>(p, rows, column);
    case 1:
      return MultiplyColumns<1>(p, rows, column);
    default:
      return;
  }
#endif
}

// Which keys each of a tile's queries sees: document_start <= key <= position. Lanes without a
// query see none.
struct TileMask {
  alignas(64) int32_t position[kAttentionTile];
  alignas(64) int32_t start[kAttentionTile];

  QFT_INLINE Int16 LoadLanes(const int32_t* p) {
    Int16 v;
    std::memcpy(&v, p, sizeof(v));
    return v;
  }
  // All ones where lane group `group` of 16 queries sees `key`.
  __attribute__((always_inline)) Int16 Visible(int group, int32_t key) const {
    const Int16 k = BroadcastInt(key);
    return (LoadLanes(position + group * kLanes) >= k) & (LoadLanes(start + group * kLanes) <= k);
  }
};

// Queries first .. first + count - 1 at positions past + query; document_start may be nullptr (all
// 0).
static void FillMask(const int32_t* document_start, int64_t past, int64_t first, int64_t count,
                     TileMask* mask) {
  for (int64_t i = 0; i < kAttentionTile; ++i) {
    mask->position[i] = i < count ? static_cast<int32_t>(past + first + i) : -1;
    mask->start[i] = i < count && document_start != nullptr ? document_start[first + i] : 0;
  }
}

// rows [count][dim] of `stride` -> out [64][padded]; rows and columns beyond are zero.
static void PackRows(const float* rows, int64_t stride, int64_t count, int64_t dim, int64_t padded,
                     float* out) {
  for (int64_t r = 0; r < kAttentionTile; ++r) {
    float* to = out + r * padded;
    const int64_t used = r < count ? dim : 0;
    if (used > 0) std::memcpy(to, rows + r * stride, static_cast<size_t>(used) * sizeof(float));
    std::memset(to + used, 0, static_cast<size_t>(padded - used) * sizeof(float));
  }
}

// packed [64][padded] -> out [padded][64], times `factor`.
static void PackTransposed(const float* packed, int64_t padded, float factor, float* out) {
  for (int64_t d = 0; d < padded; d += 16) {
    for (int64_t r = 0; r < kAttentionTile; r += 16) {
      Transpose16(packed + r * padded + d, padded, out + d * kAttentionTile + r, kAttentionTile);
    }
  }
  const Float16 scale = Broadcast(factor);
  for (int64_t i = 0; i < padded * kAttentionTile; i += kLanes) {
    Store(out + i, Load(out + i) * scale);
  }
}

}  // namespace qft::QFT_ISA
