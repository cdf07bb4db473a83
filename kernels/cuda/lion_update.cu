#include "kernels/cuda/engine.h"
#include "kernels/cuda/lion_kernels.cuh"

namespace qft::cuda {
namespace {

// In fp32 without rounding: fp32 states, and critical features.
__global__ void __launch_bounds__(kLionThreads)
    LionValuesKernel(LionOptions options, float* weight, float* momentum, const void* gradient,
                     const float* gradient_grid, int64_t cols, int64_t count,
                     const StepState* step) {
  const int64_t i = int64_t{blockIdx.x} * kLionThreads + threadIdx.x;
  if (i >= count || step->skip_update != 0) return;
  const Lion lion = MakeLion(options, *step);
  const float g = gradient_grid == nullptr
                      ? lion.gradient_factor * static_cast<const float*>(gradient)[i]
                      : lion.gradient_factor * gradient_grid[i / cols] *
                            static_cast<float>(static_cast<const int8_t*>(gradient)[i]);
  UpdateValue(lion, g, weight + i, momentum + i);
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
    LionValuesKernel<<<CeilDivide(count, kLionThreads), kLionThreads, 0, stream_>>>(
        options, weight, momentum, data, grid, cols, count, step);
  };
  if (w.dtype == DType::kF32) {
    values(static_cast<float*>(w.data), static_cast<float*>(m.data), gradient.data,
           gradient.dtype == DType::kI8 ? gradient.grid : nullptr, w.cols);
    return CheckLaunch("updating values");
  }
  LionLaunch<StackGradient> launch(options, w, m, {gradient}, multiprocessors_);
  auto* scratch = static_cast<uint8_t*>(Scratch(launch.ScratchBytes()));
  if (scratch == nullptr && launch.ScratchBytes() > 0) return;
  launch.Run(scratch, step, stream_);
  values(w.critical.values, m.critical, gradient.critical.values, nullptr, w.critical.count);
  CheckLaunch("updating codes");
}

}  // namespace qft::cuda
