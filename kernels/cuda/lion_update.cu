#include "kernels/cuda/engine.h"
#include "kernels/cuda/weight_row.cuh"

namespace qft::cuda {
namespace {

// Every product and sum below is one fp32 operation, rounded by itself, in the order of
// kernels/cpu/lion_update.cpp, so that both engines have the same bits.

constexpr int kThreads = 256;
// Threads that share a block of momentum.
constexpr int kBlockThreads = kMomentumBlock / kWide;
// Steps a single update may move a weight; more would not fit the grid however it grows.
constexpr float kMaxMove = 1048576.0f;
constexpr float kGrowth = 1.0625f;
// A row's new steps wait in shared memory when they fit in this.
constexpr size_t kMostShared = 96 * 1024;
constexpr int kBlocksPerMultiprocessor = 8;

struct Lion {
  LionOptions options;
  float rest1;  // 1 - beta1
  float rest2;
  float rate;             // learning rate * factor of the group
  float gradient_factor;  // gradient_scale * clip_factor
  bool stochastic;
  uint64_t step;
};

__device__ Lion MakeLion(const LionOptions& options, const StepState& step) {
  return {options,
          1.0f - options.beta1,
          1.0f - options.beta2,
          step.learning_rate * options.learning_rate_factor,
          step.gradient_scale * step.clip_factor,
          options.rounding == Rounding::kStochastic,
          step.step};
}

// rate * (sign(beta1 m + (1 - beta1) g) + weight_decay * w); the sign of 0 and of NaN is 0.
__device__ float Delta(const Lion& lion, float w, float m, float g) {
  const float u = lion.options.beta1 * m + lion.rest1 * g;
  const float sign = fabsf(u) > 0.0f ? copysignf(1.0f, u) : 0.0f;
  return lion.rate * (sign + lion.options.weight_decay * w);
}

__device__ float NextMomentum(const Lion& lion, float m, float g) {
  return lion.options.beta2 * m + lion.rest2 * g;
}

// The row's weights are whole steps: of the grid, or of a sixteenth of it with a residual plane.
struct Row {
  int8_t* codes;
  uint8_t* residual;  // nullptr: none
  float grid;
  float step;
  float inverse_step;
  int32_t top;  // steps that fit
  int8_t* momentum;
  float* momentum_grid;
  const int8_t* gradient_codes;  // nullptr: values
  const float* gradient_values;
  float gradient_factor;
  int64_t index;
  int64_t cols;
  int32_t* wide;  // new steps before they are known to fit [cols rounded up to kWide]
};

// Codes on a grid that is no positive number with a finite inverse stay as they are: zeros move
// them nowhere.
__device__ Row MakeRow(const Lion& lion, const Weight& w, const Momentum& m,
                       const Gradient& gradient, int64_t index, int32_t* wide) {
  const int64_t offset = index * w.cols;
  const bool fine = w.residual != nullptr;
  const float steps_per_grid = fine ? float{kResidualSteps} : 1.0f;
  const float grid = w.grid[index];
  const float inverse = __fdiv_rn(1.0f, grid);
  const bool usable =
      grid > 0 && grid <= 3.402823466e+38f && inverse * steps_per_grid <= 3.402823466e+38f;
  Row row;
  row.codes = static_cast<int8_t*>(w.data) + offset;
  row.residual = fine ? w.residual + index * ResidualBytes(w.cols) : nullptr;
  row.grid = usable ? grid : 0.0f;
  row.step = usable ? grid / steps_per_grid : 0.0f;
  row.inverse_step = usable ? inverse * steps_per_grid : 0.0f;
  row.top = fine ? 127 * kResidualSteps : 127;
  row.momentum = static_cast<int8_t*>(m.data) + offset;
  row.momentum_grid = m.grid + index * CeilDivide(w.cols, kMomentumBlock);
  const bool coded = gradient.dtype == DType::kI8;
  row.gradient_codes = coded ? static_cast<const int8_t*>(gradient.data) + offset : nullptr;
  row.gradient_values = coded ? nullptr : static_cast<const float*>(gradient.data) + offset;
  row.gradient_factor = coded ? lion.gradient_factor * gradient.grid[index] : lion.gradient_factor;
  row.index = index;
  row.cols = w.cols;
  row.wide = wide;
  return row;
}

__device__ void LoadGradient16(const Row& row, int64_t c, float (&g)[kWide]) {
  if (row.gradient_codes != nullptr) {
    int codes[kWide];
    LoadCodes16(row.gradient_codes, c, row.cols, codes);
#pragma unroll
    for (int i = 0; i < kWide; ++i) g[i] = row.gradient_factor * static_cast<float>(codes[i]);
    return;
  }
#pragma unroll
  for (int i = 0; i < kWide; ++i) {
    g[i] = c + i < row.cols ? row.gradient_factor * row.gradient_values[c + i] : 0.0f;
  }
}

__device__ void Random32x16(PhiloxKey key, const Lion& lion, const Row& row, int64_t c,
                            uint32_t (&random)[kWide]) {
#pragma unroll
  for (int half = 0; half < kWide; half += kVector) {
    uint32_t part[kVector];
    Random32(key, lion.step, row.index, row.cols, c + half, part);
#pragma unroll
    for (int i = 0; i < kVector; ++i) random[half + i] = part[i];
  }
}

__device__ void Random16x16(PhiloxKey key, const Lion& lion, const Row& row, int64_t c,
                            uint32_t (&random)[kWide]) {
#pragma unroll
  for (int half = 0; half < kWide; half += kVector) {
    uint32_t part[kVector];
    Random16(key, lion.step, row.index, row.cols, c + half, part);
#pragma unroll
    for (int i = 0; i < kVector; ++i) random[half + i] = part[i];
  }
}

// What a thread's updates did besides moving weights.
struct Rounded {
  int32_t largest = 0;  // magnitude of the new steps
  int32_t lost = 0;
  float square_errors = 0;  // in steps
};

// Codes of the momentum of columns c .. c + 16; its block's threads are neighbours in the warp.
__device__ void StoreMomentum16(const Lion& lion, const Row& row, int64_t c,
                                const float (&next)[kWide], bool inside) {
  int32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kWide; ++i) {
    const int32_t bits = MagnitudeBits(next[i]);
    largest = bits > largest ? bits : largest;
  }
#pragma unroll
  for (int offset = kBlockThreads / 2; offset > 0; offset /= 2) {
    const int32_t other = __shfl_xor_sync(kFullWarp, largest, offset);
    largest = other > largest ? other : largest;
  }
  if (!inside) return;
  const RowScale scale = MakeRowScale(largest, 127.0f);
  if (c % kMomentumBlock == 0) row.momentum_grid[c / kMomentumBlock] = scale.scale;
  uint32_t random[kWide];
  int codes[kWide];
  if (lion.stochastic) Random16x16(lion.options.momentum_key, lion, row, c, random);
#pragma unroll
  for (int i = 0; i < kWide; ++i) {
    const float x = scale.zero ? 0.0f : next[i] * scale.inverse;
    codes[i] = lion.stochastic ? RoundStochastic16(x, random[i]) : RoundToInt(x);
  }
  StoreCodes16(row.momentum, c, row.cols, codes);
}

// Moves columns c .. c + 16 into row.wide and renews their momentum. Columns past the row's end are
// zero and stay zero. All threads of a warp call it.
__device__ void Update16(const Lion& lion, const Row& row, int64_t c, Rounded* rounded) {
  const bool inside = c < row.cols;
  float next[kWide] = {};
  if (inside) {
    int steps[kWide];
    int momentum[kWide];
    float gradient[kWide];
    uint32_t random[kWide];
    LoadSteps16(row.codes, row.residual, c, row.cols, steps);
    LoadCodes16(row.momentum, c, row.cols, momentum);
    LoadGradient16(row, c, gradient);
    if (lion.stochastic) Random32x16(lion.options.weight_key, lion, row, c, random);
    const float momentum_grid = row.momentum_grid[c / kMomentumBlock];
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      const float m = momentum_grid * static_cast<float>(momentum[i]);
      const float delta = Delta(lion, row.step * static_cast<float>(steps[i]), m, gradient[i]);
      const float wanted = delta * -row.inverse_step;
      const float x = fmaxf(fminf(wanted, kMaxMove), -kMaxMove);
      const int moved = lion.stochastic ? RoundStochastic32(x, random[i]) : RoundToInt(x);
      const float error = static_cast<float>(moved) - x;
      rounded->square_errors = __fmaf_rn(error, error, rounded->square_errors);
      if (!lion.stochastic && moved == 0 && fabsf(x) > 0.0f) ++rounded->lost;
      steps[i] += moved;
      const int magnitude = steps[i] < 0 ? -steps[i] : steps[i];
      rounded->largest = magnitude > rounded->largest ? magnitude : rounded->largest;
      next[i] = NextMomentum(lion, m, gradient[i]);
    }
#pragma unroll
    for (int i = 0; i < kWide; i += 4) {
      *reinterpret_cast<int4*>(row.wide + c + i) =
          make_int4(steps[i], steps[i + 1], steps[i + 2], steps[i + 3]);
    }
  }
  // The block's threads read its grid above and write it below.
  __syncwarp();
  StoreMomentum16(lion, row, c, next, inside);
}

