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

// Of a row in which every logit is -infinity nothing is subtracted: that would make NaNs.
__device__ float ShiftOf(float max) {
  return max == -Infinity() ? 0.0f : max;
}

// logits [T, C], a block a token.
__global__ void __launch_bounds__(kRowThreads)
    CrossEntropyChunkKernel(const float* logits, int64_t cols, const int32_t* targets,
                            const __grid_constant__ VocabularyChunk chunk, float* target_logit) {
  const int64_t t = blockIdx.x;
  const float* row = logits + t * cols;
  auto* exps = static_cast<BFloat16*>(chunk.exps.data);
  float largest = -Infinity();
  for (int64_t c = threadIdx.x * kVector; c < cols; c += kRowThreads * kVector) {
    float v[kVector];
    Load8(row, c, cols, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      if (c + i < cols) largest = LargerOf()(largest, v[i]);
    }
  }
  largest = BlockReduce(largest, LargerOf());
  const float shift = ShiftOf(largest);
  float sum = 0;
  for (int64_t c = threadIdx.x * kVector; c < cols; c += kRowThreads * kVector) {
    float v[kVector];
    Load8(row, c, cols, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      v[i] = expf(v[i] - shift);
      if (c + i < cols) sum += v[i];
    }
    if (exps != nullptr) Store8(exps + t * cols, c, cols, v);
  }
  sum = BlockReduce(sum, AddValues());
  if (threadIdx.x != 0) return;
  chunk.max[t] = largest;
  chunk.sum[t] = sum;
  const int64_t target = targets[t] - chunk.begin;
  if (target >= 0 && target < cols) target_logit[t] = row[target];
}

// One block, so that the sums have one order.
__global__ void __launch_bounds__(kSumThreads)
    CrossEntropyLossKernel(const __grid_constant__ CrossEntropyRows rows, int64_t chunks,
                           const float* chunk_max, const float* chunk_sum, StepState* step) {
  double loss_sum = 0;
  double weight_sum = 0;
  for (int64_t t = threadIdx.x; t < rows.tokens; t += kSumThreads) {
    float max = -Infinity();
    float sum = 0;
    for (int64_t c = 0; c < chunks; ++c) {
      const float next = chunk_max[c * rows.tokens + t];
      const float larger = LargerOf()(max, next);
      const float shift = ShiftOf(larger);
      sum = sum * expf(max - shift) + chunk_sum[c * rows.tokens + t] * expf(next - shift);
      max = larger;
    }
    rows.row_max[t] = max;
    rows.row_sum[t] = sum;
    rows.token_loss[t] = 0.0f;
    if (rows.loss_weight[t] == 0.0f) continue;
    const double log_sum = log(static_cast<double>(sum));
    rows.token_loss[t] = static_cast<float>(
        log_sum + (static_cast<double>(max) - static_cast<double>(rows.target_logit[t])));
    const auto weight = static_cast<double>(rows.loss_weight[t]);
    loss_sum += weight * static_cast<double>(rows.token_loss[t]);
    weight_sum += weight;
  }
  loss_sum = BlockReduce(loss_sum, AddValues());
  weight_sum = BlockReduce(weight_sum, AddValues());
  if (threadIdx.x != 0) return;
  step->loss_sum += loss_sum;
  step->loss_weight += weight_sum;
}

// A block a token.
template <typename T>
__global__ void __launch_bounds__(kRowThreads)
    CrossEntropyGradientKernel(const __grid_constant__ VocabularyChunk chunk,
                               const __grid_constant__ CrossEntropyRows rows, int64_t cols,
                               T* gradient) {
  const int64_t t = blockIdx.x;
  const auto* exps = static_cast<const BFloat16*>(chunk.exps.data) + t * cols;
  const float weight = rows.loss_weight[t];
  const float factor =
      __fdiv_rn(weight, rows.row_sum[t]) * expf(chunk.max[t] - ShiftOf(rows.row_max[t]));
  const int64_t target = rows.targets[t] - chunk.begin;
  for (int64_t c = threadIdx.x * kVector; c < cols; c += kRowThreads * kVector) {
    float v[kVector];
    Load8(exps, c, cols, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) {
      v[i] = weight == 0.0f ? 0.0f : v[i] * factor;
      if (c + i == target) v[i] -= weight;
    }
    Store8(gradient + t * cols, c, cols, v);
  }
}

}  // namespace

void CudaEngine::CrossEntropyChunk(const Matrix& logits, const int32_t* targets,
                                   const VocabularyChunk& chunk, float* target_logit) {
  if (logits.rows == 0) return;
  if (logits.dtype != DType::kF32) return Fail("logits are fp32");
  CrossEntropyChunkKernel<<<logits.rows, kRowThreads, 0, stream_>>>(
      static_cast<const float*>(logits.data), logits.cols, targets, chunk, target_logit);
  CheckLaunch("cross entropy");
}

void CudaEngine::CrossEntropyLoss(const CrossEntropyRows& rows, int64_t chunks,
                                  const float* chunk_max, const float* chunk_sum, StepState* step) {
  CrossEntropyLossKernel<<<1, kSumThreads, 0, stream_>>>(rows, chunks, chunk_max, chunk_sum, step);
  CheckLaunch("loss");
}

void CudaEngine::CrossEntropyGradient(const VocabularyChunk& chunk, const CrossEntropyRows& rows,
                                      const Matrix& gradient) {
  if (gradient.rows == 0) return;
  WithElements(gradient, [&](auto* data) {
    CrossEntropyGradientKernel<<<gradient.rows, kRowThreads, 0, stream_>>>(chunk, rows,
                                                                           gradient.cols, data);
  });
  CheckLaunch("cross entropy gradient");
}

}  // namespace qft::cuda
