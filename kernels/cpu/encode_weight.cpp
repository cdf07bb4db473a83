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

void EncodeRow(const float* x, int64_t cols, int8_t* codes, float* grid) {
  const RowScale scale = MakeRowScale(RowAbsMaxBits(x, cols), kInitialTop);
  *grid = scale.scale == 0.0f ? kZeroRowGrid : scale.scale;
  if (scale.zero) {
    std::memset(codes, 0, static_cast<size_t>(cols));
    return;
  }
  const Float16 inverse = Broadcast(scale.inverse);
  for (int64_t c = 0; c < cols; c += kLanes) {
    StoreCodesUpTo(codes + c, RoundToInt(LoadUpTo(x + c, cols - c) * inverse), cols - c);
  }
}

}  // namespace

void CpuEngine::EncodeWeight(const float* values, const Weight& out) {
  if (!Supports(out)) return;
  const RowTasks tasks(out.rows, out.cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t r = tasks.Begin(task); r < tasks.End(task); ++r) {
      const int64_t offset = r * out.cols;
      if (out.dtype == DType::kI8) {
        EncodeRow(values + offset, out.cols, static_cast<int8_t*>(out.data) + offset, out.grid + r);
      } else {
        std::memcpy(static_cast<float*>(out.data) + offset, values + offset,
                    static_cast<size_t>(out.cols) * sizeof(float));
      }
    }
  });
}

void CpuEngine::DecodeWeight(const Weight& w, int64_t row_begin, int64_t row_count, float* values) {
  if (!Supports(w)) return;
  const RowTasks tasks(row_count, w.cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t r = tasks.Begin(task); r < tasks.End(task); ++r) {
      const int64_t offset = (row_begin + r) * w.cols;
      float* row = values + r * w.cols;
      if (w.dtype == DType::kI8) {
        DecodeRow(static_cast<const int8_t*>(w.data) + offset, w.grid[row_begin + r], w.cols, row);
      } else {
        std::memcpy(row, static_cast<const float*>(w.data) + offset,
                    static_cast<size_t>(w.cols) * sizeof(float));
      }
    }
  });
}

}  // namespace qft::QFT_ISA
