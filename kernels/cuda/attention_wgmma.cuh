// Pieces of the attention kernels for sm_90a: tiles in shared memory as TMA leaves them, their
// products by wgmma, and what is common to blocks.
//
// A block is a warpgroup that copies, of which one warp works, and two that compute, 64 rows each
// of a tile of 128 queries or keys. A tile of bf16 rows is boxes of 64 columns one behind the
// other, each a swizzled line of 128 bytes a row. Elements of a warpgroup's sums d [64, 2 n], n a
// thread: i is of row 16 * warp + FragmentRow() + 8 * (i / 2 % 2) and column 8 * (i / 4) +
// FragmentColumn() + i % 2, so that each four are what mma.sync would return.
#pragma once

#include "kernels/cuda/attention_mma.cuh"
#include "kernels/cuda/attention_wgmma.h"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/tensor_map.h"

namespace qft::cuda {
namespace {

constexpr int kWarpgroup = 128;
constexpr int kConsumers = 2;
constexpr int kConsumerWarps = kConsumers * kWarpgroup / 32;
constexpr int kWgmmaThreads = (1 + kConsumers) * kWarpgroup;
constexpr int kProducerRegisters = 24;
constexpr int kConsumerRegisters = 240;
static_assert((kProducerRegisters + kConsumers * kConsumerRegisters) * kWarpgroup <= 65536);

constexpr int kGroupRows = 64;                       // of a warpgroup
constexpr int kBlockRows = kConsumers * kGroupRows;  // of a block
constexpr int kBoxColumns = 64;
constexpr int kBarrierBytes = 8;

constexpr uint32_t BoxBytes(int rows) {
  return static_cast<uint32_t>(rows) * kTensorLine;
}

// 0 for the warpgroup that copies; the same register in all lanes, as the compiler can tell.
__device__ __forceinline__ int WarpgroupIndex() {
  return __shfl_sync(kFullWarp, static_cast<int>(threadIdx.x) / kWarpgroup, 0);
}
// Of its warpgroup.
__device__ __forceinline__ int WarpInGroup() {
  return static_cast<int>(threadIdx.x) % kWarpgroup / 32;
}

// A position in a ring of stages, each with a barrier for "full" and one for "empty", the former at
// `full`, the latter behind those; phase is the parity of the rounds through it.
template <int kStages>
struct Ring {
  uint32_t full;
  int index = 0;
  uint32_t phase = 0;

  static constexpr int kBytes = 2 * kStages * kBarrierBytes;

