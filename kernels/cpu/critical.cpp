#include "kernels/cpu/critical.h"

#include "kernels/cpu/engine.h"

namespace qft::QFT_ISA {
namespace {

// Rows of a gradient that one task makes.
constexpr int64_t kRowsPerTask = 96;
// Critical features whose sums are kept in registers at once.
constexpr int32_t kTogether = 4;

const float* CriticalWeights(const IntegerProblem& p, int64_t output) {
  return p.critical_weights + output * p.critical.count;
}

// sums[c] = sum over t of codes[t] * factors[c * stride + t], 16 lanes over t < length; factors are
// zero from there up to the stride.
void CodeDots(const int8_t* codes, const float* factors, int64_t length, int64_t stride,
              int32_t count, float* sums) {
  Float16 lanes[kTogether] = {};
  for (int64_t t = 0; t < length; t += kLanes) {
    const int64_t left = length - t;
    const Float16 code =
        ToFloat(left >= kLanes ? LoadCodes(codes + t) : LoadCodesPartial(codes + t, left));
    for (int32_t c = 0; c < kTogether; ++c) {
      if (c < count) lanes[c] = Fma(code, Load(factors + c * stride + t), lanes[c]);
    }
  }
  for (int32_t c = 0; c < count; ++c) sums[c] = Sum(lanes[c]);
}

// One factor for each of `count` features and `length` positions, zero up to the stride:
// values[t, c] / divisors[t], 0 where the divisor is.
void FillFactors(const float* values, const float* divisors, int64_t length, int64_t stride,
                 int32_t count, float* factors) {
  std::memset(factors, 0, static_cast<size_t>(count * stride) * sizeof(float));
  for (int64_t t = 0; t < length; ++t) {
    if (divisors[t] == 0.0f) continue;  // the codes it was folded into are zero too
    const float inverse = 1.0f / divisors[t];
    for (int32_t c = 0; c < count; ++c) {
      factors[c * stride + t] = values[t * count + c] * inverse;
    }
  }
}

// out[columns[c]] += scale * (codes . factors of c)
void AddCriticalDots(const int8_t* codes, float scale, const float* factors, int64_t length,
                     int64_t stride, const CriticalFeatures& critical, float* out) {
  for (int32_t c = 0; c < critical.count; c += kTogether) {
    const int32_t part = critical.count - c < kTogether ? critical.count - c : kTogether;
    float sums[kTogether];
    CodeDots(codes, factors + c * stride, length, stride, part, sums);
    for (int32_t i = 0; i < part; ++i) out[critical.columns[c + i]] += scale * sums[i];
  }
}

int64_t RoundUpToLanes(int64_t length) {
  return (length + kLanes - 1) / kLanes * kLanes;
}

}  // namespace

void GatherCriticalWeights(const IntegerProblem& p, int64_t column, int64_t columns, int64_t stride,
                           float* weights) {
  for (int32_t c = 0; c < p.critical.count; ++c) {
    float* row = weights + c * stride;
    for (int64_t j = 0; j < columns; ++j) {
      row[j] = CriticalWeights(p, column + j)[c];
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
  const float* weights = CriticalWeights(p, column);
  for (int32_t c = 0; c < p.critical.count; ++c) {
    value = __builtin_fmaf(values[c], weights[c], value);
  }
  return value;
}

void CpuEngine::AddCriticalColumns(const Operand& dy, const CriticalFeatures& critical,
                                   const float* divisors, const Matrix& out) {
  const int64_t length = dy.cols;
  const int64_t stride = RoundUpToLanes(length);
  pool_.ParallelFor(Pieces(dy.rows, kRowsPerTask), [&](int64_t task, int worker) {
    auto* factors = reinterpret_cast<float*>(
        WorkerScratch(worker, static_cast<size_t>(critical.count * stride) * sizeof(float)));
    if (factors == nullptr) return;
    FillFactors(critical.values, divisors, length, stride, critical.count, factors);
    const int64_t end = Smaller(dy.rows, (task + 1) * kRowsPerTask);
    for (int64_t r = task * kRowsPerTask; r < end; ++r) {
      AddCriticalDots(static_cast<const int8_t*>(dy.data) + r * length, dy.scales[r], factors,
                      length, stride, critical, static_cast<float*>(out.data) + r * out.cols);
    }
  });
}

}  // namespace qft::QFT_ISA
