#include "kernels/cuda/engine.h"
#include "kernels/cuda/lion_steady.cuh"

namespace qft::cuda {
namespace {

// A row's new steps wait in shared memory when they fit in this.
constexpr size_t kMostShared = 96 * 1024;
constexpr int kBlocksPerMultiprocessor = 5;

struct LionProblem {
  Weight w;
  Momentum m;
  Gradient gradient;
  uint8_t* unsteady;  // [rows] rows that LionSteadyKernel leaves; nullptr: all, it is not launched
  int32_t* wide;      // [blocks, wide_cols] of new steps; nullptr: in shared memory
  int64_t wide_cols;
};

__device__ void AddCount(long long value, int64_t* total) {
  if (value != 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(total), static_cast<unsigned long long>(value));
  }
}

// All threads of the block.
__device__ void AddCounts(const LionCounts& counts, bool fine, StepState* step) {
  const int changed = BlockReduce(counts.changed, AddValues());
  const int saturated = BlockReduce(counts.saturated, AddValues());
  const int lost = BlockReduce(counts.lost, AddValues());
  const float square_sum = BlockReduce(counts.square_errors, AddValues());
  if (threadIdx.x != 0) return;
  const float unit = fine ? 0x1p24f / (kResidualSteps * kResidualSteps) : 0x1p24f;
  AddCount(changed, &step->codes_changed);
  AddCount(saturated, &step->codes_saturated);
  AddCount(lost, &step->updates_lost);
  AddCount(static_cast<long long>(square_sum * unit), &step->rounding_square_sum);
  AddCount(counts.grown, &step->rows_grown);
}

// Rows whatever the options are. A block looks at the flags of kLionThreads of its rows at once.
__global__ void __launch_bounds__(kLionThreads, kBlocksPerMultiprocessor)
    LionRowsKernel(LionOptions options, LionProblem p, StepState* step) {
  extern __shared__ int4 shared[];
  if (step->skip_update != 0) return;
  const Lion lion = MakeLion(options, *step);
  int32_t* wide =
      p.wide == nullptr ? reinterpret_cast<int32_t*>(shared) : p.wide + blockIdx.x * p.wide_cols;
  LionCounts counts;
  bool any = false;
  const int64_t chunk = int64_t{gridDim.x} * kLionThreads;
  for (int64_t begin = blockIdx.x; begin < p.w.rows; begin += chunk) {
    const int64_t mine = begin + int64_t{threadIdx.x} * gridDim.x;
    const bool wanted = mine < p.w.rows && (p.unsteady == nullptr || p.unsteady[mine] != 0);
    if (!__syncthreads_or(wanted)) continue;
    any = true;
    for (int64_t r = begin; r < Smaller(p.w.rows, begin + chunk); r += gridDim.x) {
      if (p.unsteady != nullptr && p.unsteady[r] == 0) continue;
      const Row row = MakeRow(lion, p.w, p.m, p.gradient, r);
      UpdateRow(lion, row, wide, p.w.grid + r, &counts);
    }
  }
  if (any) AddCounts(counts, p.w.residual != nullptr, step);
}

// The rows that are steady.
template <bool kFine>
__global__ void __launch_bounds__(kLionThreads, kBlocksPerMultiprocessor)
    LionSteadyKernel(LionOptions options, LionKeys keys, LionProblem p, StepState* step) {
  extern __shared__ uint4 old_codes[];
  __shared__ LionCounts counts[kLionThreads];  // updating a row takes all registers
  if (step->skip_update != 0) return;
  counts[threadIdx.x] = {};
  for (int r = static_cast<int>(blockIdx.x); r < p.w.rows; r += static_cast<int>(gridDim.x)) {
    const RowOf row{options, p.w, p.m, p.gradient, step, r};
    const bool steady = UpdateSteadyRow<kFine>(row, keys, old_codes, &counts[threadIdx.x]);
    if (threadIdx.x == 0) p.unsteady[r] = steady ? 0 : 1;
  }
  AddCounts(counts[threadIdx.x], kFine, step);
}

// The same in fp32 without rounding: fp32 states, and critical features.
__global__ void __launch_bounds__(kLionThreads)
    LionValuesKernel(LionOptions options, float* weight, float* momentum, const void* gradient,
                     const float* gradient_grid, int64_t cols, int64_t count,
                     const StepState* step) {
  const int64_t i = int64_t{blockIdx.x} * kLionThreads + threadIdx.x;
  if (i >= count || step->skip_update != 0) return;
  const Lion lion = MakeLion(options, *step);
  const float m = momentum[i];
  const float g = gradient_grid == nullptr
                      ? lion.gradient_factor * static_cast<const float*>(gradient)[i]
                      : lion.gradient_factor * gradient_grid[i / cols] *
                            static_cast<float>(static_cast<const int8_t*>(gradient)[i]);
  weight[i] = weight[i] - Delta(lion, weight[i], m, g);
  momentum[i] = NextMomentum(lion, m, g);
}

bool Aligned(const void* p, size_t bytes) {
  return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

// Whether rows may be steady: what lion_steady.cuh asks of the options and of memory.
bool MayBeSteady(const LionOptions& options, const Weight& w, const Momentum& m,
                 const Gradient& gradient) {
  return options.weight_decay == 0.0f && options.rounding == Rounding::kStochastic &&
         gradient.dtype == DType::kI8 && w.cols % kWide == 0 &&
         w.cols <= static_cast<int64_t>(kMostShared) && Aligned(w.data, kWide) &&
         Aligned(m.data, kWide) && Aligned(gradient.data, kWide) &&
         Aligned(w.residual, sizeof(uint2));
}

}  // namespace

bool CudaEngine::LaunchLionCodes(const LionOptions& options, const Weight& w, const Momentum& m,
                                 const Gradient& gradient, StepState* step) {
  LionProblem p{w, m, gradient, nullptr, nullptr, RoundUp(w.cols, kWide)};
  const bool may_be_steady = MayBeSteady(options, w, m, gradient);
  const auto blocks =
      static_cast<unsigned>(Smaller(w.rows, int64_t{multiprocessors_} * kBlocksPerMultiprocessor));
  const size_t row_bytes = static_cast<size_t>(p.wide_cols) * sizeof(int32_t);
  const bool shared = row_bytes <= kMostShared;
  const int64_t flag_bytes = may_be_steady ? RoundUp(w.rows, kWide) : 0;
  const size_t wide_bytes = shared ? 0 : blocks * row_bytes;
  if (may_be_steady || !shared) {
    auto* scratch = static_cast<uint8_t*>(Scratch(static_cast<size_t>(flag_bytes) + wide_bytes));
    if (scratch == nullptr) return false;
    if (may_be_steady) p.unsteady = scratch;
    if (!shared) p.wide = reinterpret_cast<int32_t*>(scratch + flag_bytes);
  }
  const auto launch = [&](auto kernel, size_t bytes, const auto&... keys) {
    if (!Check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    static_cast<int>(kMostShared)),
               "asking for shared memory")) {
      return false;
    }
    kernel<<<blocks, kLionThreads, bytes, stream_>>>(options, keys..., p, step);
    return true;
  };
  if (may_be_steady) {
    const LionKeys keys{MakeRoundKeys(options.weight_key), MakeRoundKeys(options.momentum_key)};
    const auto old_bytes = static_cast<size_t>(w.cols);
    if (!(w.residual != nullptr ? launch(LionSteadyKernel<true>, old_bytes, keys)
                                : launch(LionSteadyKernel<false>, old_bytes, keys))) {
      return false;
    }
  }
  return launch(LionRowsKernel, shared ? row_bytes : 0);
}

