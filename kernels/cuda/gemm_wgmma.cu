// The INT8 matrix product by wgmma and TMA, for Hopper (sm_90a).
//
// A block computes tiles of 128 x 256 outputs, two warpgroups 64 x 256 each of the same tile, since
// shared memory is as busy as the tensor cores: of the 128 cycles of an INT8 m64n256k32, reading
// its operands takes 80, and its share of TMA's writes 48, where both warpgroups use the same b.
// With tiles of their own, taking turns so that stores hide behind products, it would be 80 and 80.
// Two blocks one above the other share b too, each bringing half of it for both, because L2 alone
// does not keep up. A third warpgroup only starts the copies; its ring of stages goes on into the
// next tile while this one's outputs are stored.
#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gemm_tile.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/tensor_map.h"
#include "kernels/ops.h"

namespace qft::cuda {
namespace {

constexpr int kTileRows = 128;
constexpr int kTileColumns = 256;
constexpr int kLine = 128;  // bytes in a row of a stage, of a swizzle, of a box that is stored
constexpr int kStepBytes = 32;
constexpr int kStages = 4;
constexpr int kBytesA = kTileRows * kLine;
constexpr int kStageBytes = kBytesA + kTileColumns * kLine;
constexpr int kCriticalBox = kLine / static_cast<int>(sizeof(float));
constexpr int kMaxCritical = 64;

constexpr int kWarpgroup = 128;
constexpr int kConsumers = 2;
constexpr int kConsumerWarps = kConsumers * kWarpgroup / 32;
constexpr int kThreads = (1 + kConsumers) * kWarpgroup;
constexpr int kProducerRegisters = 40;
constexpr int kConsumerRegisters = 232;
static_assert((kProducerRegisters + kConsumers * kConsumerRegisters) * kWarpgroup <= 65536);

constexpr int kAccumulators = 128;
constexpr int kWarpRows = 16;
constexpr int kBoxBytes = kWarpRows * kLine;  // what a warp stores at a time

// Shared memory: the ring, two boxes a consumer warp, the column scales of each consumer, barriers.
constexpr int kBoxesAt = kStages * kStageBytes;
constexpr int kScalesAt = kBoxesAt + 2 * kConsumerWarps * kBoxBytes;
constexpr int kFullAt = kScalesAt + kConsumers * kTileColumns * static_cast<int>(sizeof(float));
constexpr int kEmptyAt = kFullAt + kStages * 8;
constexpr int kSharedBytes = kEmptyAt + kStages * 8;
static_assert(kSharedBytes <= 227 * 1024);

struct TensorMaps {
  CUtensorMap a;
  CUtensorMap second;
  CUtensorMap b;
  CUtensorMap critical_a;
  CUtensorMap critical_b;
  CUtensorMap out;
};

// The tiles of a problem, each kCluster times kTileRows high, and the stages that each needs: k in
// pieces of 128 bytes, of the second term first where there is one, then 32 critical features at a
// time. A cluster takes every Step()th tile.
template <int kCluster>
struct Work {
  TileGrid grid;
  int tiles;
  int blocks;    // stages of codes of one term
  int terms;     // 1 or 2
  int critical;  // stages of critical features

  __host__ __device__ explicit Work(const IntegerProblem& problem)
      : grid{static_cast<int>(CeilDivide(problem.m, kTileRows * kCluster)),
             static_cast<int>(CeilDivide(problem.n, kTileColumns))},
        tiles(grid.rows * grid.columns),
        blocks(static_cast<int>(CeilDivide(problem.k, kLine))),
        terms(problem.second == nullptr ? 1 : 2),
        critical(static_cast<int>(CeilDivide(problem.critical_count, kCriticalBox))) {}

  __device__ int First() const { return static_cast<int>(blockIdx.x) / kCluster; }
  __device__ int Step() const { return static_cast<int>(gridDim.x) / kCluster; }
  // Of this block's part of the tile.
  __device__ int Row(int tile) const {
    const int rank = kCluster == 1 ? 0 : static_cast<int>(ClusterRank());
    return (TileAt(grid, tile).row * kCluster + rank) * kTileRows;
  }
  __device__ int Column(int tile) const { return TileAt(grid, tile).column * kTileColumns; }
};

// A position in the ring; phase is the parity of the rounds through it.
struct Slot {
  uint32_t shared;  // address of the block's shared memory
  int index = 0;
  uint32_t phase = 0;

