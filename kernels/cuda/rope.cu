#include "kernels/cuda/device.cuh"
#include "kernels/cuda/engine.h"

namespace qft::cuda {
namespace {

constexpr int kThreads = 128;
constexpr int kMostHalf = 512;  // head_dim / 2

// x [T, heads * head_dim] in place, halves paired. A block a token; the angles of its position are
// found once for all heads.
template <typename T>
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
  for (int i = threadIdx.x; i < heads * half; i += kThreads) {
    T* low = row + i / half * 2 * half + i % half;
    T* high = low + half;
    const float a = ToFloat(*low);
    const float b = ToFloat(*high);
    const float c = cosine[i % half];
    const float s = sine[i % half];
    *low = FromFloat<T>(a * c - b * s);
    *high = FromFloat<T>(b * c + a * s);
  }
}

}  // namespace

void CudaEngine::Rope(const Matrix& x, const int32_t* positions, const float* inverse_frequency,
                      int32_t heads, int32_t head_dim, bool inverse) {
  if (x.rows == 0) return;
  if (head_dim / 2 > kMostHalf) return Fail("rope: head_dim must be at most 1024");
  WithElements(x, [&](auto* data) {
    RopeKernel<<<x.rows, kThreads, 0, stream_>>>(data, positions, inverse_frequency, heads,
                                                 head_dim / 2, inverse);
  });
  CheckLaunch("rope");
}

}  // namespace qft::cuda
