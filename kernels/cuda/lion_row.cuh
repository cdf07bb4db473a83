// Updating a row of codes whatever the options are: four columns a thread, a warp a block of
// momentum, in two passes with the new steps in memory between them.
#pragma once

#include "kernels/cuda/lion.cuh"

namespace qft::cuda {

// Columns of a thread; a warp's are a block of momentum.
inline constexpr int kNarrow = 4;
static_assert(kNarrow * 32 == kMomentumBlock);

__device__ inline void LoadCodes4(const int8_t* row, int64_t c, int64_t cols, int (&v)[kNarrow]) {
  const int8_t* p = row + c;
  if (c + kNarrow <= cols && reinterpret_cast<uintptr_t>(p) % kNarrow == 0) {
    const uint32_t word = *reinterpret_cast<const uint32_t*>(p);
#pragma unroll
    for (int i = 0; i < kNarrow; ++i) v[i] = static_cast<int8_t>(word >> (8 * i));
    return;
  }
#pragma unroll
  for (int i = 0; i < kNarrow; ++i) v[i] = c + i < cols ? p[i] : 0;
}

__device__ inline void StoreCodes4(int8_t* row, int64_t c, int64_t cols, const int (&v)[kNarrow]) {
  int8_t* p = row + c;
  if (c + kNarrow <= cols && reinterpret_cast<uintptr_t>(p) % kNarrow == 0) {
    *reinterpret_cast<uint32_t*>(p) =
        __byte_perm(__byte_perm(v[0], v[1], 0x0040), __byte_perm(v[2], v[3], 0x0040), 0x5410);
    return;
  }
#pragma unroll
  for (int i = 0; i < kNarrow; ++i) {
    if (c + i < cols) p[i] = static_cast<int8_t>(v[i]);
  }
}

// Four residuals: bytes of a row's plane, whose low or high halves they are.
struct Rests4 {
  uint32_t* word;
  int shift;
};

__device__ inline Rests4 RestsAt(const Row& row, int64_t c) {
  return {reinterpret_cast<uint32_t*>(row.residual + c / 16 * 8 + c % 8), c % 16 < 8 ? 0 : 4};
}

// Whole steps from codes, with the residuals where there is a plane.
__device__ inline void AddRests4(const Row& row, int64_t c, int (&steps)[kNarrow]) {
  if (row.residual == nullptr) return;
  const Rests4 rests = RestsAt(row, c);
  const uint32_t word = *rests.word >> rests.shift;
#pragma unroll
  for (int i = 0; i < kNarrow; ++i) {
    const uint32_t nibble = word >> (8 * i) & 15u;
    steps[i] = steps[i] * kResidualSteps + static_cast<int>(nibble ^ 8u) - 8;
  }
}

__device__ inline void LoadGradient4(const GradientRow& row, int64_t c, int64_t cols,
                                     float (&g)[kNarrow]) {
  int codes[kNarrow] = {};
  if (row.codes != nullptr) LoadCodes4(row.codes, c, cols, codes);
#pragma unroll
  for (int i = 0; i < kNarrow; ++i) {
    float v = static_cast<float>(codes[i]);
    if (row.codes == nullptr && c + i < cols) v = row.values[c + i];
    g[i] = row.factor * v;
  }
}

// A warp's block of momentum from its fp32 values: a new grid and codes.
__device__ inline void StoreMomentum4(const Lion& lion, const Row& row, int64_t c,
                                      const float (&next)[kNarrow]) {
  int32_t largest = 0;
#pragma unroll
  for (int i = 0; i < kNarrow; ++i) largest = max(largest, MagnitudeBits(next[i]));
  const RowScale scale = MakeRowScale(WarpReduce(largest, MaxOfValues()), 127.0f);
  if (c >= row.cols) return;
  if (c % kMomentumBlock == 0) row.momentum_grid[c / kMomentumBlock] = scale.scale;
  PhiloxBlock random{};
  if (lion.stochastic) {
    const auto block = static_cast<uint64_t>(row.index * CeilDivide(row.cols, 8) + c / 8);
    random = Philox(lion.options.momentum_key, block, lion.step);
  }
  const bool low = c % 8 < kNarrow;
  const uint32_t words[2] = {low ? random.word[0] : random.word[2],
                             low ? random.word[1] : random.word[3]};
  int codes[kNarrow];
#pragma unroll
  for (int i = 0; i < kNarrow; ++i) {
    const float x = scale.zero ? 0.0f : next[i] * scale.inverse;
    const uint32_t bits = words[i / 2] >> (16 * (i % 2)) & 0xffffu;
    codes[i] = lion.stochastic ? RoundStochastic16(x, bits) : RoundToInt(x);
  }
  StoreCodes4(row.momentum, c, row.cols, codes);
}

// Moves columns c .. c + 4 into `wide` and renews their momentum; returns the largest magnitude of
// their new steps. Columns past the row's end are zero and stay zero. All threads of a warp call
// it.
__device__ inline int32_t Update4(const Lion& lion, const Row& row, const GradientRow& from,
                                  int64_t c, int32_t* wide, LionCounts* counts) {
  int32_t largest = 0;
  float next[kNarrow] = {};
  if (c < row.cols) {
    int steps[kNarrow];
    int momentum[kNarrow];
    float gradient[kNarrow];
    PhiloxBlock random{};
    LoadCodes4(row.codes, c, row.cols, steps);
    AddRests4(row, c, steps);
    LoadCodes4(row.momentum, c, row.cols, momentum);
    LoadGradient4(from, c, row.cols, gradient);
    if (lion.stochastic) random = RowRandom32(lion.options.weight_key, lion, row, c);
    const float momentum_grid = row.momentum_grid[c / kMomentumBlock];
#pragma unroll
    for (int i = 0; i < kNarrow; ++i) {
      const float m = momentum_grid * static_cast<float>(momentum[i]);
      const float delta = Delta(lion, row.step * static_cast<float>(steps[i]), m, gradient[i]);
      const float x = WantedMove(delta, row.inverse_step);
      const int moved = lion.stochastic ? RoundStochastic32(x, random.word[i]) : RoundToInt(x);
      const float error = static_cast<float>(moved) - x;
      counts->square_errors = __fmaf_rn(error, error, counts->square_errors);
      if (!lion.stochastic && moved == 0 && fabsf(x) > 0.0f) ++counts->lost;
      steps[i] += moved;
      largest = max(largest, steps[i] < 0 ? -steps[i] : steps[i]);
      next[i] = NextMomentum(lion, m, gradient[i]);
    }
    *reinterpret_cast<int4*>(wide + c) = make_int4(steps[0], steps[1], steps[2], steps[3]);
  }
  // The block's threads read its grid above and write it below.
  __syncwarp();
  StoreMomentum4(lion, row, c, next);
  return largest;
}

// Writes the row's codes from `wide`, which all threads have finished.
__device__ inline void StoreWeights(const Row& row, const int32_t* wide, LionCounts* counts) {
  for (int64_t c = threadIdx.x * kWide; c < row.cols; c += kLionThreads * kWide) {
    int steps[kWide];
    int old[kWide];
    LoadCodes16(row.codes, c, row.cols, old);
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      steps[i] = wide[c + i];
      const int code = row.residual == nullptr ? steps[i] : CodeOfSteps(steps[i]);
      if (code != old[i]) ++counts->changed;
      if (code == 127 || code == -127) ++counts->saturated;
    }
    StoreSteps16(row.codes, row.residual, c, row.cols, steps);
  }
}