  __device__ uint32_t Stage() const { return shared + index * kStageBytes; }
  __device__ uint32_t Full() const { return shared + kFullAt + index * 8; }
  __device__ uint32_t Empty() const { return shared + kEmptyAt + index * 8; }
  __device__ void Advance() {
    index = index + 1 == kStages ? 0 : index + 1;
    if (index == 0) phase ^= 1;
  }
};

// One thread. A stage is free when the consumers of every block of the cluster have left it, as
// each copy of b goes to all of them; it is full when this block's a and all parts of b have come,
// from whichever block, maybe before this one expects them.
template <int kCluster>
__device__ __forceinline__ void Produce(const TensorMaps& maps, const Work<kCluster>& work,
                                        Slot slot) {
  constexpr int kPartRows = kTileColumns / kCluster;
  const int part = kCluster == 1 ? 0 : static_cast<int>(ClusterRank()) * kPartRows;
  for (int tile = work.First(); tile < work.tiles; tile += work.Step()) {
    const int row = work.Row(tile);
    const int column = work.Column(tile) + part;
    const CUtensorMap* a = work.terms == 1 ? &maps.a : &maps.second;
    int term = 1;
    int block = 0;
    for (int stage = 0; stage < work.terms * work.blocks + work.critical; ++stage, ++block) {
      if (block == work.blocks) {
        a = term++ < work.terms ? &maps.a : &maps.critical_a;
        block = 0;
      }
      const bool codes = term <= work.terms;
      const int x = block * (codes ? kLine : kCriticalBox);
      const uint32_t b = slot.Stage() + kBytesA + part * kLine;
      WaitBarrier(slot.Empty(), slot.phase ^ 1);
      ArriveExpecting(slot.Full(), kStageBytes);
      LoadBox(*a, x, row, slot.Stage(), slot.Full());
      if constexpr (kCluster == 1) {
        LoadBox(codes ? maps.b : maps.critical_b, x, column, b, slot.Full());
      } else {
        LoadBoxForAll(codes ? maps.b : maps.critical_b, x, column, b, slot.Full(),
                      (1 << kCluster) - 1);
      }
      slot.Advance();
    }
  }
}

// Each warp tells each block of the cluster that it has left the slot.
template <int kCluster>
__device__ __forceinline__ void Leave(const Slot& slot) {
  const uint32_t lane = threadIdx.x % 32;
  if (lane < kCluster) ArriveAt(slot.Empty(), lane);
}

// The codes' product, added to sum where `add`, else in its place. Two batches are in flight; a
// slot is left when the batch behind its own has been started.
template <int kCluster>
__device__ __forceinline__ void MultiplyTerm(int group, int blocks, bool add, Slot& slot,
                                             int (&sum)[kAccumulators]) {
  Slot previous = slot;
  PinRegisters(sum);
  for (int block = 0; block < blocks; ++block) {
    WaitBarrier(slot.Full(), slot.phase);
    const uint64_t a = MatrixDescriptor(slot.Stage() + group * (kBytesA / kConsumers));
    const uint64_t b = MatrixDescriptor(slot.Stage() + kBytesA);
    BeginProducts();
#pragma unroll
    for (int step = 0; step < kLine / kStepBytes; ++step) {
      MultiplyInteger(sum, a + step * (kStepBytes >> 4), b + step * (kStepBytes >> 4),
                      add || block > 0 || step > 0);
    }
    CommitProducts();
    WaitForProducts<1>();
    if (block > 0) Leave<kCluster>(previous);
    previous = slot;
    slot.Advance();
  }
  WaitForProducts<0>();
  PinRegisters(sum);
  Leave<kCluster>(previous);
}

// sum = the product of all terms.
template <int kCluster>
__device__ __forceinline__ void MultiplyCodes(int group, const Work<kCluster>& work, Slot& slot,
                                              int (&sum)[kAccumulators]) {
#pragma unroll 1
  for (int term = 0; term < work.terms; ++term) {
    MultiplyTerm<kCluster>(group, work.blocks, term > 0, slot, sum);
    if (term + 1 == work.terms) break;
#pragma unroll
    for (int i = 0; i < kAccumulators; ++i) sum[i] = InFirstTermUnits(sum[i]);
  }
}

// value += the critical features' product, eight features a step.
template <int kCluster>
__device__ __forceinline__ void AddCritical(int group, int count, Slot& slot,
                                            int (&value)[kAccumulators]) {
  for (; count > 0; count -= kCriticalBox) {
    WaitBarrier(slot.Full(), slot.phase);
    const uint64_t a = MatrixDescriptor(slot.Stage() + group * (kBytesA / kConsumers));
    const uint64_t b = MatrixDescriptor(slot.Stage() + kBytesA);
    PinRegisters(value);
    int step = 0;
#pragma unroll 1
    do {
      BeginProducts();
      MultiplyTf32(value, a + step * (kStepBytes >> 4), b + step * (kStepBytes >> 4));
      CommitProducts();
      ++step;
    } while (step < kLine / kStepBytes && step * 8 < count);
    WaitForProducts<0>();
    PinRegisters(value);
    Leave<kCluster>(slot);
    slot.Advance();
  }
}

// The scales of a tile on their way: loaded before its product, used after. Column scales pass
// through shared memory, since every thread needs a quarter of them.
struct Scales {
  float row[2];
  float column[2];

