#include "kernels/cuda/engine.h"
#include "kernels/cuda/lion_kernels.cuh"

namespace qft::cuda {
namespace {

constexpr int kFewFeatures = 16;

// Updates critical features in fp32 and leaves zeros behind in `values`; square_sums [rows]: of
// them. kLanes threads of a warp a row.
template <int kLanes, typename T>
__global__ void __launch_bounds__(kRowThreads)
    UpdateCriticalKernel(LionOptions options, T* values, Weight w, float* momentum,
                         double* square_sums, const StepState* step) {
  const int lane = threadIdx.x % kLanes;
  const int64_t r = (int64_t{blockIdx.x} * kRowThreads + threadIdx.x) / kLanes;
  const int count = r < w.rows ? w.critical.count : 0;
  const Lion lion = MakeLion(options, *step);
  double sum = 0;
  for (int i = lane; i < count; i += kLanes) {
    T* from = values + r * w.cols + w.critical.columns[i];
    const float value = ToFloat(*from);
    *from = FromFloat<T>(0.0f);
    sum += static_cast<double>(value) * static_cast<double>(value);
    if (step->skip_update != 0) continue;
    const int64_t at = r * w.critical.count + i;
    UpdateValue(lion, lion.gradient_factor * value, w.critical.values + at, momentum + at);
  }
#pragma unroll
  for (int offset = kLanes / 2; offset > 0; offset /= 2) {
    sum += __shfl_xor_sync(kFullWarp, sum, offset);
  }
  if (lane == 0 && r < w.rows) square_sums[r] = sum;
}

}  // namespace

void CudaEngine::EncodeAndUpdate(const Matrix& values, const RandomStream& random,
                                 const LionOptions& options, const Weight& w, const Momentum& m,
                                 StepState* step) {
  if (!SupportsDType(w.dtype) || !SupportsDType(m.dtype)) return;
  if (w.dtype != m.dtype) return Fail("lion update: weight and momentum differ in dtype");
  if (w.critical.count > 0 && m.critical == nullptr) {
    return Fail("lion update: weight and momentum differ in their critical features");
  }
  if (w.rows == 0) return;
  if (w.dtype == DType::kF32) {
    if (values.dtype != DType::kF32) return Fail("a gradient in fp32 needs values in fp32");
    const Gradient gradient{values.data, nullptr, DType::kF32, w.rows, w.cols, {}, nullptr};
    AddSquareSum(gradient, step);
    return LionUpdate(options, w, m, gradient, step);
  }
  WithElements(values, [&](auto* data) {
    using Source = ValueGradient<std::remove_pointer_t<decltype(data)>>;
    Source source{data, {MakeRoundKeys(random.key), random.row_offset, step}, nullptr};
    const size_t sum_bytes = static_cast<size_t>(RoundUp(w.rows, 2)) * sizeof(double);
    const size_t bytes = LionLaunch<Source>(options, w, m, source, multiprocessors_).ScratchBytes();
    auto* scratch = static_cast<uint8_t*>(Scratch(sum_bytes + bytes));
    if (scratch == nullptr) return;
    source.square_sums = reinterpret_cast<double*>(scratch);
    WithFlag(w.critical.count <= kFewFeatures, [&](auto few) {
      constexpr int kLanes = decltype(few)::value ? kFewFeatures : 32;
      UpdateCriticalKernel<kLanes>
          <<<CeilDivide(w.rows, kRowThreads / kLanes), kRowThreads, 0, stream_>>>(
              options, data, w, m.critical, source.square_sums, step);
    });
    LionLaunch<Source>(options, w, m, source, multiprocessors_)
        .Run(scratch + sum_bytes, step, stream_);
    AddRowSums(source.square_sums, w.rows, step);
  });
  CheckLaunch("encoding a gradient and updating codes");
}

}  // namespace qft::cuda
