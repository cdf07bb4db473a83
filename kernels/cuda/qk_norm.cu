#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/engine.h"

namespace qft::cuda {
namespace {

constexpr int kHeadsPerBlock = 8;  // a warp a head
constexpr int kHeadThreads = 32 * kHeadsPerBlock;

__device__ inline int64_t HeadOfWarp() {
  return int64_t{blockIdx.x} * kHeadsPerBlock + threadIdx.x / 32;
}

unsigned HeadBlocks(int64_t heads) {
  return static_cast<unsigned>(CeilDivide(heads, kHeadsPerBlock));
}

// x, y [heads, dim], of all tokens.
template <typename TX, typename TY>
__global__ void __launch_bounds__(kHeadThreads)
    QkNormForwardKernel(const TX* x, const float* weight, float epsilon, int64_t heads, int dim,
                        TY* y, float* rstd) {
  const int64_t head = HeadOfWarp();
  if (head >= heads) return;
  const int lane = threadIdx.x % 32;
  x += head * dim;
  y += head * dim;
  float sum = 0.0f;
  for (int c = lane; c < dim; c += 32) sum = __fmaf_rn(ToFloat(x[c]), ToFloat(x[c]), sum);
  sum = WarpReduce(sum, AddValues());
  const float mean = __fdiv_rn(sum, static_cast<float>(dim));
  const float r = __fdiv_rn(1.0f, __fsqrt_rn(mean + epsilon));
  if (lane == 0) rstd[head] = r;
  for (int c = lane; c < dim; c += 32) y[c] = FromFloat<TY>(ToFloat(x[c]) * r * weight[c]);
}

// Every lane reads what it overwrites before it does, so that dx may be dy.
template <typename TX, typename TY, typename TD>
__global__ void __launch_bounds__(kHeadThreads)
    QkNormBackwardKernel(const TX* x, const float* weight, const float* rstd, const TY* dy,
                         int64_t heads, int dim, TD* dx) {
  const int64_t head = HeadOfWarp();
  if (head >= heads) return;
  const int lane = threadIdx.x % 32;
  x += head * dim;
  dy += head * dim;
  dx += head * dim;
  float sum = 0.0f;
  for (int c = lane; c < dim; c += 32) {
    sum = __fmaf_rn(ToFloat(dy[c]) * weight[c], ToFloat(x[c]), sum);
  }
  sum = WarpReduce(sum, AddValues());
  const float mean = __fdiv_rn(sum, static_cast<float>(dim));
  const float r = rstd[head];
  const float coefficient = r * r * r * mean;
  for (int c = lane; c < dim; c += 32) {
    const float g = ToFloat(dy[c]) * weight[c];
    dx[c] = FromFloat<TD>(__fmaf_rn(g, r, ToFloat(x[c]) * -coefficient));
  }
}

template <typename TX, typename TY>
struct WeightGradient {
  const TX* x;
  const TY* dy;
  const float* rstd;
  int64_t dim;
  __device__ float operator()(int64_t head, int64_t c) const {
    return ToFloat(dy[head * dim + c]) * (ToFloat(x[head * dim + c]) * rstd[head]);
  }
};

}  // namespace

void CudaEngine::QkNormForward(const Matrix& x, const float* weight, float epsilon,
                               int32_t head_dim, const Matrix& y, float* rstd) {
  if (x.rows == 0) return;
  const int64_t heads = x.rows * x.cols / head_dim;
  WithElements(x, [&](auto* x_data) {
    WithElements(y, [&](auto* y_data) {
      QkNormForwardKernel<<<HeadBlocks(heads), kHeadThreads, 0, stream_>>>(
          x_data, weight, epsilon, heads, head_dim, y_data, rstd);
    });
  });
  CheckLaunch("qk norm");
}

// The weight's gradient first: dx may take dy's place.
void CudaEngine::QkNormBackward(const Matrix& x, const float* weight, const float* rstd,
                                const Matrix& dy, const Matrix& dx, int32_t head_dim,
                                float* dweight) {
  if (x.rows == 0) return;
  const int64_t heads = x.rows * x.cols / head_dim;
  float* partial = nullptr;
  if (dweight != nullptr) {
    partial = static_cast<float*>(
        Scratch(static_cast<size_t>(SumBlocks(heads) * head_dim) * sizeof(float)));
    if (partial == nullptr) return;
  }
  WithElements(x, [&](auto* x_data) {
    WithElements(dy, [&](auto* dy_data) {
      using TX = std::remove_pointer_t<decltype(x_data)>;
      using TY = std::remove_pointer_t<decltype(dy_data)>;
      if (dweight != nullptr) {
        AddColumnSums(WeightGradient<TX, TY>{x_data, dy_data, rstd, head_dim}, heads, head_dim,
                      partial, dweight, stream_);
      }
      WithElements(dx, [&](auto* dx_data) {
        QkNormBackwardKernel<<<HeadBlocks(heads), kHeadThreads, 0, stream_>>>(
            x_data, weight, rstd, dy_data, heads, head_dim, dx_data);
      });
    });
  });
  CheckLaunch("qk norm backward");
}

}  // namespace qft::cuda
