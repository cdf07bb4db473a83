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

// One row of swiglu's backward pass, in fp32. dgate may be dy.
struct SwigluRows {
  const float* gate;
  const float* up;
  const float* dy;
  float* dgate;
  float* dup;
  float* y;
};

QFT_INLINE void SwigluGradient(Float16 gate, Float16 up, Float16 dy, Float16* dgate, Float16* dup,
                               Float16* y) {
  const Gate sigmoid = Sigmoid(gate);
  const Float16 silu = gate * sigmoid.open;
  *y = silu * up;
  *dup = dy * silu;
  *dgate = dy * up * (sigmoid.open * Fma(gate, sigmoid.closed, Broadcast(1.0f)));
}

void SwigluGradientRow(const SwigluRows& row, int64_t cols) {
  Float16 dgate, dup, y;
  int64_t c = 0;
  for (; c + kLanes <= cols; c += kLanes) {
    SwigluGradient(Load(row.gate + c), Load(row.up + c), Load(row.dy + c), &dgate, &dup, &y);
    Store(row.dgate + c, dgate);
    Store(row.dup + c, dup);
    Store(row.y + c, y);
  }
  if (c < cols) {
    const int64_t rest = cols - c;
    SwigluGradient(LoadPartial(row.gate + c, rest), LoadPartial(row.up + c, rest),
                   LoadPartial(row.dy + c, rest), &dgate, &dup, &y);
    StorePartial(row.dgate + c, dgate, rest);
    StorePartial(row.dup + c, dup, rest);
    StorePartial(row.y + c, y, rest);
  }
}

// Row `r` in fp32: where it lies, or decoded into `scratch`.
const float* KeptRow(const KeptMatrix& kept, int64_t r, float* scratch) {
  if (kept.dtype == DType::kF32) return static_cast<const float*>(kept.data) + r * kept.cols;
  const int8_t* codes = static_cast<const int8_t*>(kept.data) + r * kept.cols;
  const float* scales = kept.scales + r * KeptBlocks(kept.cols);
  int64_t c = 0;
  for (; c + kLanes <= kept.cols; c += kLanes) {
    Store(scratch + c, ToFloat(LoadCodes(codes + c)) * Broadcast(scales[c / kKeptBlock]));
  }
  if (c < kept.cols) {
    const int64_t rest = kept.cols - c;
    const Float16 values = ToFloat(LoadCodesPartial(codes + c, rest));
    StorePartial(scratch + c, values * Broadcast(scales[c / kKeptBlock]), rest);
  }
  return scratch;
}

// Codes of row `r` of y on the scale that it has.
void QuantizeOnItsScale(const float* values, int64_t r, const Operand& y) {
  int8_t* codes = static_cast<int8_t*>(y.data) + r * y.cols;
  const float inverse = 1.0f / y.scales[r];
  if (!(inverse < __builtin_inff())) {
    std::memset(codes, 0, static_cast<size_t>(y.cols));
    return;
  }
  const Float16 factor = Broadcast(inverse), top = Broadcast(127.0f);
  for (int64_t c = 0; c < y.cols; c += kLanes) {
    const int64_t left = y.cols - c;
    const Float16 x = (left >= kLanes ? Load(values + c) : LoadPartial(values + c, left)) * factor;
    const Int16 code = RoundToInt(Max(Min(x, top), -top));
    if (left >= kLanes) {
      StoreCodes(codes + c, code);
    } else {
      StoreCodesPartial(codes + c, code, left);
    }
  }
  for (int32_t i = 0; i < y.critical.count; ++i) codes[y.critical.columns[i]] = 0;
}

}  // namespace

void CpuEngine::SwigluForward(const Matrix& gate, const Matrix& up, const SwigluInputs& kept,
                              const Operand& y) {
  if (!SupportsDType(y.dtype)) return;
  const int64_t cols = gate.cols;
  const RowTasks tasks(gate.rows, cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int worker) {
    char* const scratch = WorkerScratch(worker, static_cast<size_t>(cols) * sizeof(float));
    if (scratch == nullptr) return;
    for (int64_t t = tasks.Begin(task); t < tasks.End(task); ++t) {
      const float* gate_row = static_cast<const float*>(gate.data) + t * cols;
      const float* up_row = static_cast<const float*>(up.data) + t * cols;
      float* to = y.dtype == DType::kF32 ? static_cast<float*>(y.data) + t * cols
                                         : reinterpret_cast<float*>(scratch);
      StoreKeptRow(gate_row, t, kept.gate);
      StoreKeptRow(up_row, t, kept.up);
      SwigluRow(gate_row, up_row, cols, to);
      StoreOperandRow(to, t, y);
    }
  });
}

void CpuEngine::SwigluBackward(const SwigluInputs& kept, const Matrix& dy, const Matrix& dgate,
                               const Matrix& dup, const Operand& y) {
  if (!SupportsDType(y.dtype)) return;
  const int64_t cols = dy.cols;
  const RowTasks tasks(dy.rows, cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int worker) {
    char* const scratch = WorkerScratch(worker, static_cast<size_t>(cols) * 3 * sizeof(float));
    if (scratch == nullptr) return;
    float* const rows = reinterpret_cast<float*>(scratch);
    for (int64_t t = tasks.Begin(task); t < tasks.End(task); ++t) {
      const auto at = [&](const auto& matrix) {
        return static_cast<float*>(matrix.data) + t * cols;
      };
      const bool codes = y.dtype == DType::kI8;
      const SwigluRows row{KeptRow(kept.gate, t, rows),
                           KeptRow(kept.up, t, rows + cols),
                           at(dy),
                           at(dgate),
                           at(dup),
                           codes ? rows + 2 * cols : at(y)};
      SwigluGradientRow(row, cols);
      if (codes) QuantizeOnItsScale(row.y, t, y);
    }
  });
}

}  // namespace qft::QFT_ISA