// The first of grid, grid * 17/16, ... that holds `largest`; re-rounds row.wide to it.
__device__ float GrowRow(const Lion& lion, const Row& row, int32_t largest) {
  float grown = row.grid * kGrowth;
  float ratio = __fdiv_rn(row.grid, grown);
  while (static_cast<float>(largest) * ratio > static_cast<float>(row.top)) {
    grown = grown * kGrowth;
    ratio = __fdiv_rn(row.grid, grown);
  }
  for (int64_t c = threadIdx.x * kWide; c < row.cols; c += kThreads * kWide) {
    uint32_t random[kWide];
    if (lion.stochastic) Random32x16(lion.options.regrow_key, lion, row, c, random);
    for (int i = 0; i < kWide; ++i) {
      const float x = static_cast<float>(row.wide[c + i]) * ratio;
      const int steps = lion.stochastic ? RoundStochastic32(x, random[i]) : RoundToInt(x);
      row.wide[c + i] = max(-row.top, min(row.top, steps));
    }
  }
  return grown;
}

__device__ void AddCount(long long value, int64_t* total) {
  if (value != 0) {
    atomicAdd(reinterpret_cast<unsigned long long*>(total), static_cast<unsigned long long>(value));
  }
}

// Writes the row's codes from row.wide; returns (changed, saturated) of this thread.
__device__ int2 StoreWeights(const Row& row) {
  int2 counts{0, 0};
  for (int64_t c = threadIdx.x * kWide; c < row.cols; c += kThreads * kWide) {
    int steps[kWide];
    int old[kWide];
    LoadCodes16(row.codes, c, row.cols, old);
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      steps[i] = row.wide[c + i];
      const int code = row.residual == nullptr ? steps[i] : CodeOfSteps(steps[i]);
      if (code != old[i]) ++counts.x;
      if (code == 127 || code == -127) ++counts.y;
    }
    StoreSteps16(row.codes, row.residual, c, row.cols, steps);
  }
  return counts;
}

