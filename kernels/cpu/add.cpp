#include "kernels/cpu/engine.h"
#include "kernels/cpu/layer_util.h"
#include "kernels/cpu/row_tasks.h"

namespace qft::QFT_ISA {

void CpuEngine::Add(const Matrix& x, const Matrix& y, const Matrix& out) {
  const int64_t count = x.rows * x.cols;
  const float* const a = static_cast<const float*>(x.data);
  const float* const b = static_cast<const float*>(y.data);
  float* const to = static_cast<float*>(out.data);
  pool_.ParallelFor(CeilDivide(count, kElementsPerTask), [&](int64_t task, int) {
    const int64_t end = Smaller(count, (task + 1) * kElementsPerTask);
    for (int64_t i = task * kElementsPerTask; i < end; ++i) to[i] = a[i] + b[i];
  });
}

}  // namespace qft::QFT_ISA