void CudaEngine::LionUpdate(const LionOptions& options, const Weight& w, const Momentum& m,
                            const Gradient& gradient, StepState* step) {
  if (!SupportsDType(w.dtype) || !SupportsDType(m.dtype) || !SupportsDType(gradient.dtype)) return;
  if (w.dtype != m.dtype) return Fail("lion update: weight and momentum differ in dtype");
  if (w.critical.count != gradient.critical.count ||
      (w.critical.count > 0 && m.critical == nullptr)) {
    return Fail("lion update: weight, momentum and gradient differ in their critical features");
  }
  if (w.rows == 0) return;
  const auto values = [&](float* weight, float* momentum, const void* data, const float* grid,
                          int64_t cols) {
    const int64_t count = w.rows * cols;
    if (count == 0) return;
    LionValuesKernel<<<CeilDivide(count, kLionThreads), kLionThreads, 0, stream_>>>(
        options, weight, momentum, data, grid, cols, count, step);
  };
  if (w.dtype == DType::kF32) {
    values(static_cast<float*>(w.data), static_cast<float*>(m.data), gradient.data,
           gradient.dtype == DType::kI8 ? gradient.grid : nullptr, w.cols);
    return CheckLaunch("updating values");
  }
  if (!LaunchLionCodes(options, w, m, gradient, step)) return;
  values(w.critical.values, m.critical, gradient.critical.values, nullptr, w.critical.count);
  CheckLaunch("updating codes");
}

}  // namespace qft::cuda
