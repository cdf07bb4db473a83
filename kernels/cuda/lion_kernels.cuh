// The kernels that update a tensor's codes, from a gradient of either kind (lion_gradient.cuh), and
// their launch: steady rows first, and what they leave.
#pragma once

#include "kernels/cuda/lion_steady.cuh"
#include "kernels/cuda/sizes.h"

namespace qft::cuda {

inline constexpr int kLionBlocks = 5;  // on a multiprocessor

struct LionProblem {
  Weight w;
  Momentum m;
  uint8_t* unsteady;  // [rows] rows that LionSteadyKernel leaves; nullptr: all, it is not launched
  uint8_t* rows;      // [blocks, row_bytes] memory for a row each; nullptr: in shared memory
  int64_t row_bytes;
};

__device__ inline void AddCount(long long value, int64_t* total) {
  if (value != 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(total), static_cast<unsigned long long>(value));
  }
}

// All threads of the block.
__device__ inline void AddCounts(const LionCounts& counts, bool fine, StepState* step) {
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
template <typename Source>
__global__ void __launch_bounds__(kLionThreads, kLionBlocks)
    LionRowsKernel(LionOptions options, LionProblem p, const __grid_constant__ Source source,
                   StepState* step) {
  extern __shared__ int4 shared[];
  const bool skip = step->skip_update != 0;
  if (skip && !Source::kEncodes) return;
  const Lion lion = MakeLion(options, *step);
  uint8_t* memory =
      p.rows == nullptr ? reinterpret_cast<uint8_t*>(shared) : p.rows + blockIdx.x * p.row_bytes;
  auto* wide = reinterpret_cast<int32_t*>(memory);
  auto* encoded = reinterpret_cast<int8_t*>(wide + RoundUp(p.w.cols, kWide));
  // A step that is skipped adds its squares all the same, and has no steady rows.
  const auto left = [&](int64_t r) { return p.unsteady == nullptr || skip || p.unsteady[r] != 0; };
  LionCounts counts{};
  bool any = false;
  const int64_t chunk = int64_t{gridDim.x} * kLionThreads;
  for (int64_t begin = blockIdx.x; begin < p.w.rows; begin += chunk) {
    const int64_t mine = begin + int64_t{threadIdx.x} * gridDim.x;
    const bool wanted = mine < p.w.rows && left(mine);
    if (!__syncthreads_or(wanted)) continue;
    any = true;
    for (int64_t r = begin; r < Smaller(p.w.rows, begin + chunk); r += gridDim.x) {
      if (!left(r)) continue;
      const GradientRow gradient = BringRow(lion, source, p.w.cols, r, encoded);
      if (skip) continue;
      const Row row = MakeRow(lion, p.w, p.m, r);
      UpdateRow(lion, row, gradient, wide, p.w.grid + r, &counts);
    }
  }
  if (any) AddCounts(counts, p.w.residual != nullptr, step);
}

// The rows that are steady.
template <bool kFine, typename Source>
__global__ void __launch_bounds__(kLionThreads, kLionBlocks)
    LionSteadyKernel(LionOptions options, LionKeys keys, LionProblem p,
                     const __grid_constant__ Source source, StepState* step) {
  extern __shared__ uint4 old_codes[];
  // With the buffers of the reductions, 416 bytes, within the 3 KB beside kMostShared.
  static_assert(sizeof(LionCounts) * kLionThreads + 416 <= 3072);
  __shared__ LionCounts counts[kLionThreads];  // updating a row takes all registers
  if (step->skip_update != 0) return;
  counts[threadIdx.x] = {};
  for (int r = static_cast<int>(blockIdx.x); r < p.w.rows; r += static_cast<int>(gridDim.x)) {
    const RowOf row{options, p.w, p.m, step, r};
    const bool steady = UpdateSteadyRow<kFine>(row, source, keys, old_codes, &counts[threadIdx.x]);
    if (threadIdx.x == 0) p.unsteady[r] = steady ? 0 : 1;
  }
  AddCounts(counts[threadIdx.x], kFine, step);
}

inline bool Aligned(const void* p, size_t bytes) {
  return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

inline bool MayBeSteady(const StackGradient& source) {
  return source.gradient.dtype == DType::kI8 && Aligned(source.gradient.data, kWide);
}
template <typename T>
bool MayBeSteady(const ValueGradient<T>& source) {
  return Aligned(source.values, kVector * sizeof(T));
}

// How a tensor's codes are updated.
template <typename Source>
class LionLaunch {
 public:
  LionLaunch(const LionOptions& options, const Weight& w, const Momentum& m, const Source& source,
             int multiprocessors)
      : options_(options), source_(source) {
    p_.w = w;
    p_.m = m;
    p_.row_bytes = RoundUp(w.cols, kWide) * (sizeof(int32_t) + (Source::kEncodes ? 1 : 0));
    // What lion_steady.cuh asks of the options and of memory.
    may_be_steady_ = options.weight_decay == 0.0f && options.rounding == Rounding::kStochastic &&
                     MayBeSteady(source) && w.cols % kWide == 0 &&
                     w.cols <= static_cast<int64_t>(kMostShared) && Aligned(w.data, kWide) &&
                     Aligned(m.data, kWide) && Aligned(w.residual, sizeof(uint2));
    blocks_ = static_cast<unsigned>(Smaller(w.rows, int64_t{multiprocessors} * kLionBlocks));
    in_shared_ = p_.row_bytes <= static_cast<int64_t>(kMostShared);
  }

  size_t ScratchBytes() const {
    return static_cast<size_t>(FlagBytes() + (in_shared_ ? 0 : blocks_ * p_.row_bytes));
  }

  // scratch: ScratchBytes(), of 16 bytes' alignment.
  void Run(uint8_t* scratch, StepState* step, cudaStream_t stream) {
    p_.unsteady = may_be_steady_ ? scratch : nullptr;
    p_.rows = in_shared_ ? nullptr : scratch + FlagBytes();
    if (may_be_steady_) {
      const LionKeys keys{MakeRoundKeys(options_.weight_key), MakeRoundKeys(options_.momentum_key)};
      WithFlag(p_.w.residual != nullptr, [&](auto fine) {
        const auto kernel = LionSteadyKernel<fine.value, Source>;
        AskForShared(kernel);
        kernel<<<blocks_, kLionThreads, p_.w.cols, stream>>>(options_, keys, p_, source_, step);
      });
    }
    const auto kernel = LionRowsKernel<Source>;
    AskForShared(kernel);
    kernel<<<blocks_, kLionThreads, in_shared_ ? p_.row_bytes : 0, stream>>>(options_, p_, source_,
                                                                             step);
  }

 private:
  int64_t FlagBytes() const { return may_be_steady_ ? RoundUp(p_.w.rows, kWide) : 0; }
  // What fails here fails the launch.
  template <typename Kernel>
  static void AskForShared(Kernel kernel) {
    cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                         static_cast<int>(kMostShared));
  }

  LionOptions options_;
  Source source_;
  LionProblem p_{};
  bool may_be_steady_;
  bool in_shared_;  // a row's memory
  unsigned blocks_;
};

}  // namespace qft::cuda
