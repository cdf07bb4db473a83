#include "kernels/cuda/device.cuh"
#include "kernels/cuda/engine.h"

namespace qft::cuda {
namespace {

constexpr int kSumThreads = 1024;

__device__ float Infinity() {
  return __int_as_float(0x7f800000);
}

// The larger; NaN where b is NaN is dropped here and comes back with the sum.
struct LargerOf {
  __device__ float operator()(float a, float b) const { return b > a ? b : a; }
};

// logits [T, C], a block a token.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    CrossEntropyChunkKernel(const T* logits, int64_t cols, int64_t chunk_begin,
                            const int32_t* targets, float* row_max, float* row_sum,
                            float* target_logit) {
  const int64_t t = blockIdx.x;
  const T* row = logits + t * cols;
  float chunk_max = -Infinity();
  for (int64_t c = threadIdx.x * kVector; c < cols; c += kRowThreads * kVector) {
    float v[kVector];
    Load8(row, c, cols, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      if (c + i < cols) chunk_max = LargerOf()(chunk_max, v[i]);
    }
  }
  const float old_max = chunk_begin == 0 ? -Infinity() : row_max[t];
  const float old_sum = chunk_begin == 0 ? 0.0f : row_sum[t];
  const float max = LargerOf()(old_max, BlockReduce(chunk_max, LargerOf()));
  // As long as every logit was -infinity, nothing is subtracted: that would make NaNs.
  const float shift = max == -Infinity() ? 0.0f : max;
  float sum = 0;
  for (int64_t c = threadIdx.x * kVector; c < cols; c += kRowThreads * kVector) {
    float v[kVector];
    Load8(row, c, cols, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      if (c + i < cols) sum += expf(v[i] - shift);
    }
  }
  sum = BlockReduce(sum, AddValues());
  if (threadIdx.x != 0) return;
  row_max[t] = max;
  row_sum[t] = old_sum * expf(old_max - shift) + sum;
  const int64_t target = targets[t] - chunk_begin;
  if (target >= 0 && target < cols) target_logit[t] = ToFloat(row[target]);
}

// One block, so that the sums have one order.
__global__ void __launch_bounds__(kSumThreads)
    CrossEntropyLossKernel(int64_t tokens, const float* loss_weight, const float* row_max,
                           const float* row_sum, const float* target_logit, float* token_loss,
                           StepState* step) {
  double loss_sum = 0;
  double weight_sum = 0;
  for (int64_t t = threadIdx.x; t < tokens; t += kSumThreads) {
    token_loss[t] = 0.0f;
    if (loss_weight[t] == 0.0f) continue;
    const double log_sum = log(static_cast<double>(row_sum[t]));
    token_loss[t] = static_cast<float>(
        log_sum + (static_cast<double>(row_max[t]) - static_cast<double>(target_logit[t])));
    const auto weight = static_cast<double>(loss_weight[t]);
    loss_sum += weight * static_cast<double>(token_loss[t]);
    weight_sum += weight;
  }
  loss_sum = BlockReduce(loss_sum, AddValues());
  weight_sum = BlockReduce(weight_sum, AddValues());
  if (threadIdx.x != 0) return;
  step->loss_sum += loss_sum;
  step->loss_weight += weight_sum;
}

// In place: logits -> weight * (exp(logit - max) / sum - [column == target]). A block a token.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    CrossEntropyGradientKernel(T* logits, int64_t cols, int64_t chunk_begin, const int32_t* targets,
                               const float* loss_weight, const float* row_max,
                               const float* row_sum) {
  const int64_t t = blockIdx.x;
  T* row = logits + t * cols;
  const float weight = loss_weight[t];
  const float factor = weight == 0.0f ? 0.0f : __fdiv_rn(weight, row_sum[t]);
  const float shift = row_max[t];
  const int64_t target = targets[t] - chunk_begin;
  for (int64_t c = threadIdx.x * kVector; c < cols; c += kRowThreads * kVector) {
    float v[kVector];
    Load8(row, c, cols, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      v[i] = weight == 0.0f ? 0.0f : expf(v[i] - shift) * factor;
      if (c + i == target) v[i] -= weight;
    }
    Store8(row, c, cols, v);
  }
}

}  // namespace

void CudaEngine::CrossEntropyChunk(const Matrix& logits, int64_t chunk_begin,
                                   const int32_t* targets, float* row_max, float* row_sum,
                                   float* target_logit) {
  if (logits.rows == 0) return;
  WithElements(logits, [&](auto* data) {
    CrossEntropyChunkKernel<<<logits.rows, kRowThreads, 0, stream_>>>(
        data, logits.cols, chunk_begin, targets, row_max, row_sum, target_logit);
  });
  CheckLaunch("cross entropy");
}

void CudaEngine::CrossEntropyLoss(int64_t tokens, const float* loss_weight, const float* row_max,
                                  const float* row_sum, const float* target_logit,
                                  float* token_loss, StepState* step) {
  CrossEntropyLossKernel<<<1, kSumThreads, 0, stream_>>>(tokens, loss_weight, row_max, row_sum,
                                                         target_logit, token_loss, step);
  CheckLaunch("loss");
}

void CudaEngine::CrossEntropyGradient(const Matrix& logits, int64_t chunk_begin,
                                      const int32_t* targets, const float* loss_weight,
                                      const float* row_max, const float* row_sum) {
  if (logits.rows == 0) return;
  WithElements(logits, [&](auto* data) {
    CrossEntropyGradientKernel<<<logits.rows, kRowThreads, 0, stream_>>>(
        data, logits.cols, chunk_begin, targets, loss_weight, row_max, row_sum);
  });
  CheckLaunch("cross entropy gradient");
}

}  // namespace qft::cuda
