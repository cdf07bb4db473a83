#include "kernels/cpu/critical.h"

#include "kernels/cpu/engine.h"

namespace qft::QFT_ISA {
namespace {

// Rows of dw that one task makes.
constexpr int64_t kRowsPerTask = 96;
// Critical features whose sums are kept in registers at once.
constexpr int32_t kTogether = 4;

float CriticalWeight(const IntegerProblem& p, int64_t output, int32_t feature) {
  const int8_t code = p.b[output * p.k + feature];
  return p.column_scale[output] * static_cast<float>(code);
}

// sums[c] = sum over t of codes[t] * factors[c * stride + t], 16 lanes over t; factors are zero
// from `tokens` up to the stride.
void CodeDots(const int8_t* codes, const float* factors, int64_t tokens, int64_t stride,
              int32_t count, float* sums) {
  Float16 lanes[kTogether] = {};
  for (int64_t t = 0; t < tokens; t += kLanes) {
    const int64_t left = tokens - t;
    const Float16 code =
        ToFloat(left >= kLanes ? LoadCodes(codes + t) : LoadCodesPartial(codes + t, left));
    for (int32_t c = 0; c < kTogether; ++c) {
      if (c < count) lanes[c] = Fma(code, Load(factors + c * stride + t), lanes[c]);
    }
  }
  for (int32_t c = 0; c < count; ++c) sums[c] = Sum(lanes[c]);
}

}  // namespace

void GatherCriticalWeights(const IntegerProblem& p, int64_t column, int64_t columns, int64_t stride,
                           float* weights) {
  for (int32_t c = 0; c < p.critical.count; ++c) {
    float* row = weights + c * stride;
    for (int64_t j = 0; j < columns; ++j) {
      row[j] = CriticalWeight(p, column + j, p.critical.columns[c]);
    }
    for (int64_t j = columns; j < stride; ++j) row[j] = 0.0f;
  }
}

void AddCriticalRow(const float* values, const float* weights, int32_t count, int64_t stride,
                    int64_t columns, float* out) {
  for (int64_t j = 0; j < columns; j += kLanes) {
    const int64_t left = columns - j;
    Float16 sum = left >= kLanes ? Load(out + j) : LoadPartial(out + j, left);
    for (int32_t c = 0; c < count; ++c) {
      sum = Fma(Broadcast(values[c]), Load(weights + c * stride + j), sum);
    }
    if (left >= kLanes) {
      Store(out + j, sum);
    } else {
      StorePartial(out + j, sum, left);
    }
  }
}

float AddCriticalOutput(const IntegerProblem& p, int64_t row, int64_t column, float value) {
  const float* values = p.critical.values + row * p.critical.count;
  for (int32_t c = 0; c < p.critical.count; ++c) {
    value = __builtin_fmaf(values[c], CriticalWeight(p, column, p.critical.columns[c]), value);
  }
  return value;
}

void CpuEngine::CriticalWeightGradient(const Operand& dy_t, const Operand& x, const Matrix& dw) {
  const int64_t tokens = x.rows;
  const int32_t count = x.critical.count;
  const int64_t stride = (tokens + kLanes - 1) / kLanes * kLanes;
  pool_.ParallelFor(Pieces(dy_t.rows, kRowsPerTask), [&](int64_t task, int worker) {
    auto* factors = reinterpret_cast<float*>(
        WorkerScratch(worker, static_cast<size_t>(count * stride) * sizeof(float)));
    if (factors == nullptr) return;
    std::memset(factors, 0, static_cast<size_t>(count * stride) * sizeof(float));
    for (int64_t t = 0; t < tokens; ++t) {
      if (x.scales[t] == 0.0f) continue;  // the folded gradient of this token is zero too
      const float inverse = 1.0f / x.scales[t];
      for (int32_t c = 0; c < count; ++c) {
        factors[c * stride + t] = x.critical.values[t * count + c] * inverse;
      }
    }
    const int64_t end = Smaller(dy_t.rows, (task + 1) * kRowsPerTask);
    for (int64_t n = task * kRowsPerTask; n < end; ++n) {
      const int8_t* codes = static_cast<const int8_t*>(dy_t.data) + n * tokens;
      float* row = static_cast<float*>(dw.data) + n * dw.cols;
      for (int32_t c = 0; c < count; c += kTogether) {
        const int32_t part = count - c < kTogether ? count - c : kTogether;
        float sums[kTogether];
        CodeDots(codes, factors + c * stride, tokens, stride, part, sums);
        for (int32_t i = 0; i < part; ++i)
          row[x.critical.columns[c + i]] += dy_t.scales[n] * sums[i];
      }
    }
  });
}

}  // namespace qft::QFT_ISA
