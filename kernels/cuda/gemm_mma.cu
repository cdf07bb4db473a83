// The INT8 matrix product by mma.sync, for any GPU from sm_80 on and operands of any size and
// alignment. A block of 8 warps computes a tile of 128 rows; operands come through a ring of shared
// memory stages, 64 bytes of k each.
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_mma_tile.cuh"
#include "kernels/cuda/gemm_tile.cuh"
#include "kernels/ops.h"

namespace qft::cuda {
namespace {

constexpr int kStageK = 64;
constexpr int kChunk = 16;
constexpr int kStagesASum = kMaxIntegerSum / kStageK;
static_assert(kMaxIntegerSum % kStageK == 0);
static_assert(kStageK == kStageRowBytes);

// The stages of a tile. Wider tiles read less shared memory and L2 a product, narrower ones leave
// registers for fp32 sums and fit small outputs better.
template <int kColumns>
struct Ring {
  static constexpr int kStages = kColumns == 256 ? 4 : 3;
  static constexpr int kStageBytes = (kTileRows + kColumns) * kStageK;
  static constexpr int kBytes = kStages * kStageBytes;
  __device__ static int Next(int slot) { return slot + 1 == kStages ? 0 : slot + 1; }
};

__device__ inline void CopyChunkAsync(uint32_t destination, const int8_t* source, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(destination), "l"(source),
               "r"(inside ? kChunk : 0)
               : "memory");
}
__device__ inline void CommitCopies() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}
template <int kPending>
__device__ inline void WaitForCopies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

