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

int64_t RoundUp(int64_t value, int64_t step) {
  return (value + step - 1) / step * step;
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

// out[i, j] = fma(values[i, c], weights[c, j], out[i, j]) for c in order, over a block of kRows
// rows and kVectors * 16 columns that stays in registers.
template <int kRows, int kVectors>
QFT_INLINE void AddBlock(const float* values, const float* weights, int32_t count, int64_t stride,
                         float* out, int64_t out_stride) {
  Float16 sums[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) sums[r][v] = Load(out + r * out_stride + v * kLanes);
  }
  for (int32_t c = 0; c < count; ++c) {
    Float16 weight[kVectors];
    for (int v = 0; v < kVectors; ++v) weight[v] = Load(weights + c * stride + v * kLanes);
    for (int r = 0; r < kRows; ++r) {
      const Float16 value = Broadcast(values[r * count + c]);
      for (int v = 0; v < kVectors; ++v) sums[r][v] = Fma(value, weight[v], sums[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) Store(out + r * out_stride + v * kLanes, sums[r][v]);
  }
}

// The same for one row and the last, fewer than 16 columns.
void AddRest(const float* values, const float* weights, int32_t count, int64_t stride,
             int64_t columns, float* out) {
  Float16 sum = LoadPartial(out, columns);
  for (int32_t c = 0; c < count; ++c) {
    sum = Fma(Broadcast(values[c]), Load(weights + c * stride), sum);
  }
  StorePartial(out, sum, columns);
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

void AddCriticalTile(const IntegerProblem& p, const Tile& tile, const float* weights,
                     int64_t stride) {
  const int32_t count = p.critical.count;
  const float* values = p.critical.values + tile.row * count;
  float* out = p.out + tile.row * p.n + tile.column;
  int64_t j = 0;
  for (; j + 2 * kLanes <= tile.columns; j += 2 * kLanes) {
    int64_t i = 0;
    for (; i + 4 <= tile.rows; i += 4) {
      AddBlock<4, 2>(values + i * count, weights + j, count, stride, out + i * p.n + j, p.n);
    }
    for (; i < tile.rows; ++i) {
      AddBlock<1, 2>(values + i * count, weights + j, count, stride, out + i * p.n + j, p.n);
    }
  }
  for (; j < tile.columns; j += kLanes) {
    const int64_t left = tile.columns - j;
    for (int64_t i = 0; i < tile.rows; ++i) {
      float* row = out + i * p.n + j;
      if (left >= kLanes) {
        AddBlock<1, 1>(values + i * count, weights + j, count, stride, row, p.n);
      } else {
        AddRest(values + i * count, weights + j, count, stride, left, row);
      }
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
