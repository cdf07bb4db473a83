// The part of a tile that a warp of the mma.sync kernel holds: its operands' fragments, and what
// becomes of its sums. 2 x 4 warps share a tile of 128 rows; each holds 64 rows of it, as four
// times the 16 of an mma, and a quarter of its columns, in groups of 8.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_tile.cuh"

namespace qft::cuda {

inline constexpr int kMmaThreads = 256;
inline constexpr int kTileRows = 128;
inline constexpr int kWarpRows = 64;
inline constexpr int kStageRowBytes = 64;

// Where 16-byte chunk `chunk` of a stage's row lies. Two rows share the 128 bytes of all banks; the
// chunks of each pair of rows are permuted so that one chunk of any eight rows hits all banks.
__host__ __device__ inline int StageOffset(int row, int chunk) {
  return row * kStageRowBytes + ((chunk ^ (row / 2 % 4)) * 16);
}

__device__ inline int WarpRow() {
  return static_cast<int>(threadIdx.x) / 32 / 4 * kWarpRows;
}
template <int kColumns>
__device__ inline int WarpColumn() {
  return static_cast<int>(threadIdx.x) / 32 % 4 * (kColumns / 4);
}

// Four 8 x 16 byte matrices, one row address a lane.
__device__ inline void LoadMatrices(uint32_t address, uint32_t (&r)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

__device__ inline void MultiplyAdd(const uint32_t (&a)[4], const uint32_t* b, int (&d)[4]) {
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Row and chunk of the address that a lane gives ldmatrix: for the 16 x 32 bytes of an mma's a, and
// for two groups of 8 columns of its b.
__host__ __device__ inline int FragmentRowA(int lane) {
  return lane % 16;
}
__host__ __device__ inline int FragmentChunkA(int lane) {
  return lane / 16;
}
__host__ __device__ inline int FragmentRowB(int lane) {
  return lane % 8 + lane / 16 * 8;
}
__host__ __device__ inline int FragmentChunkB(int lane) {
  return lane / 8 % 2;
}

// A warp's operands of one step, 32 bytes of k.
template <int kColumns>
struct Fragments {
  static constexpr int kGroups = kColumns / 32;
  uint32_t a[4][4];
  uint32_t b[kGroups / 2][4];

  // Rows 16 apart are permuted alike, and bit 5 of an offset tells the steps of a stage apart.
  __device__ void Load(const uint8_t* stage, int step) {
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int row = WarpRow() + FragmentRowA(lane);
    const int column = kTileRows + WarpColumn<kColumns>() + FragmentRowB(lane);
    const uint32_t address = SharedAddress(stage);
    const uint32_t rows = address + (StageOffset(row, FragmentChunkA(lane)) ^ (step * 32));
    const uint32_t columns = address + (StageOffset(column, FragmentChunkB(lane)) ^ (step * 32));
#pragma unroll
    for (int i = 0; i < 4; ++i) LoadMatrices(rows + i * 16 * kStageRowBytes, a[i]);
#pragma unroll
    for (int j = 0; j < kGroups / 2; ++j) {
      LoadMatrices(columns + j * 16 * kStageRowBytes, b[j]);
    }
  }

  __device__ void Multiply(int (&sum)[4][kGroups][4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < kGroups; ++j) MultiplyAdd(a[i], b[j / 2] + j % 2 * 2, sum[i][j]);
    }
  }
};

// From a tile's sums to what it leaves in `out`. All threads of the block call every step, in the
// order they stand in. A thread holds, of each 16 x 8 product (i, j), elements e: row
// RowOf(i, e / 2), column ColumnOf(j) + e % 2.
template <int kColumns>
class MmaEpilogue {
 public:
  static constexpr int kGroups = kColumns / 32;
  static constexpr int kWarpColumns = kColumns / 4;
  // Eight words more than the columns: rows of a store's half warp then meet in no bank.
  static constexpr int kStride = kWarpColumns + 8;
  static constexpr int kCriticalStep = 16;
  static constexpr int kStoreBytes = kMmaThreads / 32 * 16 * kStride * 4;
  static constexpr int kCriticalBytes = kCriticalStep * (kTileRows + kColumns) * 4;
  static constexpr int kSharedBytes = kStoreBytes > kCriticalBytes ? kStoreBytes : kCriticalBytes;

  __device__ MmaEpilogue(const IntegerProblem& problem, int64_t row, int64_t column, float* shared)
      : problem_(problem),
        row_(row),
        column_(column),
        shared_(shared),
        lane_(static_cast<int>(threadIdx.x) % 32) {}

  template <typename Sum>
  __device__ void Scale(const Sum (&sum)[4][kGroups][4]) {
    float row_scale[4][2];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      row_scale[i / 2][i % 2] = ScaleOfRow(problem_, row_ + RowOf(i / 2, i % 2));
    }
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
#pragma unroll
      for (int e = 0; e < 2; ++e) {
        const float column_scale = ScaleOfColumn(problem_, column_ + ColumnOf(j) + e);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
          value_[i / 2][j][i % 2 * 2 + e] =
              ScaledSum(row_scale[i / 2][i % 2], column_scale,
                        static_cast<float>(sum[i / 2][j][i % 2 * 2 + e]));
        }
      }
    }
  }

  __device__ void AddOld() {
    if (problem_.out_type == DType::kBF16) {
      AddOld(static_cast<const BFloat16*>(problem_.out));
    } else {
      AddOld(static_cast<const float*>(problem_.out));
    }
  }

  // value = fma(critical_a[row, c], critical_b[column, c], value) for each c in order.
  __device__ void AddCritical() {
    const int count = problem_.critical_count;
    for (int begin = 0; begin < count; begin += kCriticalStep) {
      const int step = static_cast<int>(Smaller(kCriticalStep, count - begin));
      StageCritical(problem_.critical_a, problem_.m, row_, begin, step, kTileRows, shared_);
      StageCritical(problem_.critical_b, problem_.n, column_, begin, step, kColumns,
                    shared_ + kCriticalStep * kTileRows);
      __syncthreads();
      for (int c = 0; c < step; ++c) AddFeature(c);
      __syncthreads();
    }
  }

  __device__ void Store() {
    if (problem_.out_type == DType::kBF16) {
      Store(static_cast<BFloat16*>(problem_.out));
    } else {
      Store(static_cast<float*>(problem_.out));
    }
  }

 private:
  // Within the tile.
  __device__ int RowOf(int i, int half) const {
    return WarpRow() + i * 16 + half * 8 + lane_ / 4;
  }
  __device__ int ColumnOf(int j) const {
    return WarpColumn<kColumns>() + j * 8 + lane_ % 4 * 2;
  }

  template <typename T>
  __device__ void AddOld(const T* out) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const int64_t row = row_ + RowOf(i / 2, i % 2);
      if (row >= problem_.m) continue;