// wide [cols rounded up to kWide]: new steps before they are known to fit, behind the end zeros. In
// shared or global memory. All threads of the block; has barriers.
__device__ inline void UpdateRow(const Lion& lion, const Row& row, const GradientRow& gradient,
                                 int32_t* wide, float* grid, LionCounts* counts) {
  __syncthreads();  // every thread has read the grid, and the last row's `wide`
  int32_t largest = 0;
  const int64_t end = RoundUp(row.cols, kMomentumBlock);  // whole warps
  for (int64_t c = threadIdx.x * kNarrow; c < end; c += kLionThreads * kNarrow) {
    largest = max(largest, Update4(lion, row, gradient, c, wide, counts));
  }
  for (int64_t c = RoundUp(row.cols, kNarrow) + threadIdx.x; c < RoundUp(row.cols, kWide);
       c += kLionThreads) {
    wide[c] = 0;
  }
  largest = BlockReduce(largest, MaxOfValues());
  if (largest > row.top) {
    const GrownGrid grown = GrowGrid(row, largest);
    for (int64_t c = threadIdx.x * kNarrow; c < row.cols; c += kLionThreads * kNarrow) {
      int4* four = reinterpret_cast<int4*>(wide + c);
      int steps[kNarrow] = {four->x, four->y, four->z, four->w};
      Regrow4(lion, row, c, grown.ratio, steps);
      *four = make_int4(steps[0], steps[1], steps[2], steps[3]);
    }
    if (threadIdx.x == 0) {
      *grid = grown.grid;
      ++counts->grown;
    }
    __syncthreads();
  }
  StoreWeights(row, wide, counts);
}

}  // namespace qft::cuda
