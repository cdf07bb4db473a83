#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/engine.h"

namespace qft::cuda {
namespace {

// y [count / cols, cols] += bias [cols], eight elements a thread.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    AddBiasKernel(T* y, const float* bias, int64_t count, int64_t cols) {
  const int64_t i0 = (int64_t{blockIdx.x} * kRowThreads + threadIdx.x) * kVector;
  if (i0 >= count) return;
  float v[kVector];
  Load8(y, i0, count, v);
  int64_t c = i0 % cols;
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    v[i] += bias[c];
    c = c + 1 < cols ? c + 1 : 0;
  }
  Store8(y, i0, count, v);
}

template <typename T>
struct Element {
  const T* data;
  int64_t cols;
  __device__ float operator()(int64_t row, int64_t c) const {
    return ToFloat(data[row * cols + c]);
  }
};

}  // namespace

void CudaEngine::AddBias(const Matrix& y, const float* bias) {
  const int64_t count = y.rows * y.cols;
  if (count == 0) return;
  WithElements(y, [&](auto* data) {
    AddBiasKernel<<<CeilDivide(count, kRowThreads * kVector), kRowThreads, 0, stream_>>>(
        data, bias, count, y.cols);
  });
  CheckLaunch("bias");
}

void CudaEngine::BiasBackward(const Matrix& dy, float* dbias) {
  if (dy.rows == 0) return;
  auto* partial = static_cast<float*>(
      Scratch(static_cast<size_t>(SumBlocks(dy.rows) * dy.cols) * sizeof(float)));
  if (partial == nullptr) return;
  WithElements(dy, [&](auto* data) {
    using T = std::remove_pointer_t<decltype(data)>;
    AddColumnSums(Element<T>{data, dy.cols}, dy.rows, dy.cols, partial, dbias, stream_);
  });
  CheckLaunch("bias backward");
}

}  // namespace qft::cuda
