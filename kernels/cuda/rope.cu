#include "kernels/cuda/device.cuh"
#include "kernels/cuda/engine.h"

namespace qft::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kMostHalf = 512;  // head_dim / 2

// x [T, heads * head_dim] in place, halves paired. A block a token; the angles of its position are
// found once for all heads. A thread rotates kCount neighbouring pairs at once.
template <int kCount, typename T>
__global__ void __launch_bounds__(kThreads)
    RopeKernel(T* x, const int32_t* positions, const float* inverse_frequency, int heads, int half,
               bool inverse) {
  __shared__ float cosine[kMostHalf];
  __shared__ float sine[kMostHalf];
  const auto position = static_cast<float>(positions[blockIdx.x]);
  for (int i = threadIdx.x; i < half; i += kThreads) {
    // The angle is rounded to fp32, as the models' reference implementations do.
    sincosf(position * inverse_frequency[i], &sine[i], &cosine[i]);
    if (inverse) sine[i] = -sine[i];
  }
  __syncthreads();
  T* row = x + int64_t{blockIdx.x} * heads * 2 * half;
  const int pieces = half / kCount;
  for (int n = threadIdx.x; n < heads * pieces; n += kThreads) {
    const int i = n % pieces * kCount;
    T* low = row + n / pieces * 2 * half + i;
    float a[kVector], b[kVector];
    if constexpr (kCount == kVector) {
      LoadVector8<true>(low, 0, kVector, a);
      LoadVector8<true>(low + half, 0, kVector, b);
    } else {
      a[0] = ToFloat(low[0]);
      b[0] = ToFloat(low[half]);
    }
#pragma unroll
    for (int j = 0; j < kCount; ++j) {
      const float turned = a[j] * cosine[i + j] - b[j] * sine[i + j];
      b[j] = b[j] * cosine[i + j] + a[j] * sine[i + j];
      a[j] = turned;
    }
    if constexpr (kCount == kVector) {
      Store8(low, 0, kVector, a);
      Store8(low + half, 0, kVector, b);
    } else {
      low[0] = FromFloat<T>(a[0]);
      low[half] = FromFloat<T>(b[0]);
    }
  }
}

}  // namespace

void CudaEngine::Rope(const Matrix& x, const int32_t* positions, const float* inverse_frequency,
                      int32_t heads, int32_t head_dim, bool inverse) {
  if (x.rows == 0) return;
  if (head_dim / 2 > kMostHalf) return Fail("rope: head_dim must be at most 1024");
  WithElements(x, [&](auto* data) {
    WithFlag(WholeVectors(data, head_dim / 2), [&](auto whole) {
      RopeKernel<whole.value ? kVector : 1><<<x.rows, kThreads, 0, stream_>>>(
          data, positions, inverse_frequency, heads, head_dim / 2, inverse);
    });
  });
  CheckLaunch("rope");
}

}  // namespace qft::cuda
