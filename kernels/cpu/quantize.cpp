#include "kernels/cpu/engine.h"
#include "kernels/cpu/quantize_folded.h"
#include "kernels/cpu/row_tasks.h"

namespace qft::QFT_ISA {

void CpuEngine::QuantizeRows(const Matrix& x, const Operand& out) {
  if (!SupportsDType(out.dtype)) return;
  const RowTasks tasks(x.rows, x.cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t r = tasks.Begin(task); r < tasks.End(task); ++r) {
      StoreOperandRow(static_cast<const float*>(x.data) + r * x.cols, r, out);
    }
  });
}

void CpuEngine::QuantizeOutputGradient(const Matrix& dy, const float* fold, Rounding rounding,
                                       const RandomStream& random, const StepState* step,
                                       const Operand& out) {
  if (!SupportsDType(out.dtype)) return;
  const RandomKeys keys = MakeRandomKeys(random.key, step != nullptr ? step->step : 0);
  const RowTasks tasks(dy.rows, dy.cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t r = tasks.Begin(task); r < tasks.End(task); ++r) {
      const int64_t offset = r * dy.cols;
      const float* row = static_cast<const float*>(dy.data) + offset;
      if (out.dtype == DType::kI8) {
        QuantizeRowFolded(row, fold, dy.cols, rounding, keys, random.row_offset + r,
                          static_cast<int8_t*>(out.data) + offset, out.scales + r);
        continue;
      }
      float* values = static_cast<float*>(out.data) + offset;
      for (int64_t c = 0; c < dy.cols; ++c) values[c] = fold ? row[c] * fold[c] : row[c];
    }
  });
}

void CpuEngine::QuantizeOutputGradients(const Matrix& dy, Rounding rounding, const StepState* step,
                                        const OutputGradientOperand& rows,
                                        const OutputGradientOperand& columns) {
  QuantizeOutputGradient(dy, rows.fold, rounding, rows.random, step, rows.out);
  QuantizeOutputGradientTransposed(dy, columns.fold, rounding, columns.random, step, columns.out);
}

}  // namespace qft::QFT_ISA
