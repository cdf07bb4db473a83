#include "kernels/cpu/matmul.h"

#include "kernels/cpu/engine.h"

namespace qft::QFT_ISA {

namespace {

constexpr char kMixedForms[] = "integer matmuls need codes on both sides";
constexpr char kOtherFeatures[] = "the matmul's operands differ in their critical features";

const int8_t* Codes(const void* data) {
  return static_cast<const int8_t*>(data);
}
const float* Values(const void* data) {
  return static_cast<const float*>(data);
}

FloatProblem WithWeight(const Operand& a, const Weight& w, bool transposed, const Matrix& out,
                        bool accumulate) {
  const bool decode = w.dtype == DType::kI8;
  return {a.rows,         transposed ? w.rows : w.cols,      transposed ? w.cols : w.rows,
          Values(a.data), decode ? nullptr : Values(w.data), decode ? &w : nullptr,
          transposed,     static_cast<float*>(out.data),     accumulate};
}

}  // namespace

void CpuEngine::MatmulForward(const Operand& x, const Weight& w, const Matrix& y, bool accumulate) {
  if (!SupportsDType(x.dtype) || !SupportsDType(w.dtype)) return;
  if (x.dtype == DType::kF32) return FloatMatmul(WithWeight(x, w, true, y, accumulate));
  if (w.dtype != DType::kI8) return Fail(kMixedForms);
  if (x.critical.count != w.critical.count ||
      (x.critical.count > 0 && x.critical.columns != w.critical.columns)) {
    return Fail(kOtherFeatures);
  }
  IntegerMatmul({x.rows, w.rows, w.cols, Codes(x.data), Codes(w.data), true, x.scales, w.grid,
                 static_cast<float*>(y.data), accumulate, x.critical, w.critical.values, x.second});
}

void CpuEngine::MatmulInputGradient(const Operand& dy, const Weight& w, const Matrix& dx,
                                    bool accumulate) {
  if (!SupportsDType(dy.dtype) || !SupportsDType(w.dtype)) return;
  if (dy.dtype == DType::kF32) return FloatMatmul(WithWeight(dy, w, false, dx, accumulate));
  if (w.dtype != DType::kI8) return Fail(kMixedForms);
  IntegerMatmul({dy.rows,
                 w.cols,
                 w.rows,
                 Codes(dy.data),
                 Codes(w.data),
                 false,
                 dy.scales,
                 nullptr,
                 static_cast<float*>(dx.data),
                 accumulate,
                 {}});
  if (w.critical.count > 0) AddCriticalColumns(dy, w.critical, w.grid, dx);
}

void CpuEngine::MatmulWeightGradient(const Operand& dy_t, const Operand& x, const Matrix& dw,
                                     bool accumulate) {
  if (!SupportsDType(dy_t.dtype) || !SupportsDType(x.dtype)) return;
  if (dy_t.dtype != x.dtype) return Fail(kMixedForms);
  if (x.dtype == DType::kF32) {
    return FloatMatmul({dy_t.rows, x.cols, x.rows, Values(dy_t.data), Values(x.data), nullptr,
                        false, static_cast<float*>(dw.data), accumulate});
  }
  IntegerMatmul({dy_t.rows,
                 x.cols,
                 x.rows,
                 Codes(dy_t.data),
                 Codes(x.data),
                 false,
                 dy_t.scales,
                 nullptr,
                 static_cast<float*>(dw.data),
                 accumulate,
                 {}});
  if (x.critical.count > 0) AddCriticalColumns(dy_t, x.critical, x.scales, dw);
}

}  // namespace qft::QFT_ISA
