#include "kernels/cuda/device.cuh"
#include "kernels/cuda/engine.h"

namespace qft::cuda {
namespace {

// out = x + y, eight elements a thread.
template <typename TX, typename TY, typename TO>
__global__ void __launch_bounds__(kRowThreads)
    AddKernel(const TX* x, const TY* y, TO* out, int64_t count) {
  const int64_t i0 = (int64_t{blockIdx.x} * kRowThreads + threadIdx.x) * kVector;
  if (i0 >= count) return;
  float a[kVector], b[kVector];
  Load8(x, i0, count, a);
  Load8(y, i0, count, b);
#pragma unroll
  for (int i = 0; i < kVector; ++i) a[i] += b[i];
  Store8(out, i0, count, a);
}

}  // namespace

void CudaEngine::Add(const Matrix& x, const Matrix& y, const Matrix& out) {
  const int64_t count = x.rows * x.cols;
  if (count == 0) return;
  WithElements(x, [&](auto* x_data) {
    WithElements(y, [&](auto* y_data) {
      WithElements(out, [&](auto* out_data) {
        AddKernel<<<CeilDivide(count, kRowThreads * kVector), kRowThreads, 0, stream_>>>(
            x_data, y_data, out_data, count);
      });
    });
  });
  CheckLaunch("add");
}

}  // namespace qft::cuda
