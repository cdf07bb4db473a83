#include "kernels/cpu/engine.h"
#include "kernels/cpu/layer_util.h"
#include "kernels/cpu/row_tasks.h"

namespace qft::QFT_ISA {
namespace {

// Largest element; NaNs are passed over.
float RowMax(const float* x, int64_t cols) {
  const Float16 lowest = Broadcast(-__builtin_inff());
  Float16 m0 = lowest, m1 = lowest, m2 = lowest, m3 = lowest;
  int64_t c = 0;
  for (; c + 4 * kLanes <= cols; c += 4 * kLanes) {
    m0 = MaxOf(Load(x + c), m0);
    m1 = MaxOf(Load(x + c + kLanes), m1);
    m2 = MaxOf(Load(x + c + 2 * kLanes), m2);
    m3 = MaxOf(Load(x + c + 3 * kLanes), m3);
  }
  for (; c + kLanes <= cols; c += kLanes) m0 = MaxOf(Load(x + c), m0);
  float max = MaxLane(MaxOf(MaxOf(m0, m1), MaxOf(m2, m3)));
  for (; c < cols; ++c) max = x[c] > max ? x[c] : max;
  return max;
}

// sum of e^(x - shift)
float ExpSum(const float* x, int64_t cols, float shift) {
  const Float16 offset = Broadcast(shift);
  Float16 s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int64_t c = 0;
  for (; c + 4 * kLanes <= cols; c += 4 * kLanes) {
    s0 += ExpBounded(Load(x + c) - offset);
    s1 += ExpBounded(Load(x + c + kLanes) - offset);
    s2 += ExpBounded(Load(x + c + 2 * kLanes) - offset);
    s3 += ExpBounded(Load(x + c + 3 * kLanes) - offset);
  }
  for (; c + kLanes <= cols; c += kLanes) s0 += ExpBounded(Load(x + c) - offset);
  if (c < cols) {
    float e[kLanes];
    Store(e, ExpBounded(LoadPartial(x + c, cols - c) - offset));
    s1 += LoadPartial(e, cols - c);
  }
  return Sum((s0 + s1) + (s2 + s3));
}

QFT_INLINE float ExpScalar(float x) {
  return ExpBounded(Broadcast(x))[0];
}

// x -> factor * e^(x - shift)
void ScaledExpRow(float* x, int64_t cols, float shift, float factor) {
  const Float16 offset = Broadcast(shift), scale = Broadcast(factor);
  int64_t c = 0;
  for (; c + kLanes <= cols; c += kLanes) {
    Store(x + c, ExpBounded(Load(x + c) - offset) * scale);
  }
  if (c < cols) {
    const Float16 e = ExpBounded(LoadPartial(x + c, cols - c) - offset) * scale;
    StorePartial(x + c, e, cols - c);
  }
}

}  // namespace

void CpuEngine::CrossEntropyChunk(const Matrix& logits, int64_t chunk_begin, const int32_t* targets,
                                  float* row_max, float* row_sum, float* target_logit) {
  const int64_t cols = logits.cols;
  const RowTasks tasks(logits.rows, cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t t = tasks.Begin(task); t < tasks.End(task); ++t) {
      const float* row = static_cast<const float*>(logits.data) + t * cols;
      const float old_max = chunk_begin == 0 ? -__builtin_inff() : row_max[t];
      const float old_sum = chunk_begin == 0 ? 0.0f : row_sum[t];
      const float chunk_max = RowMax(row, cols);
      const float max = chunk_max > old_max ? chunk_max : old_max;
      // As long as every logit was -infinity, nothing is subtracted: that would make NaNs.
      const float shift = max == -__builtin_inff() ? 0.0f : max;
      row_max[t] = max;
      row_sum[t] = old_sum * ExpScalar(old_max - shift) + ExpSum(row, cols, shift);
      const int64_t target = targets[t] - chunk_begin;
      if (target >= 0 && target < cols) target_logit[t] = row[target];
    }
  });
}

void CpuEngine::CrossEntropyLoss(int64_t tokens, const float* loss_weight, const float* row_max,
                                 const float* row_sum, const float* target_logit, float* token_loss,
                                 StepState* step) {
  for (int64_t t = 0; t < tokens; ++t) {
    token_loss[t] = 0.0f;
    if (loss_weight[t] == 0.0f) continue;
    const double log_sum = LogFixed(static_cast<double>(row_sum[t]));
    token_loss[t] = static_cast<float>(
        log_sum + (static_cast<double>(row_max[t]) - static_cast<double>(target_logit[t])));
    const double weight = static_cast<double>(loss_weight[t]);
    step->loss_sum += weight * static_cast<double>(token_loss[t]);
    step->loss_weight += weight;
  }
}

void CpuEngine::CrossEntropyGradient(const Matrix& logits, int64_t chunk_begin,
                                     const int32_t* targets, const float* loss_weight,
                                     const float* row_max, const float* row_sum) {
  const int64_t cols = logits.cols;
  const RowTasks tasks(logits.rows, cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t t = tasks.Begin(task); t < tasks.End(task); ++t) {
      float* row = static_cast<float*>(logits.data) + t * cols;
      const float weight = loss_weight[t];
      if (weight == 0.0f) {
        std::memset(row, 0, static_cast<size_t>(cols) * sizeof(float));
        continue;
      }
      ScaledExpRow(row, cols, row_max[t], weight / row_sum[t]);
      const int64_t target = targets[t] - chunk_begin;
      if (target >= 0 && target < cols) row[target] -= weight;
    }
  });
}

}  // namespace qft::QFT_ISA
