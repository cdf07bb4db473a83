#include "kernels/cuda/column_sums.cuh"
#include "kernels/cuda/engine.h"
#include "kernels/cuda/row.cuh"

namespace qft::cuda {
namespace {

// Tokens whose part of the weight gradient a block sums.
constexpr int64_t kTokenBlock = 32;

// x [rows, K] -> y, rstd [rows].
template <typename Layout, typename T>
__global__ void __launch_bounds__(Layout::kThreads, Layout::kBlocks)
    RmsNormForwardKernel(const T* x, const float* weight, float epsilon, int64_t rows,
                         const __grid_constant__ Operand y, float* rstd) {
  const OperandRows<Layout> writer(y);
  ForEachRow<Layout>(x, rows, y.cols, [&](int64_t row, int turn, typename Layout::Values& v) {
    typename Layout::Values w;
    Layout::Load(weight, y.cols, w);
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < Layout::kVectors * kVector; ++i) {
      const float value = v[i / kVector][i % kVector];
      sum = __fmaf_rn(value, value, sum);
    }
    const float mean = __fdiv_rn(SumInTurn(sum, turn), static_cast<float>(y.cols));
    const float r = __fdiv_rn(1.0f, __fsqrt_rn(mean + epsilon));
    if (threadIdx.x == 0) rstd[row] = r;
#pragma unroll
    for (int i = 0; i < Layout::kVectors * kVector; ++i) {
      float& value = v[i / kVector][i % kVector];
      value = value * r * w[i / kVector][i % kVector];
    }
    writer.Write(row, turn, v);
  });
}

struct BackwardShape {
  int64_t rows;
  int64_t cols;
};

// dx [rows, K] += gradient through the norm; partial [blocks, K] (or nullptr): sums of dy * x *
// rstd. A block kTokenBlock tokens.
template <typename Layout, typename TX, typename TY, typename TD>
__global__ void __launch_bounds__(Layout::kThreads, Layout::kBlocks)
    RmsNormBackwardKernel(BackwardShape shape, const TX* x, const float* weight, const float* rstd,
                          const TY* dy, TD* dx, float* partial) {
  const int64_t begin = blockIdx.x * kTokenBlock;
  const int64_t end = Smaller(shape.rows, begin + kTokenBlock);
  typename Layout::Values weight_sum = {};
  int turn = 0;
  for (int64_t row = begin; row < end; ++row, ++turn) {
    const int64_t offset = row * shape.cols;
    typename Layout::Values v, w, g;
    Layout::Load(x + offset, shape.cols, v);
    Layout::Load(dy + offset, shape.cols, g);
    Layout::Load(weight, shape.cols, w);
    const float r = rstd[row];
    float sum = 0.0f;
#pragma unroll
    for (int n = 0; n < Layout::kVectors * kVector; ++n) {
      const int i = n / kVector, j = n % kVector;
      weight_sum[i][j] = __fmaf_rn(g[i][j], v[i][j] * r, weight_sum[i][j]);
      g[i][j] = g[i][j] * w[i][j];
      sum = __fmaf_rn(g[i][j], v[i][j], sum);
    }
    const float mean = __fdiv_rn(SumInTurn(sum, turn), static_cast<float>(shape.cols));
    const float coefficient = r * r * r * mean;
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      if (Layout::Column(i) >= shape.cols) continue;
      float d[kVector];
      LoadVector8<Layout::kWhole>(dx + offset, Layout::Column(i), shape.cols, d);
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        d[j] = d[j] + __fmaf_rn(g[i][j], r, v[i][j] * -coefficient);
      }
      Store8(dx + offset, Layout::Column(i), shape.cols, d);
    }
  }
  if (partial == nullptr) return;
#pragma unroll
  for (int i = 0; i < Layout::kVectors; ++i) {
    if (Layout::Column(i) >= shape.cols) continue;
    Store8(partial + blockIdx.x * shape.cols, Layout::Column(i), shape.cols, weight_sum[i]);
  }
}

// Fewer columns a thread than WithRowLayout gives, for a kernel that holds five rows.
template <typename F>
void WithThinLayout(int64_t cols, bool whole, F f) {
  if (!whole) return f(RowLayout<1024, 8, false>());
  if (cols <= 256 * kVector) return f(RowLayout<256, 1, true>());
  if (cols <= 512 * kVector) return f(RowLayout<512, 1, true>());
  if (cols <= 1024 * kVector) return f(RowLayout<1024, 1, true>());
  f(RowLayout<1024, 8, true>());
}

}  // namespace

void CudaEngine::RmsNormForward(const Matrix& x, const float* weight, float epsilon,
                                const Operand& y, float* rstd) {
  if (!SupportsDType(y.dtype) || x.rows == 0) return;
  if (x.cols > kMostRowColumns) return Fail(kRowTooWide);
  WithElements(x, [&](auto* data) {
    const bool whole =
        WholeVectors(data, x.cols) && WholeVectors(weight, x.cols) && WholeVectors(y);
    WithRowLayout(x.cols, whole, [&](auto layout) {
      using Layout = decltype(layout);
      RmsNormForwardKernel<Layout>
          <<<RowBlocks<Layout>(x.rows, multiprocessors_), Layout::kThreads, 0, stream_>>>(
              data, weight, epsilon, x.rows, y, rstd);
    });
  });
  CheckLaunch("norm");
}

void CudaEngine::RmsNormBackward(const Matrix& x, const float* weight, const float* rstd,
                                 const Matrix& dy, const Matrix& dx, float* dweight) {
  if (x.rows == 0) return;
  if (x.cols > kMostRowColumns) return Fail(kRowTooWide);
  const int64_t blocks = CeilDivide(x.rows, kTokenBlock);
  float* partial = nullptr;
  if (dweight != nullptr) {
    partial = static_cast<float*>(Scratch(static_cast<size_t>(blocks * x.cols) * sizeof(float)));
    if (partial == nullptr) return;
  }
  WithElements(x, [&](auto* x_data) {
    WithElements(dy, [&](auto* dy_data) {
      WithElements(dx, [&](auto* dx_data) {
        const bool whole = WholeVectors(x_data, x.cols) && WholeVectors(weight, x.cols) &&
                           WholeVectors(dy_data, x.cols) && WholeVectors(dx_data, x.cols);
        WithThinLayout(x.cols, whole, [&](auto layout) {
          using Layout = decltype(layout);
          RmsNormBackwardKernel<Layout>
              <<<static_cast<unsigned>(blocks), Layout::kThreads, 0, stream_>>>(
                  {x.rows, x.cols}, x_data, weight, rstd, dy_data, dx_data, partial);
        });
      });
    });
  });
  if (dweight != nullptr) AddPartialSums(partial, blocks, x.cols, dweight, stream_);
  CheckLaunch("norm backward");
}

}  // namespace qft::cuda