  __device__ Scales(const IntegerProblem& problem, int64_t first_row, int64_t first_column) {
    const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
    const int64_t own_row = first_row + thread / 32 * kWarpRows + thread % 32 / 4;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      row[i] = own_row + 8 * i < problem.m ? problem.row_scale[own_row + 8 * i] : 0.0f;
      column[i] = ScaleOfColumn(problem, first_column + thread + i * kWarpgroup);
    }
  }

  // The bits of fp32 scale * sum take the place of each sum. All threads of the warpgroup; `shared`
  // holds its column scales.
  __device__ __forceinline__ void Apply(int group, float* shared, int (&sum)[kAccumulators]) const {
    const int thread = static_cast<int>(threadIdx.x) % kWarpgroup;
    SyncWarpgroup(1 + group);
    shared[thread] = column[0];
    shared[thread + kWarpgroup] = column[1];
    SyncWarpgroup(1 + group);
#pragma unroll
    for (int i = 0; i < kAccumulators; i += 4) {
      const float2 scale = *reinterpret_cast<const float2*>(shared + 2 * i + thread % 4 * 2);
#pragma unroll
      for (int e = 0; e < 4; ++e) {
        sum[i + e] = __float_as_int(
            ScaledSum(row[e / 2], e % 2 == 0 ? scale.x : scale.y, __int2float_rn(sum[i + e])));
      }
    }
  }
};

__device__ __forceinline__ uint32_t SwizzledAt(int row, int chunk) {
  return row * kLine + ((chunk ^ (row % 8)) * 16);
}

// A thread's 16 values of 32 columns and the warp's 16 rows to a box. Odd rows write their groups
// of 8 columns in another order than even ones, for the swizzle brings the same group of rows r and
// r + 1 to the same banks.
__device__ __forceinline__ void WriteBox(uint32_t box, const int* value, float) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const bool odd = lane / 4 % 2 == 1;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const int chunk = 2 * (odd ? i ^ 2 : i) + lane % 4 / 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int* even_pair = value + 4 * i + 2 * half;
      const int* odd_pair = value + 4 * (i ^ 2) + 2 * half;
      StorePair(box + SwizzledAt(lane / 4 + 8 * half, chunk) + lane % 2 * 8,
                odd ? odd_pair[0] : even_pair[0], odd ? odd_pair[1] : even_pair[1]);
    }
  }
}
// A thread's 32 values of 64 columns.
__device__ __forceinline__ void WriteBox(uint32_t box, const int* value, BFloat16) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    uint32_t matrix[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int* pair = value + 8 * i + 2 * j;
      const __nv_bfloat162 packed =
          __floats2bfloat162_rn(__int_as_float(pair[0]), __int_as_float(pair[1]));
      matrix[j] = reinterpret_cast<const uint32_t&>(packed);
    }
    StoreMatrices(box + SwizzledAt(lane % 16, 2 * i + lane / 16), matrix);
  }
}

