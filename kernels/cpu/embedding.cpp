#include "kernels/cpu/decode_row.h"
#include "kernels/cpu/engine.h"
#include "kernels/cpu/layer_util.h"
#include "kernels/cpu/row_tasks.h"

namespace qft::QFT_ISA {
namespace {

constexpr int64_t kColumnBlock = 64;

}  // namespace

void CpuEngine::EmbeddingForward(const int32_t* tokens, const Weight& table, const Matrix& y) {
  if (!SupportsDType(table.dtype)) return;
  const int64_t cols = y.cols;
  const RowTasks tasks(y.rows, cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t t = tasks.Begin(task); t < tasks.End(task); ++t) {
      const int64_t token = tokens[t];
      if (token < 0 || token >= table.rows) return Fail("embedding: token outside the table");
      float* to = static_cast<float*>(y.data) + t * cols;
      if (table.dtype == DType::kI8) {
        DecodeRow(RowOfWeight(table, token), 0, cols, to);
      } else {
        std::memcpy(to, static_cast<const float*>(table.data) + token * cols,
                    static_cast<size_t>(cols) * sizeof(float));
      }
    }
  });
}

// Every task walks all tokens in order for its own columns, so each element's sum has one order.
void CpuEngine::EmbeddingBackward(const int32_t* tokens, const Matrix& dy, int64_t row_begin,
                                  const Matrix& dtable) {
  const int64_t cols = dy.cols;
  pool_.ParallelFor(CeilDivide(cols, kColumnBlock), [&](int64_t task, int) {
    const int64_t begin = task * kColumnBlock, count = Smaller(kColumnBlock, cols - begin);
    for (int64_t t = 0; t < dy.rows; ++t) {
      const int64_t row = tokens[t] - row_begin;
      if (row < 0 || row >= dtable.rows) continue;
      const float* from = static_cast<const float*>(dy.data) + t * cols + begin;
      float* to = static_cast<float*>(dtable.data) + row * cols + begin;
      for (int64_t c = 0; c < count; ++c) to[c] += from[c];
    }
  });
}

}  // namespace qft::QFT_ISA