__device__ void UpdateRow(const Lion& lion, const Row& row, float* grid, StepState* step) {
  Rounded rounded;
  const int64_t end = RoundUp(row.cols, 32 * kWide);  // whole warps
  for (int64_t c = threadIdx.x * kWide; c < end; c += kThreads * kWide) {
    Update16(lion, row, c, &rounded);
  }
  const int32_t largest = BlockReduce(rounded.largest, MaxOfValues());
  const bool grows = largest > row.top;
  if (grows) {
    const float grown = GrowRow(lion, row, largest);
    if (threadIdx.x == 0) *grid = grown;
  }
  const int2 counts = StoreWeights(row);
  const int changed = BlockReduce(counts.x, AddValues());
  const int saturated = BlockReduce(counts.y, AddValues());
  const int lost = BlockReduce(rounded.lost, AddValues());
  const float square_sum = BlockReduce(rounded.square_errors, AddValues());
  if (threadIdx.x != 0) return;
  const float unit =
      row.residual == nullptr ? 0x1p24f : 0x1p24f / (kResidualSteps * kResidualSteps);
  AddCount(changed, &step->codes_changed);
  AddCount(saturated, &step->codes_saturated);
  AddCount(lost, &step->updates_lost);
  AddCount(static_cast<long long>(square_sum * unit), &step->rounding_square_sum);
  AddCount(grows ? 1 : 0, &step->rows_grown);
}