  __device__ uint32_t Full() const { return full + index * kBarrierBytes; }
  __device__ uint32_t Empty() const { return full + (kStages + index) * kBarrierBytes; }
  __device__ void Advance() {
    index = index + 1 == kStages ? 0 : index + 1;
    if (index == 0) phase ^= 1;
  }
  // One thread. A stage is empty when every warp that computes has left it.
  __device__ void Init(int arrivals_full) const {
    for (int i = 0; i < kStages; ++i) {
      InitBarrier(full + i * kBarrierBytes, arrivals_full);
      InitBarrier(full + (kStages + i) * kBarrierBytes, kConsumerWarps);
    }
  }
  __device__ void WaitUntilFull() const { WaitBarrier(Full(), phase); }
  __device__ void WaitUntilEmpty() const { WaitBarrier(Empty(), phase ^ 1); }
  // A warp has read the stage.
  __device__ void Leave() const {
    __syncwarp();
    if (Lane() == 0) Arrive(Empty());
  }
};

// Starts to copy rows [row, row + kRows) of a head, whose columns begin at x.
template <int kDim, int kRows>
__device__ __forceinline__ void LoadTile(const CUtensorMap& map, int x, int row, uint32_t tile,
                                         uint32_t barrier) {
#pragma unroll
  for (int i = 0; i < kDim / kBoxColumns; ++i) {
    LoadBox(map, x + i * kBoxColumns, row, tile + i * BoxBytes(kRows), barrier);
  }
}

// In units of a descriptor's address, the way to features 16 * step and on.
template <int kRows>
__device__ constexpr uint32_t FeatureStep(int step) {
  return (step / 4 * BoxBytes(kRows) + step % 4 * 32) >> 4;
}

// d = a * b^T over the features: a 64 rows of a tile of kRowsA, b a tile of kRowsB.
template <int kDim, int kRowsA, int kRowsB>
__device__ __forceinline__ void MultiplyFeatures(uint32_t a, uint32_t b, float (&d)[kRowsB / 2]) {
  const uint64_t left = MatrixDescriptor(a);
  const uint64_t right = MatrixDescriptor(b);
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    MultiplyBf16(d, left + FeatureStep<kRowsA>(step), right + FeatureStep<kRowsB>(step), step > 0);
  }
}

// The same with a in registers.
template <int kDim, int kRowsB>
__device__ __forceinline__ void MultiplyFeatures(const uint32_t (&a)[kDim / 16][4], uint32_t b,
                                                 float (&d)[kRowsB / 2]) {
  const uint64_t right = MatrixDescriptor(b);
#pragma unroll
  for (int step = 0; step < kDim / 16; ++step) {
    MultiplyBf16<Lines::kAlongSum>(d, a[step], right + FeatureStep<kRowsB>(step), step > 0);
  }
}

// d = a * b (+ d where `add`): a [64, kRows] in registers, b a tile of kRows rows.
template <int kDim, int kRows>
__device__ __forceinline__ void MultiplyRows(const uint32_t (&a)[kRows / 16][4], uint32_t b,
                                             bool add, float (&d)[kDim / 2]) {
  const uint64_t right = TransposedDescriptor(b, BoxBytes(kRows));
#pragma unroll
  for (int step = 0; step < kRows / 16; ++step) {
    MultiplyBf16<Lines::kAcrossSum>(d, a[step], right + (step * BoxBytes(16) >> 4),
                                    add || step > 0);
  }
}

// Sums as a left factor.
template <int kCount>
__device__ __forceinline__ void PackSums(const float (&d)[kCount], uint32_t (&a)[kCount / 8][4]) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) a[i / 4][i % 4] = PackPair(d[2 * i], d[2 * i + 1]);
}

// The lane's part of one row of d (half 0: FragmentRow(), 1: that + 8), times `factor`, to x from
// `offset` on.
template <int kCount>
__device__ __forceinline__ void StoreRow(const float (&d)[kCount], int half, float factor,
                                         const Elements& x, int64_t offset) {
  const auto store = [&](bool bf16) {
#pragma unroll
    for (int i = 0; i < kCount / 4; ++i) {
      StorePair({x.data, bf16}, offset + 8 * i + FragmentColumn(), d[4 * i + 2 * half] * factor,
                d[4 * i + 2 * half + 1] * factor);
    }
  };
  if (x.bf16) {
    store(true);
  } else {
    store(false);
  }
}

// A bf16 matrix of `rows` rows of heads, boxes of box_rows rows.
cudaError_t MapHeads(CUtensorMap* map, const Elements& x, int64_t rows, int heads, int head_dim,
                     int box_rows) {
  return MakeTensorMap(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, sizeof(BFloat16), x.data, rows,
                       static_cast<int64_t>(heads) * head_dim, box_rows);
}

// A block a kBlockRows rows of one of `heads`.
template <typename Maps>
cudaError_t LaunchWgmma(void (*kernel)(Maps, AttentionArguments), int heads, uint32_t shared,
                        const Maps& maps, const AttentionArguments& a, cudaStream_t stream) {
  const cudaError_t error = cudaFuncSetAttribute(
      kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (error != cudaSuccess) return error;
  const dim3 grid(static_cast<unsigned>(CeilDivide(a.tokens, kBlockRows)),
                  static_cast<unsigned>(heads));
  kernel<<<grid, kWgmmaThreads, shared, stream>>>(maps, a);
  return cudaSuccess;
}

}  // namespace
}  // namespace qft::cuda
