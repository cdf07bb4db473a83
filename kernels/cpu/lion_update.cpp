#include "kernels/cpu/engine.h"
#include "kernels/cpu/lion_row.h"
#include "kernels/cpu/row_tasks.h"

namespace qft::QFT_ISA {

void CpuEngine::LionUpdate(const LionOptions& options, const Weight& w, const Momentum& m,
                           const Gradient& gradient, StepState* step) {
  if (!SupportsDType(w.dtype) || !SupportsDType(m.dtype) || !SupportsDType(gradient.dtype)) return;
  if (w.dtype != m.dtype) return Fail("lion update: weight and momentum differ in dtype");
  if (w.critical.count != gradient.critical.count ||
      (w.critical.count > 0 && m.critical == nullptr)) {
    return Fail("lion update: weight, momentum and gradient differ in their critical features");
  }
  if (step->skip_update != 0) return;
  const Lion lion = MakeLion(options, *step);
  const RowTasks tasks(w.rows, w.cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int worker) {
    auto* wide = reinterpret_cast<int32_t*>(
        WorkerScratch(worker, static_cast<size_t>(WideSteps(w.cols)) * sizeof(int32_t)));
    if (wide == nullptr) return;
    Counts counts;
    for (int64_t r = tasks.Begin(task); r < tasks.End(task); ++r) {
      UpdateTensorRow(lion, w, m, r, RowOf(gradient, lion.gradient_factor, r),
                      gradient.critical.values + r * w.critical.count, wide, &counts);
    }
    AddCounts(counts, step);
  });
}

}  // namespace qft::QFT_ISA