// A warp's 16 x 256 values to (or, where `add`, onto) out from `row`, `column` on, through its two
// boxes in turn.
template <typename T>
__device__ __forceinline__ void StoreValues(const CUtensorMap& out, int row, int column,
                                            uint32_t boxes, bool add,
                                            const int (&value)[kAccumulators]) {
  constexpr int kBoxColumns = kLine / static_cast<int>(sizeof(T));
  constexpr int kValues = kBoxColumns / 2;  // a thread has in a box
  const bool leader = threadIdx.x % 32 == 0;
#pragma unroll
  for (int i = 0; i < kTileColumns / kBoxColumns; ++i) {
    const uint32_t box = boxes + i % 2 * kBoxBytes;
    if (leader) WaitForStores<1>();
    __syncwarp();
    WriteBox(box, value + i * kValues, T());
    PublishToCopies();
    __syncwarp();
    if (leader) {
      if (add) {
        AddBox(out, column + i * kBoxColumns, row, box);
      } else {
        StoreBox(out, column + i * kBoxColumns, row, box);
      }
      CommitStores();
    }
  }
}

// A warpgroup; `group` is 0 or 1.
template <typename T, int kCluster>
__device__ __forceinline__ void Consume(const TensorMaps& maps, const IntegerProblem& problem,
                                        const Work<kCluster>& work, int group, uint8_t* shared) {
  const int warp = static_cast<int>(threadIdx.x) % kWarpgroup / 32;
  const int row_in_tile = group * (kTileRows / kConsumers);
  const uint32_t boxes = SharedAddress(shared) + kBoxesAt + (group * 4 + warp) * 2 * kBoxBytes;
  float* column_scales = reinterpret_cast<float*>(shared + kScalesAt) + group * kTileColumns;
  Slot slot{SharedAddress(shared)};
  for (int tile = work.First(); tile < work.tiles; tile += work.Step()) {
    const int row = work.Row(tile) + row_in_tile;
    const int column = work.Column(tile);
    const Scales scales(problem, row, column);
    int value[kAccumulators];  // INT32 sums, from Apply on fp32 in the same registers
    MultiplyCodes<kCluster>(group, work, slot, value);
    scales.Apply(group, column_scales, value);
    AddCritical<kCluster>(group, problem.critical_count, slot, value);
    StoreValues<T>(maps.out, row + warp * kWarpRows, column, boxes, problem.accumulate, value);
  }
  if (threadIdx.x % 32 == 0) WaitForStores<0>();
}

// One thread. Slots are left by every consumer warp of the cluster.
template <int kCluster>
__device__ __forceinline__ void InitBarriers(uint32_t shared) {
  for (int i = 0; i < kStages; ++i) {
    InitBarrier(shared + kFullAt + i * 8, 1);
    InitBarrier(shared + kEmptyAt + i * 8, kConsumerWarps * kCluster);
  }
  PublishBarriers();
}

// Persistent: clusters of kCluster blocks go through the tiles in the order of TileAt. T is the
// type of out. Blocks of a cluster write each other's shared memory, so all meet before the first
// copy and before any leaves.
template <typename T, int kCluster>
__global__ void __launch_bounds__(kThreads, 1)
    IntegerWgmma(const __grid_constant__ TensorMaps maps,
                 const __grid_constant__ IntegerProblem problem) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t shared[];
  const Work<kCluster> work(problem);
  const int warpgroup = static_cast<int>(threadIdx.x) / kWarpgroup;
  if (threadIdx.x == 0) InitBarriers<kCluster>(SharedAddress(shared));
  SyncCluster();
  if (warpgroup == 0) {
    GiveRegisters<kProducerRegisters>();
    if (threadIdx.x == 0) Produce<kCluster>(maps, work, Slot{SharedAddress(shared)});
  } else {
    TakeRegisters<kConsumerRegisters>();
    Consume<T, kCluster>(maps, problem, work, warpgroup - 1, shared);
  }
  SyncCluster();
#endif
}

