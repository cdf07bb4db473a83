#include "kernels/cpu/engine.h"
#include "kernels/cpu/gradient_row.h"
#include "kernels/cpu/lion_row.h"
#include "kernels/cpu/row_tasks.h"

namespace qft::QFT_ISA {

namespace {

// Scratch of a worker: a row's gradient as it would stand on the stack, and what updates take.
struct RowScratch {
  int32_t* wide;
  float* critical;
  int8_t* codes;

  static size_t Bytes(const Weight& w) {
    const int64_t floats = WideSteps(w.cols) + w.critical.count;
    const int64_t bytes = floats * static_cast<int64_t>(sizeof(float)) + w.cols;
    return static_cast<size_t>((bytes + 63) / 64 * 64);
  }
  RowScratch(const Weight& w, char* memory)
      : wide(reinterpret_cast<int32_t*>(memory)),
        critical(reinterpret_cast<float*>(wide + WideSteps(w.cols))),
        codes(reinterpret_cast<int8_t*>(critical + w.critical.count)) {}
};

// A gradient's row and the sum of its squares.
struct EncodedRow {
  GradientRow gradient;
  double square_sum;
};

EncodedRow EncodeRow(const Weight& w, float gradient_factor, const RandomKeys& keys,
                     int64_t random_row, float* values, const RowScratch& scratch) {
  if (w.dtype == DType::kF32) {
    return {{nullptr, values, gradient_factor}, SquareSumOfValues(values, w.cols)};
  }
  float grid;
  const double square_sum =
      EncodeGradientRow(w.critical, w.cols, Rounding::kStochastic, keys, random_row, values,
                        scratch.codes, &grid, scratch.critical);
  return {{scratch.codes, nullptr, gradient_factor * grid}, square_sum};
}

}  // namespace

void CpuEngine::EncodeAndUpdate(const Matrix& values, const RandomStream& random,
                                const LionOptions& options, const Weight& w, const Momentum& m,
                                StepState* step) {
  if (!SupportsDType(values.dtype) || !SupportsDType(w.dtype) || !SupportsDType(m.dtype)) return;
  if (w.dtype != m.dtype) return Fail("lion update: weight and momentum differ in dtype");
  if (w.critical.count > 0 && m.critical == nullptr) {
    return Fail("lion update: weight and momentum differ in their critical features");
  }
  if (w.rows <= 0) return;
  const Lion lion = MakeLion(options, *step);
  const RandomKeys keys = MakeRandomKeys(random.key, step->step);
  const RowTasks tasks(w.rows, w.cols);
  // The first worker's scratch has the sums of all rows behind its own.
  const size_t bytes = RowScratch::Bytes(w);
  char* first = WorkerScratch(0, bytes + static_cast<size_t>(w.rows) * sizeof(double));
  if (first == nullptr) return;
  auto* row_sums = reinterpret_cast<double*>(first + bytes);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int worker) {
    char* memory = WorkerScratch(worker, bytes);
    if (memory == nullptr) return;
    const RowScratch scratch(w, memory);
    Counts counts;
    for (int64_t r = tasks.Begin(task); r < tasks.End(task); ++r) {
      const EncodedRow row = EncodeRow(w, lion.gradient_factor, keys, random.row_offset + r,
                                       static_cast<float*>(values.data) + r * w.cols, scratch);
      row_sums[r] = row.square_sum;
      if (step->skip_update != 0) continue;
      UpdateTensorRow(lion, w, m, r, row.gradient, scratch.critical, scratch.wide, &counts);
    }
    AddCounts(counts, step);
  });
  AddToSquareSum(row_sums, w.rows, step);
}

}  // namespace qft::QFT_ISA