// Bytes [0, count) of `source`, zeros up to 16. For rows that are not 16-byte aligned.
__device__ inline uint4 LoadBytes(const int8_t* source, int64_t count) {
  uint32_t words[4] = {0, 0, 0, 0};
#pragma unroll
  for (int i = 0; i < kChunk; ++i) {
    if (i < count) {
      words[i / 4] |= static_cast<uint32_t>(static_cast<uint8_t>(source[i])) << (8 * (i % 4));
    }
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
}

// Brings rows [first, first + kRows) of `matrix` [rows, k] to shared memory, stage by stage; zeros
// behind the edges. A thread takes one chunk of every kRowsAPass rows. kAligned: by cp.async, else
// at once.
template <int kRows, bool kAligned>
class RowLoader {
 public:
  __device__ RowLoader(const int8_t* matrix, int64_t rows, int64_t k, int64_t first)
      : matrix_(matrix),
        source_(matrix + (first + Row()) * k + Chunk() * kChunk),
        pass_(kRowsAPass * k),
        rows_left_(static_cast<int>(Smaller(rows - first, kRows)) - Row()),
        k_left_(k - Chunk() * kChunk) {}

  __device__ void Load(int64_t k_begin, uint8_t* stage) const {
    uint8_t* destination = stage + StageOffset(Row(), Chunk());
#pragma unroll(kAligned ? kPasses : 1)
    for (int pass = 0; pass < kPasses; ++pass) {
      const bool inside = pass * kRowsAPass < rows_left_ && k_begin < k_left_;
      const int8_t* source = inside ? source_ + pass * pass_ + k_begin : matrix_;
      uint8_t* chunk = destination + pass * kRowsAPass * kStageK;
      if constexpr (kAligned) {
        CopyChunkAsync(SharedAddress(chunk), source, inside);
      } else {
        *reinterpret_cast<uint4*>(chunk) = LoadBytes(source, inside ? k_left_ - k_begin : 0);
      }
    }
  }

 private:
  static constexpr int kChunks = kStageK / kChunk;
  static constexpr int kRowsAPass = kMmaThreads / kChunks;
  static constexpr int kPasses = kRows / kRowsAPass;
  __device__ static int Row() {
    return static_cast<int>(threadIdx.x) / kChunks;
  }
  __device__ static int Chunk() {
    return static_cast<int>(threadIdx.x) % kChunks;
  }

  const int8_t* const matrix_;
  const int8_t* const source_;
  const int64_t pass_;
  const int rows_left_;
  const int64_t k_left_;
};

// Fills the ring of stages with what a block's tile needs of a and b.
template <int kColumns, bool kAligned>
class TileLoader {
 public:
  // Of `a`, the problem's or its second term.
  __device__ TileLoader(const IntegerProblem& problem, const int8_t* a, int64_t row, int64_t column,
                        uint8_t* shared)
      : a_(a, problem.m, problem.k, row),
        b_(problem.b, problem.n, problem.k, column),
        k_(problem.k),
        shared_(shared) {}

  // The next stage: always one group of copies, empty behind k's end.
  __device__ void LoadNext() {
    if (k_begin_ < k_) {
      uint8_t* stage = shared_ + slot_ * Ring<kColumns>::kStageBytes;
      a_.Load(k_begin_, stage);
      b_.Load(k_begin_, stage + kTileRows * kStageK);
    }
    CommitCopies();
    k_begin_ += kStageK;
    slot_ = Ring<kColumns>::Next(slot_);
  }

 private:
  const RowLoader<kTileRows, kAligned> a_;
  const RowLoader<kColumns, kAligned> b_;
  const int64_t k_;
  uint8_t* const shared_;
  int64_t k_begin_ = 0;
  int slot_ = 0;
};

// The INT32 sums of a tile, continued in fp32 where k is longer than they can hold (kLong).
template <int kColumns, bool kLong>
struct Sums {
  static constexpr int kTiles = kColumns / 32;
  int sum[4][kTiles][4] = {};
  float total[kLong ? 4 : 1][kLong ? kTiles : 1][4] = {};

  __device__ void MoveToTotal() {
#pragma unroll
    for (int i = 0; i < 4 * kTiles * 4; ++i) {
      int& part = sum[i / (4 * kTiles)][i / 4 % kTiles][i % 4];
      float& whole = total[i / (4 * kTiles)][i / 4 % kTiles][i % 4];
      whole = __fadd_rn(whole, __int2float_rn(part));
      part = 0;
    }
  }

  // What was summed is a second term's.
  __device__ void ToFirstTermUnits() {
#pragma unroll
    for (int i = 0; i < 4 * kTiles * 4; ++i) {
      if constexpr (kLong) {
        float& whole = total[i / (4 * kTiles)][i / 4 % kTiles][i % 4];
        whole = __fmul_rn(whole, 1.0f / 256.0f);
      } else {
        int& part = sum[i / (4 * kTiles)][i / 4 % kTiles][i % 4];
        part = InFirstTermUnits(part);
      }
    }
  }
};

// Adds a term's product. Two steps of 32 bytes a stage. Fragments are loaded a step ahead of their
// use, those of the next stage's first step behind the barrier that says it has come. At that
// barrier all warps have their last fragments of this stage too, so that the next round may
// overwrite it.
template <int kColumns, bool kAligned, bool kLong>
__device__ void MultiplyTile(TileLoader<kColumns, kAligned> loader, const uint8_t* shared,
                             int stages, Sums<kColumns, kLong>& sums) {
  constexpr int kAhead = Ring<kColumns>::kStages - 1;
  for (int i = 0; i < kAhead; ++i) loader.LoadNext();
  WaitForCopies<kAhead - 1>();
  __syncthreads();
  Fragments<kColumns> first;
  Fragments<kColumns> second;
  first.Load(shared, 0);
  int slot = 0;
#pragma unroll 1
  for (int stage = 1; stage <= stages; ++stage) {
    second.Load(shared + slot * Ring<kColumns>::kStageBytes, 1);
    loader.LoadNext();
    first.Multiply(sums.sum);
    WaitForCopies<kAhead - 1>();
    __syncthreads();
    slot = Ring<kColumns>::Next(slot);
    first.Load(shared + slot * Ring<kColumns>::kStageBytes, 0);
    second.Multiply(sums.sum);
    if constexpr (kLong) {
      if (stage % kStagesASum == 0) sums.MoveToTotal();
    }
  }
  if constexpr (kLong) sums.MoveToTotal();
  WaitForCopies<0>();
  __syncthreads();
}

// One block a tile of kTileRows x kColumns of out, in the order of TileAt. kAligned: a and b are
// 16-byte aligned and k is a multiple of 16. Unless kLong, k <= kMaxIntegerSum.
template <int kColumns, bool kAligned, bool kLong>
__global__ void __launch_bounds__(kMmaThreads, 1)
    IntegerMma(const __grid_constant__ IntegerProblem problem) {
  extern __shared__ __align__(128) uint8_t shared[];
  const TileGrid grid{static_cast<int>(CeilDivide(problem.m, kTileRows)),
                      static_cast<int>(CeilDivide(problem.n, kColumns))};
  const TilePosition tile = TileAt(grid, static_cast<int>(blockIdx.x));
  const int64_t row = int64_t{tile.row} * kTileRows;
  const int64_t column = int64_t{tile.column} * kColumns;
  Sums<kColumns, kLong> sums;
  const int stages = static_cast<int>(CeilDivide(problem.k, kStageK));
  using Loader = TileLoader<kColumns, kAligned>;
  if (problem.second != nullptr) {
    MultiplyTile(Loader(problem, problem.second, row, column, shared), shared, stages, sums);
    sums.ToFirstTermUnits();
  }
  MultiplyTile(Loader(problem, problem.a, row, column, shared), shared, stages, sums);

  MmaEpilogue<kColumns> epilogue(problem, row, column, reinterpret_cast<float*>(shared));
  if constexpr (kLong) {
    epilogue.Scale(sums.total);
  } else {
    epilogue.Scale(sums.sum);
  }
  if (problem.accumulate) epilogue.AddOld();
  epilogue.AddCritical();
  epilogue.Store();
}

template <int kColumns, bool kAligned, bool kLong>
cudaError_t LaunchTiles(const IntegerProblem& problem, cudaStream_t stream) {
  constexpr int kBytes = Ring<kColumns>::kBytes;
  static_assert(kBytes >= MmaEpilogue<kColumns>::kSharedBytes);
  static_assert(kBytes <= 99 * 1024);
  const auto kernel = IntegerMma<kColumns, kAligned, kLong>;
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
  if (error != cudaSuccess) return error;
  const int64_t tiles = CeilDivide(problem.m, kTileRows) * CeilDivide(problem.n, kColumns);
  kernel<<<static_cast<unsigned>(tiles), kMmaThreads, kBytes, stream>>>(problem);
  return cudaGetLastError();
}

bool IsAligned(const IntegerProblem& problem) {
  const auto bits = reinterpret_cast<uintptr_t>(problem.a) |
                    reinterpret_cast<uintptr_t>(problem.second) |
                    reinterpret_cast<uintptr_t>(problem.b);
  return (bits | static_cast<uintptr_t>(problem.k)) % kChunk == 0;
}

// Whether narrow tiles, though a tenth slower a product, fill the device's last round so much
// better that they are done sooner.
bool NarrowTilesAreFaster(const IntegerProblem& problem, int multiprocessors) {
  const int64_t rows = CeilDivide(problem.m, kTileRows);
  const int64_t narrow = CeilDivide(rows * CeilDivide(problem.n, 128), multiprocessors);
  const int64_t wide = CeilDivide(rows * CeilDivide(problem.n, 256), multiprocessors);
  return 11 * narrow < 10 * 2 * wide;
}

}  // namespace

cudaError_t LaunchIntegerMma(const IntegerProblem& problem, cudaStream_t stream) {
  if (problem.m <= 0 || problem.n <= 0) return cudaSuccess;
  const bool aligned = IsAligned(problem);
  if (problem.k > kMaxIntegerSum) {
    return aligned ? LaunchTiles<128, true, true>(problem, stream)
                   : LaunchTiles<128, false, true>(problem, stream);
  }
  if (!aligned) return LaunchTiles<128, false, false>(problem, stream);
  int device = 0;
  int multiprocessors = 1;
  cudaError_t error = cudaGetDevice(&device);
  if (error != cudaSuccess) return error;
  error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (error != cudaSuccess) return error;
  return NarrowTilesAreFaster(problem, multiprocessors)
             ? LaunchTiles<128, true, false>(problem, stream)
             : LaunchTiles<256, true, false>(problem, stream);
}

}  // namespace qft::cuda
