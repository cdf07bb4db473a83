#include "kernels/cpu/decode_row.h"
#include "kernels/cpu/engine.h"
#include "kernels/cpu/quantize_folded.h"
#include "kernels/cpu/row_tasks.h"

namespace qft::QFT_ISA {

namespace {

// The largest initial code: room for the weight to grow before its row's grid must.
constexpr float kInitialTop = 120.0f;

// A row of zeros gets a grid too, or it could never train: fine enough that its first updates are
// not all noise; it grows as the row does.
constexpr float kZeroRowGrid = 0x1p-13f;

// Whole grid steps, or residual steps where there is a plane.
void EncodeRow(const float* x, int64_t r, const Weight& out) {
  int8_t* codes = static_cast<int8_t*>(out.data) + r * out.cols;
  uint8_t* residual =
      out.residual == nullptr ? nullptr : out.residual + r * ResidualBytes(out.cols);
  const RowScale scale = MakeRowScale(OrdinaryAbsMaxBits(x, out.cols, out.critical), kInitialTop);
  const float steps_per_grid = residual == nullptr ? 1.0f : float{kResidualSteps};
  const float steps_per_unit = scale.inverse * steps_per_grid;
  const bool tiny = scale.scale == 0.0f || !(steps_per_unit <= __FLT_MAX__);
  const bool zero = scale.zero || tiny;
  out.grid[r] = tiny ? kZeroRowGrid : scale.scale;
  const Float16 inverse = Broadcast(steps_per_unit);
  // A value at a critical feature may be any multiple of the scale; its code is cleared below.
  const Float16 top = Broadcast(127.0f * steps_per_grid);
  for (int64_t c = 0; c < out.cols; c += kLanes) {
    const Float16 scaled = LoadUpTo(x + c, out.cols - c) * inverse;
    const Int16 steps = zero ? Int16{} : RoundToInt(Max(Min(scaled, top), -top));
    if (residual == nullptr) {
      StoreCodesUpTo(codes + c, steps, out.cols - c);
      continue;
    }
    const Int16 code = CodeOfSteps(steps);
    StoreCodesUpTo(codes + c, code, out.cols - c);
    StoreResiduals(residual + c / 2, steps - (code << kResidualBits));
  }
  for (int32_t i = 0; i < out.critical.count; ++i) {
    const int64_t c = out.critical.columns[i];
    out.critical.values[r * out.critical.count + i] = x[c];
    codes[c] = 0;
    if (residual != nullptr) ClearResidual(residual, c);
  }
}

}  // namespace

void CpuEngine::EncodeWeight(const float* values, const Weight& out) {
  if (!SupportsDType(out.dtype)) return;
  const RowTasks tasks(out.rows, out.cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t r = tasks.Begin(task); r < tasks.End(task); ++r) {
      const int64_t offset = r * out.cols;
      if (out.dtype == DType::kI8) {
        EncodeRow(values + offset, r, out);
      } else {
        std::memcpy(static_cast<float*>(out.data) + offset, values + offset,
                    static_cast<size_t>(out.cols) * sizeof(float));
      }
    }
  });
}

void CpuEngine::DecodeWeight(const Weight& w, int64_t row_begin, int64_t row_count, float* values) {
  if (!SupportsDType(w.dtype)) return;
  const RowTasks tasks(row_count, w.cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t r = tasks.Begin(task); r < tasks.End(task); ++r) {
      const int64_t offset = (row_begin + r) * w.cols;
      float* row = values + r * w.cols;
      if (w.dtype == DType::kI8) {
        DecodeRow(RowOfWeight(w, row_begin + r), 0, w.cols, row);
      } else {
        std::memcpy(row, static_cast<const float*>(w.data) + offset,
                    static_cast<size_t>(w.cols) * sizeof(float));
      }
    }
  });
}

}  // namespace qft::QFT_ISA
