#include "kernels/cpu/engine.h"
#include "kernels/cpu/layer_util.h"
#include "kernels/cpu/row_tasks.h"

namespace qft::QFT_ISA {
namespace {

// Tokens whose gradients are summed before the sums are; part of the numerics.
constexpr int64_t kTokenBlock = 64;
constexpr int64_t kSumColumns = 256;

}  // namespace

void CpuEngine::AddBias(const Matrix& y, const float* bias) {
  const int64_t cols = y.cols;
  const RowTasks tasks(y.rows, cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t t = tasks.Begin(task); t < tasks.End(task); ++t) {
      float* row = static_cast<float*>(y.data) + t * cols;
      for (int64_t c = 0; c < cols; ++c) row[c] += bias[c];
    }
  });
}

void CpuEngine::BiasBackward(const Matrix& dy, float* dbias) {
  pool_.ParallelFor(CeilDivide(dy.cols, kSumColumns), [&](int64_t task, int) {
    const int64_t begin = task * kSumColumns;
    const int64_t count = Smaller(dy.cols - begin, kSumColumns);
    for (int64_t block = 0; block < dy.rows; block += kTokenBlock) {
      float sums[kSumColumns] = {};
      const int64_t end = Smaller(dy.rows, block + kTokenBlock);
      for (int64_t t = block; t < end; ++t) {
        const float* row = static_cast<const float*>(dy.data) + t * dy.cols + begin;
        for (int64_t c = 0; c < count; ++c) sums[c] += row[c];
      }
      for (int64_t c = 0; c < count; ++c) dbias[begin + c] += sums[c];
    }
  });
}

}  // namespace qft::QFT_ISA