#pragma unroll
      for (int j = 0; j < kGroups; ++j) {
#pragma unroll
        for (int e = 0; e < 2; ++e) {
          const int64_t column = column_ + ColumnOf(j) + e;
          float& value = value_[i / 2][j][i % 2 * 2 + e];
          if (column < problem_.n) {
            value = __fadd_rn(ToFloat(out[row * problem_.n + column]), value);
          }
        }
      }
    }
  }

  // staged[c][r] = critical[first + r, begin + c], zeros behind the last row.
  __device__ void StageCritical(const float* critical, int64_t rows, int64_t first, int begin,
                                int step, int staged_rows, float* staged) const {
    for (int r = static_cast<int>(threadIdx.x); r < staged_rows; r += kMmaThreads) {
      const float* source = critical + (first + r) * problem_.critical_count + begin;
      const bool inside = first + r < rows;
      for (int c = 0; c < step; ++c) staged[c * staged_rows + r] = inside ? source[c] : 0.0f;
    }
  }

  __device__ void AddFeature(int c) {
    const float* a = shared_ + c * kTileRows;
    const float* b = shared_ + kCriticalStep * kTileRows + c * kColumns;
    float row_value[4][2];
#pragma unroll
    for (int i = 0; i < 8; ++i) row_value[i / 2][i % 2] = a[RowOf(i / 2, i % 2)];
#pragma unroll
    for (int j = 0; j < kGroups; ++j) {
      const float2 column_value = *reinterpret_cast<const float2*>(b + ColumnOf(j));
#pragma unroll
      for (int i = 0; i < 8; ++i) {
        float* pair = value_[i / 2][j] + i % 2 * 2;
        pair[0] = fmaf(row_value[i / 2][i % 2], column_value.x, pair[0]);
        pair[1] = fmaf(row_value[i / 2][i % 2], column_value.y, pair[1]);
      }
    }
  }

  // 16 rows at a time through the warp's own shared memory, so that lanes store whole vectors of
  // neighbouring columns.
  template <typename T>
  __device__ void Store(T* out) {
    float* staged = shared_ + static_cast<int>(threadIdx.x) / 32 * 16 * kStride;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
#pragma unroll
      for (int j = 0; j < kGroups; ++j) {
        float* p = staged + lane_ / 4 * kStride + j * 8 + lane_ % 4 * 2;
        *reinterpret_cast<float2*>(p) = make_float2(value_[i][j][0], value_[i][j][1]);
        *reinterpret_cast<float2*>(p + 8 * kStride) = make_float2(value_[i][j][2], value_[i][j][3]);
      }
      __syncwarp();
      StoreRows(staged, row_ + WarpRow() + i * 16, out);
      __syncwarp();
    }
  }

  template <typename T>
  __device__ void StoreRows(const float* staged, int64_t first, T* out) const {
    constexpr int kLanesARow = kWarpColumns / kVector;
    constexpr int kRowsAPass = 32 / kLanesARow;
    const int within = lane_ % kLanesARow * kVector;
    const int64_t column = column_ + WarpColumn<kColumns>() + within;
    if (column >= problem_.n) return;
#pragma unroll
    for (int r = lane_ / kLanesARow; r < 16; r += kRowsAPass) {
      if (first + r >= problem_.m) return;
      float v[kVector];
      Load8(staged + r * kStride, within, kWarpColumns, v);
      Store8(out + (first + r) * problem_.n, column, problem_.n, v);
    }
  }

  const IntegerProblem& problem_;
  const int64_t row_;
  const int64_t column_;
  float* const shared_;
  const int lane_;
  float value_[4][kGroups][4];
};

}  // namespace qft::cuda
