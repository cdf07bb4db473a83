#include "kernels/cpu/engine.h"
#include "kernels/cpu/norm_gradient.h"

namespace qft::QFT_ISA {
namespace {

// [T, heads * head_dim] as [T * heads, head_dim].
Matrix Heads(const Matrix& x, int64_t head_dim) {
  return {x.data, x.dtype, x.rows * x.cols / head_dim, head_dim};
}

}  // namespace

void CpuEngine::QkNormForward(const Matrix& x, const float* weight, float epsilon, int32_t head_dim,
                              const Matrix& y, float* rstd) {
  const Matrix rows = Heads(x, head_dim);
  RmsNormForward(rows, weight, epsilon, {y.data, nullptr, y.dtype, rows.rows, rows.cols}, rstd);
}

void CpuEngine::QkNormBackward(const Matrix& x, const float* weight, const float* rstd,
                               const Matrix& dy, const Matrix& dx, int32_t head_dim,
                               float* dweight) {
  NormBackward(
      {Heads(x, head_dim), weight, rstd, Heads(dy, head_dim), Heads(dx, head_dim), false, dweight});
}

}  // namespace qft::QFT_ISA
