#include "kernels/cuda/critical.cuh"

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/engine.h"

namespace qft::cuda {
namespace {

constexpr int kFeatureTiles = kFactorFeatures / 8;  // of 8 features
constexpr int kTerms = kFactorTerms;
constexpr int kChunk = kFactorChunk;  // codes of a row that a quad of threads loads at once

// A block has rows of dy, kRowTiles of 16, and reads all factors for them. Each of its warps takes
// every kWarps-th chunk of the sum; there are as many as registers allow.
template <int kTiles>
struct ThinShape {
  static constexpr int kRowTiles = kTiles;
  static constexpr int kRows = 16 * kTiles;
  static constexpr int kWarps = kTiles == 2 ? 16 : kTiles == 3 ? 12 : 8;
};

// 16 bytes, read before the next barrier of the warp.
__device__ uint4 LoadNow(const int8_t* p) {
  uint4 v;
  asm volatile("ld.global.v4.u32 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(p)
               : "memory");
  return v;
}

// 16 codes of row r from column k on, zeros behind the ends. kWhole promises that rows are whole
// vectors of 16 aligned codes: then no branch stands between loads, and behind the last row that
// row comes again.
template <bool kWhole>
__device__ uint4 LoadCodes(const Operand& x, int64_t r, int64_t k) {
  const auto* codes = static_cast<const int8_t*>(x.data);
  if constexpr (kWhole) {
    const bool inside = k < x.cols;
    const uint4 loaded = LoadNow(codes + Smaller(r, x.rows - 1) * x.cols + (inside ? k : 0));
    return inside ? loaded : make_uint4(0, 0, 0, 0);
  }
  uint32_t w[4] = {};
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    const bool inside = r < x.rows && k + i < x.cols;
    if (inside) w[i / 4] |= (codes[r * x.cols + k + i] & 0xffu) << (8 * (i % 4));
  }
  return make_uint4(w[0], w[1], w[2], w[3]);
}

__device__ void Mma(int (&d)[4], uint32_t a0, uint32_t a1, uint32_t a2, uint32_t a3, uint32_t b0,
                    uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
}

template <int kRowTiles>
using Sums = int[kRowTiles][kFeatureTiles][kTerms][4];

// Adds the products of a chunk. The order of the summed index within it is free as long as both
// operands have the same: a thread's 16 neighbouring codes serve two mma.
template <int kRowTiles>
__device__ void AddChunk(const uint4 (&rows)[kRowTiles][2],
                         const uint4 (&factors)[kFeatureTiles][kTerms], Sums<kRowTiles>& sums) {
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
    const uint4& low = rows[tile][0];
    const uint4& high = rows[tile][1];
#pragma unroll
    for (int f = 0; f < kFeatureTiles; ++f) {
#pragma unroll
      for (int term = 0; term < kTerms; ++term) {
        const uint4& b = factors[f][term];
        Mma(sums[tile][f][term], low.x, high.x, low.y, high.y, b.x, b.y);
        Mma(sums[tile][f][term], low.z, high.z, low.w, high.w, b.z, b.w);
      }
    }
  }
}

