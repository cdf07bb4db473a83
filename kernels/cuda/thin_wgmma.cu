// The thin products of critical.cuh by wgmma and TMA, for Hopper (sm_90a): bound by reading dy, so
// a block of 64 rows keeps many stages on their way.
#include "kernels/cuda/critical.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/engine.h"
#include "kernels/cuda/gemm_tile.cuh"
#include "kernels/cuda/hopper.cuh"
#include "kernels/cuda/tensor_map.h"

namespace qft::cuda {
namespace {

constexpr int kRows = 64;
constexpr int kColumns = kThinTerms * kThinFeatures;
constexpr int kStages = 7;  // two blocks on a multiprocessor
constexpr int kBytesA = kRows * kTensorLine;
constexpr int kStageBytes = kBytesA + kColumns * kTensorLine;
constexpr int kFullAt = kStages * kStageBytes;
constexpr int kEmptyAt = kFullAt + kStages * 8;
constexpr int kSharedBytes = kEmptyAt + kStages * 8;
constexpr int kConsumers = 128;  // a warpgroup; one more warp starts the copies
constexpr int kThreads = kConsumers + 32;
constexpr int kSums = kColumns / 2;  // of a thread
constexpr int kStepBytes = 32;
static_assert(kStageBytes % 1024 == 0 && 2 * (kSharedBytes + 1024) <= 227 * 1024);

struct ThinMaps {
  CUtensorMap dy;
  CUtensorMap factors;
};

// One thread. A stage is free when the four warps have left it.
__device__ void Produce(const ThinMaps& maps, int row, int factor_row, int blocks,
                        uint32_t shared) {
  for (int block = 0; block < blocks; ++block) {
    const int stage = block % kStages;
    const uint32_t full = shared + kFullAt + stage * 8;
    const uint32_t to = shared + stage * kStageBytes;
    WaitBarrier(shared + kEmptyAt + stage * 8, (block / kStages + 1) % 2);
    ArriveExpecting(full, kStageBytes);
    LoadBox(maps.dy, block * kTensorLine, row, to, full);
    LoadBox(maps.factors, block * kTensorLine, factor_row, to + kBytesA, full);
  }
}

// sums = dy's codes times those of the terms.
__device__ void MultiplyTerms(int blocks, uint32_t shared, int (&sums)[kSums]) {
  const auto leave = [&](int block) {
    if (threadIdx.x % 32 == 0) ArriveAt(shared + kEmptyAt + block % kStages * 8, 0);
  };
  PinRegisters(sums);
  for (int block = 0; block < blocks; ++block) {
    const int stage = block % kStages;
    WaitBarrier(shared + kFullAt + stage * 8, block / kStages % 2);
    const uint64_t a = MatrixDescriptor(shared + stage * kStageBytes);
    const uint64_t b = MatrixDescriptor(shared + stage * kStageBytes + kBytesA);
    BeginProducts();
#pragma unroll
    for (int step = 0; step < kTensorLine / kStepBytes; ++step) {
      MultiplyInteger(sums, a + step * (kStepBytes >> 4), b + step * (kStepBytes >> 4),
                      block > 0 || step > 0);
    }
    CommitProducts();
    WaitForProducts<1>();
    if (block > 0) leave(block - 1);
  }
  WaitForProducts<0>();
  PinRegisters(sums);
}

// A block kRows rows and kThinFeatures features.
template <typename T>
__global__ void __launch_bounds__(kThreads)
    ThinWgmmaKernel(const __grid_constant__ ThinMaps maps, const __grid_constant__ Operand dy,
                    const __grid_constant__ CriticalFeatures critical, const float* scales, T* out,
                    int64_t out_cols) {
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(1024) uint8_t dynamic[];
  const uint32_t shared = (SharedAddress(dynamic) + 1023) / 1024 * 1024;
  const int first_row = static_cast<int>(blockIdx.x) * kRows;
  const int first_feature = static_cast<int>(blockIdx.y) * kThinFeatures;
  const int blocks = static_cast<int>(CeilDivide(dy.cols, kTensorLine));
  if (threadIdx.x == 0) {
    for (int i = 0; i < kStages; ++i) {
      InitBarrier(shared + kFullAt + i * 8, 1);
      InitBarrier(shared + kEmptyAt + i * 8, kConsumers / 32);
    }
    PublishBarriers();
  }
  __syncthreads();
  if (threadIdx.x >= kConsumers) {
    if (threadIdx.x == kConsumers) {
      Produce(maps, first_row, static_cast<int>(blockIdx.y) * kColumns, blocks, shared);
    }
    return;
  }
  int sums[kSums];
  MultiplyTerms(blocks, shared, sums);
  const int lane = static_cast<int>(threadIdx.x) % 32;
#pragma unroll
  for (int i = 0; i < kThinFeatures / 2;
       ++i) {  // of a thread: two rows, kThinFeatures / 4 features
    const int64_t row = first_row + threadIdx.x / 32 * 16 + lane / 4 + i / 2 % 2 * 8;
    const int feature = first_feature + 8 * (i / 4) + 2 * (lane % 4) + i % 2;
    if (row >= dy.rows || feature >= critical.count) continue;
    int terms[kThinTerms];
#pragma unroll
    for (int term = 0; term < kThinTerms; ++term) terms[term] = sums[term * kThinFeatures / 2 + i];
    T& value = out[row * out_cols + critical.columns[feature]];
    value = FromFloat<T>(ToFloat(value) + dy.scales[row] * (scales[feature] * SumOfTerms(terms)));
  }
#endif
}

}  // namespace

bool ThinWgmmaSupports(const ThinProblem& p, int architecture) {
  constexpr int64_t kMaxSize = int64_t{1} << 30;  // coordinates are 32-bit
  return architecture == 90 && p.dy->rows <= kMaxSize && p.dy->cols <= kMaxIntegerSum &&
         CanMapTensor(p.dy->data, p.dy->cols);
}

cudaError_t LaunchThinWgmma(const ThinProblem& p, const ThinFactors& factors, cudaStream_t stream) {
  ThinMaps maps{};
  const int64_t groups = CeilDivide(p.critical->count, kThinFeatures);
  cudaError_t error = MakeTensorMap(&maps.dy, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, p.dy->data,
                                    p.dy->rows, p.dy->cols, kRows);
  if (error != cudaSuccess) return error;
  error = MakeTensorMap(&maps.factors, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, factors.codes,
                        groups * kColumns, factors.stride, kColumns);
  if (error != cudaSuccess) return error;
  const dim3 blocks(static_cast<unsigned>(CeilDivide(p.dy->rows, kRows)),
                    static_cast<unsigned>(groups));
  WithElements(*p.out, [&](auto* data) {
    const auto kernel = ThinWgmmaKernel<std::remove_reference_t<decltype(*data)>>;
    constexpr int kBytes = kSharedBytes + 1024;
    error = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kBytes);
    if (error != cudaSuccess) return;
    kernel<<<blocks, kThreads, kBytes, stream>>>(maps, *p.dy, *p.critical, factors.scales, data,
                                                 p.out->cols);
  });
  return error;
}

}  // namespace qft::cuda
