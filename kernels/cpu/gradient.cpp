#include "kernels/cpu/decode_row.h"
#include "kernels/cpu/engine.h"
#include "kernels/cpu/gradient_row.h"
#include "kernels/cpu/quantize_folded.h"
#include "kernels/cpu/row_tasks.h"

namespace qft::QFT_ISA {

namespace {

// values [cols] += row r of a gradient.
void AddRow(const Gradient& gradient, int64_t r, float* values) {
  const int64_t offset = r * gradient.cols;
  if (gradient.dtype == DType::kF32) {
    const float* source = static_cast<const float*>(gradient.data) + offset;
    for (int64_t c = 0; c < gradient.cols; ++c) values[c] += source[c];
    return;
  }
  AddDecodedRow(static_cast<const int8_t*>(gradient.data) + offset, gradient.grid[r], gradient.cols,
                values);
  const CriticalFeatures& critical = gradient.critical;
  for (int32_t i = 0; i < critical.count; ++i) {
    values[critical.columns[i]] += critical.values[r * critical.count + i];
  }
}

}  // namespace

void CpuEngine::EncodeGradient(const Matrix& matrix, Rounding rounding, const RandomStream& random,
                               const StepState* step, bool add, const Gradient& out) {
  if (!SupportsDType(matrix.dtype) || !SupportsDType(out.dtype)) return;
  auto* values = static_cast<float*>(matrix.data);
  const RandomKeys keys = MakeRandomKeys(random.key, step != nullptr ? step->step : 0);
  const RowTasks tasks(out.rows, out.cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t r = tasks.Begin(task); r < tasks.End(task); ++r) {
      const int64_t offset = r * out.cols;
      if (add) AddRow(out, r, values + offset);
      if (out.dtype == DType::kI8) {
        out.square_sums[r] =
            EncodeGradientRow(out.critical, out.cols, rounding, keys, random.row_offset + r,
                              values + offset, static_cast<int8_t*>(out.data) + offset,
                              out.grid + r, out.critical.values + r * out.critical.count);
      } else {
        std::memcpy(static_cast<float*>(out.data) + offset, values + offset,
                    static_cast<size_t>(out.cols) * sizeof(float));
      }
    }
  });
}

void CpuEngine::AccumulateGradient(const Gradient& gradient, float* values) {
  if (!SupportsDType(gradient.dtype)) return;
  const RowTasks tasks(gradient.rows, gradient.cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t r = tasks.Begin(task); r < tasks.End(task); ++r) {
      AddRow(gradient, r, values + r * gradient.cols);
    }
  });
}

void CpuEngine::AddSquareSum(const Gradient& gradient, StepState* step) {
  if (!SupportsDType(gradient.dtype) || gradient.rows <= 0) return;
  if (gradient.dtype == DType::kI8) {
    return AddToSquareSum(gradient.square_sums, gradient.rows, step);
  }
  const RowTasks tasks(gradient.rows, gradient.cols);
  // The tasks below use no scratch of their own.
  auto* row_sums = reinterpret_cast<double*>(
      WorkerScratch(0, static_cast<size_t>(gradient.rows) * sizeof(double)));
  if (row_sums == nullptr) return;
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t r = tasks.Begin(task); r < tasks.End(task); ++r) {
      row_sums[r] = SquareSumOfValues(static_cast<const float*>(gradient.data) + r * gradient.cols,
                                      gradient.cols);
    }
  });
  AddToSquareSum(row_sums, gradient.rows, step);
}

void CpuEngine::SetClipFactor(float max_norm, double square_sum_override, StepState* step) {
  const double square_sum =
      square_sum_override >= 0 ? square_sum_override : step->gradient_square_sum;
  const bool finite = __builtin_isfinite(square_sum);
  step->skip_update = finite ? 0 : 1;
  step->clip_factor = 1.0f;
  if (!finite || !(max_norm > 0)) return;
  const double norm = __builtin_sqrt(square_sum);
  if (norm > static_cast<double>(max_norm)) {
    step->clip_factor = static_cast<float>(static_cast<double>(max_norm) / norm);
  }
}

}  // namespace qft::QFT_ISA