// INT32 sums: of at most a million products a warp.
template <typename Shape, bool kWhole, typename T>
__global__ void __launch_bounds__(32 * Shape::kWarps)
    ThinKernel(Operand dy, CriticalFeatures critical, Factors factors, T* out, int64_t out_cols) {
  constexpr int kRowTiles = Shape::kRowTiles, kRows = Shape::kRows, kWarps = Shape::kWarps;
  constexpr int kFeatures = kFactorFeatures;
  __shared__ float partial[kWarps][kRows][kFeatures];
  const int warp = threadIdx.x / 32;
  const int group = threadIdx.x % 32 / 4;
  const int quad = threadIdx.x % 4;
  const int64_t first_row = int64_t{blockIdx.x} * kRows;
  const int first_feature = static_cast<int>(blockIdx.y) * kFeatures;
  const int8_t* factor = factors.codes + int64_t{first_feature + group} * kTerms * factors.stride;
  Sums<kRowTiles> sums = {};
  for (int64_t k0 = int64_t{warp} * kChunk; k0 < factors.stride; k0 += kWarps * kChunk) {
    const int64_t k = k0 + 16 * quad;
    uint4 rows[kRowTiles][2];
    uint4 terms[kFeatureTiles][kTerms];
#pragma unroll
    for (int i = 0; i < 2 * kRowTiles; ++i) {
      rows[i / 2][i % 2] = LoadCodes<kWhole>(dy, first_row + 8 * i + group, k);
    }
#pragma unroll
    for (int i = 0; i < kFeatureTiles * kTerms; ++i) {
      const int64_t row = 8 * (i / kTerms) * kTerms + i % kTerms;
      terms[i / kTerms][i % kTerms] = LoadNow(factor + row * factors.stride + k);
    }
    // All loads are under way before the first product: without this, the compiler takes turns, to
    // save registers, and waits for each.
    __syncwarp();
    AddChunk(rows, terms, sums);
  }
#pragma unroll
  for (int i = 0; i < kRowTiles * kFeatureTiles * 4; ++i) {
    const int tile = i / 4 / kFeatureTiles;
    const int f = i / 4 % kFeatureTiles;
    float sum = 0.0f;
#pragma unroll
    for (int term = kTerms - 1; term >= 0; --term) {
      sum = __fmaf_rn(sum, 1.0f / kFactorTermSteps, static_cast<float>(sums[tile][f][term][i % 4]));
    }
    partial[warp][16 * tile + group + i % 4 / 2 * 8][8 * f + 2 * quad + i % 2] = sum;
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kRows * kFeatures; i += 32 * kWarps) {
    const int64_t r = first_row + i / kFeatures;
    const int feature = first_feature + i % kFeatures;
    if (r >= dy.rows || feature >= critical.count) continue;
    float sum = partial[0][i / kFeatures][i % kFeatures];
    for (int w = 1; w < kWarps; ++w) sum += partial[w][i / kFeatures][i % kFeatures];
    T& value = out[r * out_cols + critical.columns[feature]];
    value = FromFloat<T>(ToFloat(value) + dy.scales[r] * (factors.scales[feature] * sum));
  }
}

template <typename Shape, typename T>
void LaunchShape(const ThinProblem& p, T* out, cudaStream_t stream) {
  const dim3 blocks(static_cast<unsigned>(CeilDivide(p.dy->rows, Shape::kRows)),
                    static_cast<unsigned>(p.factors.features / kFactorFeatures));
  const bool whole =
      p.dy->cols % 16 == 0 && reinterpret_cast<uintptr_t>(p.dy->data) % sizeof(uint4) == 0;
  WithFlag(whole, [&](auto flag) {
    ThinKernel<Shape, decltype(flag)::value><<<blocks, 32 * Shape::kWarps, 0, stream>>>(
        *p.dy, *p.critical, p.factors, out, p.out->cols);
  });
}

// What the busiest multiprocessor reads, in rows of codes: those of its blocks and, for each block,
// the factors.
template <typename Shape>
int64_t RowsRead(int64_t rows, int multiprocessors) {
  const int64_t blocks = CeilDivide(CeilDivide(rows, Shape::kRows), multiprocessors);
  return blocks * (Shape::kRows + kFactorFeatures * kTerms);
}

}  // namespace

void LaunchThin(const ThinProblem& p, int multiprocessors, cudaStream_t stream) {
  const int64_t two = RowsRead<ThinShape<2>>(p.dy->rows, multiprocessors);
  const int64_t three = RowsRead<ThinShape<3>>(p.dy->rows, multiprocessors);
  const int64_t four = RowsRead<ThinShape<4>>(p.dy->rows, multiprocessors);
  WithElements(*p.out, [&](auto* out) {
    if (two <= three && two <= four) {
      LaunchShape<ThinShape<2>>(p, out, stream);
    } else if (three <= four) {
      LaunchShape<ThinShape<3>>(p, out, stream);
    } else {
      LaunchShape<ThinShape<4>>(p, out, stream);
    }
  });
}

}  // namespace qft::cuda
