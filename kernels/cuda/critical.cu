#include "kernels/cuda/critical.cuh"

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/engine.h"

namespace qft::cuda {
namespace {

constexpr int kWarps = 8;     // of a block; each takes every eighth chunk of the sum
constexpr int kRowTiles = 4;  // of 16 rows
constexpr int kRows = 16 * kRowTiles;
constexpr int kChunk = 64;    // codes of a row that a quad of threads loads at once
constexpr int kFeatures = 8;  // features of a launch's column of blocks
constexpr int kTerms = 2;     // bf16 terms of a factor

int64_t PaddedLength(const ThinProblem& p) {
  return RoundUp(p.dy->cols, kChunk);
}
int64_t PaddedFeatures(const ThinProblem& p) {
  return RoundUp(p.critical->count, kFeatures);
}

// factors [features][kTerms][stride]: fl(critical / divisor) as a sum of bf16 terms; zeros behind.
__global__ void FillFactorsKernel(CriticalFeatures critical, const float* divisors, int64_t length,
                                  int64_t stride, BFloat16* factors) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int feature = static_cast<int>(blockIdx.y);
  if (i >= stride) return;
  float factor = 0.0f;
  if (i < length && feature < critical.count && divisors[i] != 0.0f) {
    factor = critical.values[i * critical.count + feature] * __fdiv_rn(1.0f, divisors[i]);
  }
  const BFloat16 high = __float2bfloat16_rn(factor);
  BFloat16* to = factors + int64_t{feature} * kTerms * stride + i;
  to[0] = high;
  to[stride] = __float2bfloat16_rn(factor - __bfloat162float(high));
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

// Two neighbouring codes of a word as a pair of bf16, which holds them exactly.
__device__ uint32_t CodePair(uint32_t word, int first) {
  const auto low = static_cast<float>(static_cast<int8_t>(word >> (8 * first)));
  const auto high = static_cast<float>(static_cast<int8_t>(word >> (8 * first + 8)));
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return reinterpret_cast<const uint32_t&>(pair);
}

__device__ void Mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ uint32_t WordOf(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// A block kRows rows and kFeatures features. The order of the summed index within a chunk of an mma
// is free as long as both operands have the same: a thread's 16 neighbouring codes serve four of
// them.
template <typename T>
__global__ void __launch_bounds__(32 * kWarps)
    ThinKernel(Operand dy, CriticalFeatures critical, const BFloat16* factors, int64_t stride,
               T* out, int64_t out_cols) {
  __shared__ float partial[kWarps][kRows][kFeatures];
  const int warp = threadIdx.x / 32;
  const int group = threadIdx.x % 32 / 4;
  const int quad = threadIdx.x % 4;
  const int64_t first_row = int64_t{blockIdx.x} * kRows;
  const int first_feature = static_cast<int>(blockIdx.y) * kFeatures;
  const auto* codes = static_cast<const int8_t*>(dy.data);
  const BFloat16* factor = factors + int64_t{first_feature + group} * kTerms * stride;
  float sums[kRowTiles][4] = {};
  for (int64_t k0 = int64_t{warp} * kChunk; k0 < stride; k0 += kWarps * kChunk) {
    const int64_t k = k0 + 16 * quad;
    uint4 rows[kRowTiles][2];
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int64_t r = first_row + 16 * tile + 8 * half + group;
        rows[tile][half] = LoadCodes(codes + r * dy.cols, k, dy.cols, r < dy.rows);
      }
    }
#pragma unroll
    for (int term = 0; term < kTerms; ++term) {
      const auto* b = reinterpret_cast<const uint4*>(factor + term * stride + k);
      const uint4 pairs[2] = {b[0], b[1]};
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        const uint32_t b0 = WordOf(pairs[s / 2], s % 2 * 2);
        const uint32_t b1 = WordOf(pairs[s / 2], s % 2 * 2 + 1);
#pragma unroll
        for (int tile = 0; tile < kRowTiles; ++tile) {
          const uint32_t low = WordOf(rows[tile][0], s);
          const uint32_t high = WordOf(rows[tile][1], s);
          const uint32_t a[4] = {CodePair(low, 0), CodePair(high, 0), CodePair(low, 2),
                                 CodePair(high, 2)};
          Mma(sums[tile], a, b0, b1);
        }
      }
    }
  }
#pragma unroll
  for (int tile = 0; tile < kRowTiles; ++tile) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      partial[warp][16 * tile + group + 8 * (i / 2)][2 * quad + i % 2] = sums[tile][i];
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kRows * kFeatures; i += 32 * kWarps) {
    const int64_t r = first_row + i / kFeatures;
    const int feature = first_feature + i % kFeatures;
    if (r >= dy.rows || feature >= critical.count) continue;
    float sum = partial[0][i / kFeatures][i % kFeatures];
    for (int w = 1; w < kWarps; ++w) sum += partial[w][i / kFeatures][i % kFeatures];
    T& value = out[r * out_cols + critical.columns[feature]];
    value = FromFloat<T>(ToFloat(value) + dy.scales[r] * sum);
  }
}

}  // namespace

size_t ThinScratchBytes(const ThinProblem& p) {
  return static_cast<size_t>(PaddedFeatures(p) * kTerms * PaddedLength(p)) * sizeof(BFloat16);
}

void LaunchThin(const ThinProblem& p, void* scratch, cudaStream_t stream) {
  const int64_t stride = PaddedLength(p);
  auto* factors = static_cast<BFloat16*>(scratch);
  const dim3 fill(static_cast<unsigned>(CeilDivide(stride, kRowThreads)),
                  static_cast<unsigned>(PaddedFeatures(p)));
  FillFactorsKernel<<<fill, kRowThreads, 0, stream>>>(*p.critical, p.divisors, p.dy->cols, stride,
                                                      factors);
  const dim3 blocks(static_cast<unsigned>(CeilDivide(p.dy->rows, kRows)),
                    static_cast<unsigned>(PaddedFeatures(p) / kFeatures));
  WithElements(*p.out, [&](auto* data) {
    ThinKernel<<<blocks, 32 * kWarps, 0, stream>>>(*p.dy, *p.critical, factors, stride, data,
                                                   p.out->cols);
  });
}

}  // namespace qft::cuda
