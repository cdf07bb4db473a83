#include "kernels/cpu/engine.h"
#include "kernels/cpu/layer_util.h"
#include "kernels/cpu/quantize_row.h"
#include "kernels/cpu/row_tasks.h"

namespace qft::QFT_ISA {
namespace {

// 1 / (1 + e^-x), and 1 minus that, each to about 1e-7 of itself.
struct Gate {
  Float16 open;
  Float16 closed;
};

QFT_INLINE Gate Sigmoid(Float16 x) {
  const Float16 e = ExpBounded(FromBits(Bits(x) | BroadcastInt(INT32_MIN)));  // of -|x|
  const Float16 large = Broadcast(1.0f) / (e + Broadcast(1.0f));
  const Float16 small = e * large;
  const Int16 negative = x < Broadcast(0.0f);
  return {Select(negative, small, large), Select(negative, large, small)};
}

QFT_INLINE Float16 Swiglu(Float16 gate, Float16 up) {
  return gate * Sigmoid(gate).open * up;
}

void SwigluRow(const float* gate, const float* up, int64_t cols, float* y) {
  int64_t c = 0;
  for (; c + kLanes <= cols; c += kLanes) Store(y + c, Swiglu(Load(gate + c), Load(up + c)));
  if (c < cols) {
    const int64_t rest = cols - c;
    StorePartial(y + c, Swiglu(LoadPartial(gate + c, rest), LoadPartial(up + c, rest)), rest);
  }
}

QFT_INLINE void SwigluGradient(Float16 gate, Float16 up, Float16 dy, Float16* dgate, Float16* dup) {
  const Gate sigmoid = Sigmoid(gate);
  *dup = dy * (gate * sigmoid.open);
  *dgate = dy * up * (sigmoid.open * Fma(gate, sigmoid.closed, Broadcast(1.0f)));
}

void SwigluGradientRow(const float* gate, const float* up, const float* dy, int64_t cols,
                       float* dgate, float* dup) {
  Float16 dg, du;
  int64_t c = 0;
  for (; c + kLanes <= cols; c += kLanes) {
    SwigluGradient(Load(gate + c), Load(up + c), Load(dy + c), &dg, &du);
    Store(dgate + c, dg);
    Store(dup + c, du);
  }
  if (c < cols) {
    const int64_t rest = cols - c;
    SwigluGradient(LoadPartial(gate + c, rest), LoadPartial(up + c, rest),
                   LoadPartial(dy + c, rest), &dg, &du);
    StorePartial(dgate + c, dg, rest);
    StorePartial(dup + c, du, rest);
  }
}

}  // namespace

void CpuEngine::SwigluForward(const Matrix& gate, const Matrix& up, const Operand& y) {
  if (!SupportsDType(y.dtype)) return;
  const int64_t cols = gate.cols;
  const RowTasks tasks(gate.rows, cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int worker) {
    char* const scratch = WorkerScratch(worker, static_cast<size_t>(cols) * sizeof(float));
    if (scratch == nullptr) return;
    for (int64_t t = tasks.Begin(task); t < tasks.End(task); ++t) {
      float* to = y.dtype == DType::kF32 ? static_cast<float*>(y.data) + t * cols
                                         : reinterpret_cast<float*>(scratch);
      SwigluRow(static_cast<const float*>(gate.data) + t * cols,
                static_cast<const float*>(up.data) + t * cols, cols, to);
      StoreOperandRow(to, t, y);
    }
  });
}

void CpuEngine::SwigluBackward(const Matrix& gate, const Matrix& up, const Matrix& dy,
                               const Matrix& dgate, const Matrix& dup) {
  const int64_t cols = gate.cols;
  const RowTasks tasks(gate.rows, cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int) {
    for (int64_t t = tasks.Begin(task); t < tasks.End(task); ++t) {
      const int64_t row = t * cols;
      SwigluGradientRow(static_cast<const float*>(gate.data) + row,
                        static_cast<const float*>(up.data) + row,
                        static_cast<const float*>(dy.data) + row, cols,
                        static_cast<float*>(dgate.data) + row, static_cast<float*>(dup.data) + row);
    }
  });
}

}  // namespace qft::QFT_ISA
