#include "kernels/cpu/critical.h"

#include "kernels/cpu/decode_row.h"
#include "kernels/cpu/engine.h"

namespace qft::QFT_ISA {
namespace {

// Rows of a gradient that one task makes.
constexpr int64_t kRowsPerTask = 192;
// Critical features whose sums are kept in registers at once.
constexpr int kTogether = 8;

const float* CriticalWeights(const IntegerProblem& p, int64_t output) {
  return p.critical_weights + output * p.critical.count;
}

// sums[r][c] = sum over t of codes[r * length + t] * factors[c * stride + t], 16 lanes over t <
// length; factors are zero from there up to the stride. Rows share what they load.
template <int kRows>
QFT_INLINE void CodeDots(const int8_t* codes, const float* factors, int64_t length, int64_t stride,
                         float sums[][kTogether]) {
  Float16 lanes[kRows][kTogether] = {};
  for (int64_t t = 0; t < length; t += kLanes) {
    Float16 factor[kTogether];
    for (int c = 0; c < kTogether; ++c) factor[c] = Load(factors + c * stride + t);
    for (int r = 0; r < kRows; ++r) {
      const Float16 code = ToFloat(LoadCodesUpTo(codes + r * length + t, length - t));
      for (int c = 0; c < kTogether; ++c) lanes[r][c] = Fma(code, factor[c], lanes[r][c]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kTogether; ++c) sums[r][c] = Sum(lanes[r][c]);
  }
}

// One factor for each feature and position, zero up to the stride and kTogether:
// values[t, c] / divisors[t], 0 where the divisor is.
void FillFactors(const float* values, const float* divisors, int64_t length, int64_t stride,
                 int32_t count, float* factors) {
  std::memset(factors, 0, static_cast<size_t>(RoundUp(count, kTogether) * stride) * sizeof(float));
  for (int64_t t = 0; t < length; ++t) {
    if (divisors[t] == 0.0f) continue;  // the codes it was folded into are zero too
    const float inverse = 1.0f / divisors[t];
    for (int32_t c = 0; c < count; ++c) {
      factors[c * stride + t] = values[t * count + c] * inverse;
    }
  }
}

// A gradient's rows and the features whose columns it lacks.
struct Thin {
  const Operand& dy;
  const CriticalFeatures& critical;
  const float* factors;
  int64_t stride;
  const Matrix& out;
};

// out[r, columns[c]] += dy.scale[r] * (dy.codes[r] . factors of c) for kRows rows from `row` on and
// kTogether features from `feature` on.
template <int kRows>
QFT_INLINE void AddDots(const Thin& thin, int64_t row, int32_t feature) {
  float sums[kRows][kTogether];
  const int64_t length = thin.dy.cols;
  CodeDots<kRows>(static_cast<const int8_t*>(thin.dy.data) + row * length,
                  thin.factors + feature * thin.stride, length, thin.stride, sums);
  for (int r = 0; r < kRows; ++r) {
    float* out = static_cast<float*>(thin.out.data) + (row + r) * thin.out.cols;
    for (int32_t c = 0; c < kTogether && feature + c < thin.critical.count; ++c) {
      out[thin.critical.columns[feature + c]] += thin.dy.scales[row + r] * sums[r][c];
    }
  }
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
  const int64_t stride = RoundUp(length, kLanes);
  const int64_t cells = RoundUp(critical.count, kTogether) * stride;
  pool_.ParallelFor(Pieces(dy.rows, kRowsPerTask), [&](int64_t task, int worker) {
    auto* factors =
        reinterpret_cast<float*>(WorkerScratch(worker, static_cast<size_t>(cells) * sizeof(float)));
    if (factors == nullptr) return;
    FillFactors(critical.values, divisors, length, stride, critical.count, factors);
    const Thin thin{dy, critical, factors, stride, out};
    const int64_t end = Smaller(dy.rows, (task + 1) * kRowsPerTask);
    for (int32_t feature = 0; feature < critical.count; feature += kTogether) {
      int64_t row = task * kRowsPerTask;
      for (; row + 3 <= end; row += 3) AddDots<3>(thin, row, feature);
      for (; row < end; ++row) AddDots<1>(thin, row, feature);
    }
  });
}

}  // namespace qft::QFT_ISA
