#include "kernels/cuda/critical.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/engine.h"
#include "kernels/cuda/gemm.h"
#include "kernels/cuda/gradient_operand.cuh"

namespace qft::cuda {
namespace {

IntegerProblem Problem(const Operand& a, const int8_t* b, const Matrix& out, bool accumulate) {
  IntegerProblem p;
  p.m = out.rows;
  p.n = out.cols;
  p.k = a.cols;
  p.a = static_cast<const int8_t*>(a.data);
  p.b = b;
  p.row_scale = a.scales;
  p.out = out.data;
  p.out_type = out.dtype;
  p.accumulate = accumulate;
  return p;
}

constexpr char kNeedCodes[] = "integer matmuls need codes on both sides";

bool Floating(const Operand& operand) {
  return operand.dtype != DType::kI8;
}

GradientOperand InputOperand(const Operand& x) {
  return {static_cast<const int8_t*>(x.data), x.rows, x.cols, x.critical, x.scales};
}

}  // namespace

void CudaEngine::IntegerMatmul(const IntegerProblem& problem) {
  if (problem.m == 0 || problem.n == 0) return;
  const cudaError_t error = IntegerWgmmaSupports(problem, architecture_)
                                ? LaunchIntegerWgmma(problem, multiprocessors_, stream_)
                                : LaunchIntegerMma(problem, stream_);
  Check(error, "integer matmul");
}

void CudaEngine::MatmulForward(const Operand& x, const Weight& w, const Matrix& y,
                               bool accumulate) {
  if (!SupportsDType(x.dtype) || !SupportsDType(w.dtype)) return;
  if (Floating(x)) {
    return FloatMatmul({y.rows, y.cols, x.cols, static_cast<const float*>(x.data), Values(w), true,
                        static_cast<float*>(y.data), accumulate});
  }
  if (w.dtype != DType::kI8) return Fail(kNeedCodes);
  if (x.critical.count != w.critical.count ||
      (x.critical.count > 0 && x.critical.columns != w.critical.columns)) {
    return Fail("the matmul's operands differ in their critical features");
  }
  IntegerProblem p = Problem(x, static_cast<const int8_t*>(w.data), y, accumulate);
  p.column_scale = w.grid;
  p.second = x.second;
  p.critical_a = x.critical.values;
  p.critical_b = w.critical.values;
  p.critical_count = x.critical.count;
  IntegerMatmul(p);
}

void CudaEngine::IntegerGradient(const Operand& dy, const GradientOperand& b, void* prepared,
                                 const Matrix& out, bool accumulate) {
  if (prepared == nullptr) {
    prepared = Scratch(PreparedBytes(b));
    if (prepared == nullptr) return;
    LaunchPrepare(b, prepared, stream_);
  }
  const PreparedOperand operand = PreparedAt(b, prepared);
  IntegerMatmul(Problem(dy, operand.transposed, out, accumulate));
  if (b.critical.count > 0) {
    LaunchThin({&dy, &b.critical, operand.factors, &out}, multiprocessors_, stream_);
  }
  CheckLaunch("integer gradient");
}

void CudaEngine::MatmulInputGradient(const Operand& dy, const Weight& w, const Matrix& dx,
                                     bool accumulate) {
  if (!SupportsDType(dy.dtype) || !SupportsDType(w.dtype)) return;
  if (Floating(dy)) {
    return FloatMatmul({dx.rows, dx.cols, dy.cols, static_cast<const float*>(dy.data), Values(w),
                        false, static_cast<float*>(dx.data), accumulate});
  }
  if (w.dtype != DType::kI8) return Fail(kNeedCodes);
  const auto* codes = static_cast<const int8_t*>(w.data);
  IntegerGradient(dy, {codes, w.rows, w.cols, w.critical, w.grid}, nullptr, dx, accumulate);
}

size_t CudaEngine::PreparedInputBytes(int64_t rows, int64_t cols, int32_t critical_count) const {
  return LayoutOfPrepared(rows, cols, critical_count).Bytes();
}

void CudaEngine::PrepareInput(const Operand& x, void* memory) {
  if (x.dtype != DType::kI8) return Fail(kNeedCodes);
  LaunchPrepare(InputOperand(x), memory, stream_);
  CheckLaunch("preparing an input");
}

void CudaEngine::MatmulWeightGradient(const Operand& dy_t, const Operand& x, const Matrix& dw,
                                      bool accumulate) {
  if (!SupportsDType(dy_t.dtype) || !SupportsDType(x.dtype)) return;
  if (!Floating(dy_t) && Floating(x)) return Fail(kNeedCodes);
  if (Floating(dy_t)) {
    return FloatMatmul({dw.rows, dw.cols, dy_t.cols, static_cast<const float*>(dy_t.data),
                        static_cast<const float*>(x.data), false, static_cast<float*>(dw.data),
                        accumulate});
  }
  IntegerGradient(dy_t, InputOperand(x), x.prepared, dw, accumulate);
}

}  // namespace qft::cuda