cudaError_t MakeMaps(const IntegerProblem& problem, int part_rows, TensorMaps* maps) {
  const bool narrow = problem.out_type == DType::kBF16;
  cudaError_t error = MakeTensorMap(&maps->a, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, problem.a,
                                    problem.m, problem.k, kTileRows);
  if (error != cudaSuccess) return error;
  if (problem.second != nullptr) {
    error = MakeTensorMap(&maps->second, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, problem.second,
                          problem.m, problem.k, kTileRows);
    if (error != cudaSuccess) return error;
  }
  error = MakeTensorMap(&maps->b, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, problem.b, problem.n, problem.k,
                        part_rows);
  if (error != cudaSuccess) return error;
  error = MakeTensorMap(&maps->out,
                        narrow ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32,
                        narrow ? 2 : 4, problem.out, problem.m, problem.n, kWarpRows);
  if (error != cudaSuccess || problem.critical_count == 0) return error;
  error = MakeTensorMap(&maps->critical_a, CU_TENSOR_MAP_DATA_TYPE_TFLOAT32, 4, problem.critical_a,
                        problem.m, problem.critical_count, kTileRows);
  if (error != cudaSuccess) return error;
  return MakeTensorMap(&maps->critical_b, CU_TENSOR_MAP_DATA_TYPE_TFLOAT32, 4, problem.critical_b,
                       problem.n, problem.critical_count, part_rows);
}

// How many tiles one after the other the busiest block computes.
template <int kCluster>
int64_t Rounds(const IntegerProblem& problem, int multiprocessors) {
  return CeilDivide(Work<kCluster>(problem).tiles, multiprocessors / kCluster);
}

template <typename T, int kCluster>
cudaError_t LaunchClusters(const IntegerProblem& problem, int multiprocessors,
                           cudaStream_t stream) {
  TensorMaps maps{};
  cudaError_t error = MakeMaps(problem, kTileColumns / kCluster, &maps);
  if (error != cudaSuccess) return error;
  const auto kernel = IntegerWgmma<T, kCluster>;
  error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes);
  if (error != cudaSuccess) return error;
  const int64_t clusters = Smaller(Work<kCluster>(problem).tiles, multiprocessors / kCluster);
  cudaLaunchAttribute cluster{};
  cluster.id = cudaLaunchAttributeClusterDimension;
  cluster.val.clusterDim.x = kCluster;
  cluster.val.clusterDim.y = 1;
  cluster.val.clusterDim.z = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(clusters * kCluster));
  config.blockDim = dim3(kThreads);
  config.dynamicSmemBytes = kSharedBytes;
  config.stream = stream;
  config.attrs = &cluster;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, maps, problem);
}

template <typename T>
cudaError_t LaunchType(const IntegerProblem& problem, int multiprocessors, cudaStream_t stream) {
  const bool pairs = Rounds<2>(problem, multiprocessors) <= Rounds<1>(problem, multiprocessors);
  return pairs ? LaunchClusters<T, 2>(problem, multiprocessors, stream)
               : LaunchClusters<T, 1>(problem, multiprocessors, stream);
}

}  // namespace

// Outputs are added by TMA, which adds what has been rounded to the type of out: with bf16 that
// would be once too often.
bool IntegerWgmmaSupports(const IntegerProblem& problem, int architecture) {
  const bool narrow = problem.out_type == DType::kBF16;
  const int64_t critical_bytes = problem.critical_count * static_cast<int64_t>(sizeof(float));
  constexpr int64_t kMaxSize = int64_t{1} << 30;  // coordinates are 32-bit
  return architecture == 90 && problem.m >= 64 && problem.m <= kMaxSize && problem.n > 0 &&
         problem.n <= kMaxSize && problem.k >= kLine && problem.k <= kMaxIntegerSum &&
         CanMapTensor(problem.a, problem.k) && CanMapTensor(problem.b, problem.k) &&
         (problem.second == nullptr || CanMapTensor(problem.second, problem.k)) &&
         CanMapTensor(problem.out, problem.n * (narrow ? 2 : 4)) &&
         !(narrow && problem.accumulate) && problem.critical_count <= kMaxCritical &&
         (problem.critical_count == 0 || (CanMapTensor(problem.critical_a, critical_bytes) &&
                                          CanMapTensor(problem.critical_b, critical_bytes)));
}

cudaError_t LaunchIntegerWgmma(const IntegerProblem& problem, int multiprocessors,
                               cudaStream_t stream) {
  return problem.out_type == DType::kBF16 ? LaunchType<BFloat16>(problem, multiprocessors, stream)
                                          : LaunchType<float>(problem, multiprocessors, stream);
}

}  // namespace qft::cuda
