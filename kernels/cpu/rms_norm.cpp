#include "kernels/cpu/engine.h"
#include "kernels/cpu/layer_util.h"
#include "kernels/cpu/norm_gradient.h"
#include "kernels/cpu/quantize_row.h"
#include "kernels/cpu/row_tasks.h"

namespace qft::QFT_ISA {
namespace {

// Tokens whose dweight is summed before the sums are; part of the numerics.
constexpr int64_t kTokenBlock = 64;
constexpr int64_t kSumColumns = 256;

float SquareSum(const float* x, int64_t cols) {
  Float16 s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int64_t c = 0;
  for (; c + 4 * kLanes <= cols; c += 4 * kLanes) {
    const Float16 x0 = Load(x + c), x1 = Load(x + c + kLanes);
    const Float16 x2 = Load(x + c + 2 * kLanes), x3 = Load(x + c + 3 * kLanes);
    s0 = Fma(x0, x0, s0);
    s1 = Fma(x1, x1, s1);
    s2 = Fma(x2, x2, s2);
    s3 = Fma(x3, x3, s3);
  }
  for (; c < cols; c += kLanes) {
    const Float16 x0 = c + kLanes <= cols ? Load(x + c) : LoadPartial(x + c, cols - c);
    s0 = Fma(x0, x0, s0);
  }
  return Sum((s0 + s1) + (s2 + s3));
}

// sum of x * weight * dy
float WeightedDot(const float* x, const float* weight, const float* dy, int64_t cols) {
  Float16 s0 = {}, s1 = {};
  int64_t c = 0;
  for (; c + 2 * kLanes <= cols; c += 2 * kLanes) {
    s0 = Fma(Load(dy + c) * Load(weight + c), Load(x + c), s0);
    s1 = Fma(Load(dy + c + kLanes) * Load(weight + c + kLanes), Load(x + c + kLanes), s1);
  }
  if (c + kLanes <= cols) {
    s0 = Fma(Load(dy + c) * Load(weight + c), Load(x + c), s0);
    c += kLanes;
  }
  if (c < cols) {
    const int64_t rest = cols - c;
    s1 = Fma(LoadPartial(dy + c, rest) * LoadPartial(weight + c, rest), LoadPartial(x + c, rest),
             s1);
  }
  return Sum(s0 + s1);
}

// dx = rstd * (dy * weight) - coefficient * x (+ dx when accumulate). dx may be dy.
void InputGradient(const float* x, const float* weight, const float* dy, float rstd,
                   float coefficient, int64_t cols, bool accumulate, float* dx) {
  for (int64_t c = 0; c < cols; c += kLanes) {
    const int64_t rest = cols - c;
    const bool full = rest >= kLanes;
    const Float16 g = full ? Load(dy + c) * Load(weight + c)
                           : LoadPartial(dy + c, rest) * LoadPartial(weight + c, rest);
    const Float16 v = full ? Load(x + c) : LoadPartial(x + c, rest);
    Float16 sum = {};
    if (accumulate) sum = full ? Load(dx + c) : LoadPartial(dx + c, rest);
    sum = sum + Fma(g, Broadcast(rstd), v * Broadcast(-coefficient));
    if (full) {
      Store(dx + c, sum);
    } else {
      StorePartial(dx + c, sum, rest);
    }
  }
}

// sums += dy * (x * rstd)
void AddWeightGradient(const float* x, const float* dy, float rstd, int64_t cols, float* sums) {
  const Float16 r = Broadcast(rstd);
  int64_t c = 0;
  for (; c + kLanes <= cols; c += kLanes) {
    Store(sums + c, Fma(Load(dy + c), Load(x + c) * r, Load(sums + c)));
  }
  if (c < cols) {
    const int64_t rest = cols - c;
    const Float16 sum =
        Fma(LoadPartial(dy + c, rest), LoadPartial(x + c, rest) * r, LoadPartial(sums + c, rest));
    StorePartial(sums + c, sum, rest);
  }
}

}  // namespace

void CpuEngine::RmsNormForward(const Matrix& x, const float* weight, float epsilon,
                               const Operand& y, float* rstd) {
  if (!SupportsDType(y.dtype)) return;
  const int64_t cols = x.cols;
  const RowTasks tasks(x.rows, cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int worker) {
    char* const scratch = WorkerScratch(worker, static_cast<size_t>(cols) * sizeof(float));
    if (scratch == nullptr) return;
    for (int64_t t = tasks.Begin(task); t < tasks.End(task); ++t) {
      const float* row = static_cast<const float*>(x.data) + t * cols;
      float* to = y.dtype == DType::kF32 ? static_cast<float*>(y.data) + t * cols
                                         : reinterpret_cast<float*>(scratch);
      const float mean = SquareSum(row, cols) / static_cast<float>(cols);
      const float r = 1.0f / __builtin_sqrtf(mean + epsilon);
      rstd[t] = r;
      for (int64_t c = 0; c < cols; ++c) to[c] = row[c] * r * weight[c];
      StoreOperandRow(to, t, y);
    }
  });
}

void CpuEngine::RmsNormBackward(const Matrix& x, const float* weight, const float* rstd,
                                const Matrix& dy, const Matrix& dx, float* dweight) {
  NormBackward({x, weight, rstd, dy, dx, true, dweight});
}

void CpuEngine::NormBackward(const NormGradient& gradient) {
  const Matrix &x = gradient.x, &dy = gradient.dy, &dx = gradient.dx;
  float* const dweight = gradient.dweight;
  const int64_t cols = x.cols, blocks = CeilDivide(x.rows, kTokenBlock);
  float* partial = nullptr;  // [blocks][cols], shared by the workers
  if (dweight != nullptr) {
    partial = reinterpret_cast<float*>(
        WorkerScratch(0, static_cast<size_t>(blocks * cols) * sizeof(float)));
    if (partial == nullptr) return;
  }
  pool_.ParallelFor(blocks, [&](int64_t block, int) {
    float* sums = partial != nullptr ? partial + block * cols : nullptr;
    if (sums != nullptr) std::memset(sums, 0, static_cast<size_t>(cols) * sizeof(float));
    const int64_t end = Smaller(x.rows, (block + 1) * kTokenBlock);
    for (int64_t t = block * kTokenBlock; t < end; ++t) {
      const float* row = static_cast<const float*>(x.data) + t * cols;
      const float* dy_row = static_cast<const float*>(dy.data) + t * cols;
      const float r = gradient.rstd[t];
      const float mean = WeightedDot(row, gradient.weight, dy_row, cols) / static_cast<float>(cols);
      if (sums != nullptr) AddWeightGradient(row, dy_row, r, cols, sums);
      InputGradient(row, gradient.weight, dy_row, r, r * r * r * mean, cols, gradient.accumulate,
                    static_cast<float*>(dx.data) + t * cols);
    }
  });
  if (dweight == nullptr) return;
  pool_.ParallelFor(CeilDivide(cols, kSumColumns), [&](int64_t task, int) {
    const int64_t begin = task * kSumColumns, end = Smaller(cols, begin + kSumColumns);
    for (int64_t block = 0; block < blocks; ++block) {
      const float* sums = partial + block * cols;
      for (int64_t c = begin; c < end; ++c) dweight[c] += sums[c];
    }
  });
}

}  // namespace qft::QFT_ISA
