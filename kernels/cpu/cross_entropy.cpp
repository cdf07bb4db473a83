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

// e^(x - offset) of 16 elements; written to `exps` where there are any.
QFT_INLINE Float16 KeptExp(const float* x, Float16 offset, uint16_t* exps) {
  const Float16 e = ExpBounded(Load(x) - offset);
  if (exps != nullptr) StoreHalves(exps, e);
  return e;
}

// sum of e^(x - shift). exps: the summands, unless nullptr.
float ExpSum(const float* x, int64_t cols, float shift, uint16_t* exps) {
  const auto at = [exps](int64_t c) { return exps == nullptr ? nullptr : exps + c; };
  const Float16 offset = Broadcast(shift);
  Float16 s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int64_t c = 0;
  for (; c + 4 * kLanes <= cols; c += 4 * kLanes) {
    s0 += KeptExp(x + c, offset, at(c));
    s1 += KeptExp(x + c + kLanes, offset, at(c + kLanes));
    s2 += KeptExp(x + c + 2 * kLanes, offset, at(c + 2 * kLanes));
    s3 += KeptExp(x + c + 3 * kLanes, offset, at(c + 3 * kLanes));
  }
  for (; c + kLanes <= cols; c += kLanes) s0 += KeptExp(x + c, offset, at(c));
  if (c < cols) {
    const Float16 last = ExpBounded(LoadPartial(x + c, cols - c) - offset);
    if (exps != nullptr) StoreHalvesPartial(exps + c, last, cols - c);
    float e[kLanes];
    Store(e, last);
    s1 += LoadPartial(e, cols - c);
  }
  return Sum((s0 + s1) + (s2 + s3));
}

QFT_INLINE float ExpScalar(float x) {
  return ExpBounded(Broadcast(x))[0];
}

void ScaleRow(const uint16_t* exps, int64_t cols, float factor, float* out) {
  const Float16 scale = Broadcast(factor);
  int64_t c = 0;
  for (; c + kLanes <= cols; c += kLanes) Store(out + c, LoadHalves(exps + c) * scale);
  if (c < cols) {
    StorePartial(out + c, LoadHalvesPartial(exps + c, cols - c) * scale, cols - c);
  }
}

// Of a row in which every logit is -infinity nothing is subtracted: that would make NaNs.
float ShiftOf(float max) {
  return max == -__builtin_inff() ? 0.0f : max;
}

}  // namespace

void CpuEngine::CrossEntropyChunk(const Matrix& logits, const int32_t* targets,
                                  const VocabularyChunk& chunk, float* target_logit) {
  const int64_t cols = logits.cols;
  const RowTasks tasks(logits.rows, cols);
  auto* exps = static_cast<uint16_t*>(chunk.exps.data);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t t = tasks.Begin(task); t < tasks.End(task); ++t) {
      const float* row = static_cast<const float*>(logits.data) + t * cols;
      chunk.max[t] = RowMax(row, cols);
      chunk.sum[t] =
          ExpSum(row, cols, ShiftOf(chunk.max[t]), exps == nullptr ? nullptr : exps + t * cols);
      const int64_t target = targets[t] - chunk.begin;
      if (target >= 0 && target < cols) target_logit[t] = row[target];
    }
  });
}

void CpuEngine::CrossEntropyLoss(const CrossEntropyRows& rows, int64_t chunks,
                                 const float* chunk_max, const float* chunk_sum, StepState* step) {
  for (int64_t t = 0; t < rows.tokens; ++t) {
    float max = -__builtin_inff();
    float sum = 0;
    for (int64_t c = 0; c < chunks; ++c) {
      const float next = chunk_max[c * rows.tokens + t];
      const float larger = next > max ? next : max;
      const float shift = ShiftOf(larger);
      sum = sum * ExpScalar(max - shift) + chunk_sum[c * rows.tokens + t] * ExpScalar(next - shift);
      max = larger;
    }
    rows.row_max[t] = max;
    rows.row_sum[t] = sum;
    rows.token_loss[t] = 0.0f;
    if (rows.loss_weight[t] == 0.0f) continue;
    const double log_sum = LogFixed(static_cast<double>(sum));
    rows.token_loss[t] = static_cast<float>(
        log_sum + (static_cast<double>(max) - static_cast<double>(rows.target_logit[t])));
    const double weight = static_cast<double>(rows.loss_weight[t]);
    step->loss_sum += weight * static_cast<double>(rows.token_loss[t]);
    step->loss_weight += weight;
  }
}

void CpuEngine::CrossEntropyGradient(const VocabularyChunk& chunk, const CrossEntropyRows& rows,
                                     const Matrix& gradient) {
  const int64_t cols = gradient.cols;
  const RowTasks tasks(gradient.rows, cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t t = tasks.Begin(task); t < tasks.End(task); ++t) {
      float* row = static_cast<float*>(gradient.data) + t * cols;
      const float weight = rows.loss_weight[t];
      if (weight == 0.0f) {
        std::memset(row, 0, static_cast<size_t>(cols) * sizeof(float));
        continue;
      }
      const float factor =
          weight / rows.row_sum[t] * ExpScalar(chunk.max[t] - ShiftOf(rows.row_max[t]));
      ScaleRow(static_cast<const uint16_t*>(chunk.exps.data) + t * cols, cols, factor, row);
      const int64_t target = rows.targets[t] - chunk.begin;
      if (target >= 0 && target < cols) row[target] -= weight;
    }
  });
}

}  // namespace qft::QFT_ISA
