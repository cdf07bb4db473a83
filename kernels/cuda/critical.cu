#include "kernels/cuda/critical.cuh"

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/engine.h"

namespace qft::cuda {
namespace {

constexpr int kWarps = 16;    // of a block; each takes every sixteenth chunk of the sum
constexpr int kRowTiles = 2;  // of 16 rows
constexpr int kRows = 16 * kRowTiles;
constexpr int kChunk = 64;        // codes of a row that a quad of threads loads at once
constexpr int kFeatureTiles = 2;  // of 8 features
constexpr int kFeatures = 8 * kFeatureTiles;
constexpr int kTerms = 3;             // codes of a factor
constexpr float kTermSteps = 254.0f;  // steps of a term in one of the term before
constexpr int kFactorThreads = 1024;
constexpr int kHeld = 12;  // factors that a thread keeps between finding their largest and rounding

int64_t PaddedLength(const ThinProblem& p) {
  return RoundUp(p.dy->cols, kChunk);
}
int64_t PaddedFeatures(const ThinProblem& p) {
  return RoundUp(p.critical->count, kFeatures);
}

// The factors of a product as codes: factor(f, i) = scales[f] * (t0 + (t1 + t2 / kTermSteps) /
// kTermSteps), to 23 bits of the feature's largest. codes [features][kTerms][stride], zeros behind
// the ends.
struct Factors {
  int8_t* codes;
  float* scales;
  int64_t stride;
};

__device__ float FactorOf(const CriticalFeatures& critical, const float* divisors, int64_t i,
                          int feature) {
  const float divisor = divisors[i];
  if (divisor == 0.0f) return 0.0f;
  return critical.values[i * critical.count + feature] * __fdiv_rn(1.0f, divisor);
}

// The terms of one factor, kTerms codes a stride apart.
__device__ void StoreTerms(float factor, const RowScale& scale, int64_t stride, int8_t* codes) {
  float rest = scale.zero ? 0.0f : factor * scale.inverse;
#pragma unroll
  for (int term = 0; term < kTerms; ++term) {
    const int code = RoundToInt(rest);
    codes[term * stride] = static_cast<int8_t>(code);
    rest = (rest - static_cast<float>(code)) * kTermSteps;
  }
}

// A block a feature.
__global__ void __launch_bounds__(kFactorThreads)
    MakeFactorsKernel(CriticalFeatures critical, const float* divisors, int64_t length,
                      Factors out) {
  const int feature = static_cast<int>(blockIdx.x);
  const int64_t count = feature < critical.count ? length : 0;
  constexpr int64_t kHeldLength = int64_t{kHeld} * kFactorThreads;
  const auto factor_at = [&](int64_t i) {
    return i < count ? FactorOf(critical, divisors, i, feature) : 0.0f;
  };
  float held[kHeld];
  float largest = 0.0f;
#pragma unroll
  for (int k = 0; k < kHeld; ++k) held[k] = factor_at(k * kFactorThreads + threadIdx.x);
#pragma unroll
  for (int k = 0; k < kHeld; ++k) largest = LargerMagnitude(largest, held[k]);
  for (int64_t i = kHeldLength + threadIdx.x; i < count; i += kFactorThreads) {
    largest = LargerMagnitude(largest, factor_at(i));
  }
  const RowScale scale = MakeRowScale(LargestOfBlock(__float_as_int(largest)), 127.0f);
  if (threadIdx.x == 0) out.scales[feature] = scale.scale;
  int8_t* codes = out.codes + int64_t{feature} * kTerms * out.stride;
#pragma unroll
  for (int k = 0; k < kHeld; ++k) {
    const int64_t i = k * kFactorThreads + threadIdx.x;
    if (i < out.stride) StoreTerms(held[k], scale, out.stride, codes + i);
  }
  for (int64_t i = kHeldLength + threadIdx.x; i < out.stride; i += kFactorThreads) {
    StoreTerms(factor_at(i), scale, out.stride, codes + i);
  }
}

// 16 codes of a row from column k on, zeros behind the end.
__device__ uint4 LoadCodes(const int8_t* row, int64_t k, int64_t length, bool inside) {
  if (!inside || k >= length) return make_uint4(0, 0, 0, 0);
  const int8_t* p = row + k;
  if (k + 16 <= length && reinterpret_cast<uintptr_t>(p) % 16 == 0) {
    return *reinterpret_cast<const uint4*>(p);
  }
  uint32_t w[4] = {};
#pragma unroll
  for (int i = 0; i < 16; ++i) {
    if (k + i < length) w[i / 4] |= (static_cast<uint32_t>(p[i]) & 0xffu) << (8 * (i % 4));
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

using Sums = int[kRowTiles][kFeatureTiles][kTerms][4];

// Adds the products of a chunk. The order of the summed index within it is free as long as both
// operands have the same: a thread's 16 neighbouring codes serve two mma.
__device__ void AddChunk(const uint4 (&rows)[kRowTiles][2],
                         const uint4 (&factors)[kFeatureTiles][kTerms], Sums& sums) {
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

// A block kRows rows and kFeatures features. INT32 sums: of at most a million products a warp.
template <typename T>
__global__ void __launch_bounds__(32 * kWarps)
    ThinKernel(Operand dy, CriticalFeatures critical, Factors factors, T* out, int64_t out_cols) {
  __shared__ float partial[kWarps][kRows][kFeatures];
  const int warp = threadIdx.x / 32;
  const int group = threadIdx.x % 32 / 4;
  const int quad = threadIdx.x % 4;
  const int64_t first_row = int64_t{blockIdx.x} * kRows;
  const int first_feature = static_cast<int>(blockIdx.y) * kFeatures;
  const auto* codes = static_cast<const int8_t*>(dy.data);
  const int8_t* factor = factors.codes + int64_t{first_feature + group} * kTerms * factors.stride;
  Sums sums = {};
  for (int64_t k0 = int64_t{warp} * kChunk; k0 < factors.stride; k0 += kWarps * kChunk) {
    const int64_t k = k0 + 16 * quad;
    uint4 rows[kRowTiles][2];
    uint4 terms[kFeatureTiles][kTerms];
#pragma unroll
    for (int i = 0; i < 2 * kRowTiles; ++i) {
      const int64_t r = first_row + 8 * i + group;
      rows[i / 2][i % 2] = LoadCodes(codes + r * dy.cols, k, dy.cols, r < dy.rows);
    }
#pragma unroll
    for (int i = 0; i < kFeatureTiles * kTerms; ++i) {
      const int64_t row = 8 * (i / kTerms) * kTerms + i % kTerms;
      terms[i / kTerms][i % kTerms] =
          *reinterpret_cast<const uint4*>(factor + row * factors.stride + k);
    }
    AddChunk(rows, terms, sums);
  }
#pragma unroll
  for (int i = 0; i < kRowTiles * kFeatureTiles * 4; ++i) {
    const int tile = i / 4 / kFeatureTiles;
    const int f = i / 4 % kFeatureTiles;
    float sum = 0.0f;
#pragma unroll
    for (int term = kTerms - 1; term >= 0; --term) {
      sum = __fmaf_rn(sum, 1.0f / kTermSteps, static_cast<float>(sums[tile][f][term][i % 4]));
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

}  // namespace

size_t ThinScratchBytes(const ThinProblem& p) {
  const int64_t features = PaddedFeatures(p);
  return static_cast<size_t>(features) *
         (sizeof(float) + static_cast<size_t>(kTerms * PaddedLength(p)));
}

void LaunchThin(const ThinProblem& p, void* scratch, cudaStream_t stream) {
  const int64_t stride = PaddedLength(p);
  const int64_t features = PaddedFeatures(p);
  auto* codes = static_cast<int8_t*>(scratch);
  const Factors factors{codes, reinterpret_cast<float*>(codes + features * kTerms * stride),
                        stride};
  MakeFactorsKernel<<<static_cast<unsigned>(features), kFactorThreads, 0, stream>>>(
      *p.critical, p.divisors, p.dy->cols, factors);
  const dim3 blocks(static_cast<unsigned>(CeilDivide(p.dy->rows, kRows)),
                    static_cast<unsigned>(features / kFeatures));
  WithElements(*p.out, [&](auto* data) {
    ThinKernel<<<blocks, 32 * kWarps, 0, stream>>>(*p.dy, *p.critical, factors, data, p.out->cols);
  });
}

}  // namespace qft::cuda