// wide: nullptr: shared memory holds a row's new steps; else [gridDim.x, wide_cols].
__global__ void __launch_bounds__(kThreads)
    LionCodesKernel(LionOptions options, Weight w, Momentum m, Gradient gradient, int32_t* wide,
                    int64_t wide_cols, StepState* step) {
  extern __shared__ int4 shared[];
  if (step->skip_update != 0) return;
  const Lion lion = MakeLion(options, *step);
  int32_t* steps =
      wide == nullptr ? reinterpret_cast<int32_t*>(shared) : wide + blockIdx.x * wide_cols;
  for (int64_t r = blockIdx.x; r < w.rows; r += gridDim.x) {
    const Row row = MakeRow(lion, w, m, gradient, r, steps);
    __syncthreads();  // every thread has read the grid
    UpdateRow(lion, row, w.grid + r, step);
  }
}

// The same in fp32 without rounding: fp32 states, and critical features.
__global__ void __launch_bounds__(kThreads)
    LionValuesKernel(LionOptions options, float* weight, float* momentum, const void* gradient,
                     const float* gradient_grid, int64_t cols, int64_t count,
                     const StepState* step) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
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

}  // namespace

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
    LionValuesKernel<<<CeilDivide(count, kThreads), kThreads, 0, stream_>>>(
        options, weight, momentum, data, grid, cols, count, step);
  };
  if (w.dtype == DType::kF32) {
    values(static_cast<float*>(w.data), static_cast<float*>(m.data), gradient.data,
           gradient.dtype == DType::kI8 ? gradient.grid : nullptr, w.cols);
    return CheckLaunch("updating values");
  }
  const int64_t wide_cols = RoundUp(w.cols, kWide);
  const size_t row_bytes = static_cast<size_t>(wide_cols) * sizeof(int32_t);
  int32_t* wide = nullptr;
  int64_t blocks = w.rows;
  size_t shared = row_bytes;
  if (row_bytes > kMostShared) {
    blocks = Smaller(blocks, int64_t{multiprocessors_} * kBlocksPerMultiprocessor);
    shared = 0;
    wide = static_cast<int32_t*>(Scratch(static_cast<size_t>(blocks) * row_bytes));
    if (wide == nullptr) return;
  } else if (!Check(
                 cudaFuncSetAttribute(LionCodesKernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                      static_cast<int>(kMostShared)),
                 "asking for shared memory")) {
    return;
  }
  LionCodesKernel<<<blocks, kThreads, shared, stream_>>>(options, w, m, gradient, wide, wide_cols,
                                                         step);
  values(w.critical.values, m.critical, gradient.critical.values, nullptr, w.critical.count);
  CheckLaunch("updating codes");
}

}  // namespace qft::cuda
