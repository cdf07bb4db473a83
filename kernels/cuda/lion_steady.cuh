// Updating a steady row of codes: without weight decay, rounded stochastically, its gradient codes,
// no update a step or more. Then every update of the row has the same magnitude: rounding compares
// random bits with one number a row, and a weight moves by a step or not at all, so that four codes
// move at once as the bytes of a word. In one pass.
#pragma once

#include "kernels/cuda/lion_columns.cuh"
#include "kernels/cuda/lion_gradient.cuh"

namespace qft::cuda {

// False: the row is not steady. Options and pointers must be what MayBeSteady asks for.
__device__ inline bool MakeSteadyRow(const Lion& lion, const LionKeys& keys, const Row& row,
                                     SteadyRow* steady) {
  // A weight that is not finite would have its say although weight decay is 0.
  const float largest_weight = row.step * static_cast<float>(128 * kResidualSteps);
  const float x = WantedMove(lion.rate, row.inverse_step);  // where beta1 m + (1 - beta1) g > 0
  const uint64_t end = static_cast<uint64_t>((row.index + 1) * (row.cols / 4));
  if (end > 0xffffffffu) return false;  // random indices of rows that are steady have 32 bits
  if (!(largest_weight <= 3.402823466e+38f) || !(x > -1.0f && x <= 0.0f)) return false;
  *steady = {lion.options.beta1,
             lion.rest1,
             lion.options.beta2,
             lion.rest2,
             __float2uint_rz(fabsf(x) * 4294967296.0f),
             fabsf(x),
             MakePhiloxRow(keys.weight, 0, lion.step),
             MakePhiloxRow(keys.momentum, 0, lion.step)};
  return true;
}

__device__ inline uint4 LoadWords(const int8_t* p, bool inside) {
  return inside ? *reinterpret_cast<const uint4*>(p) : make_uint4(0, 0, 0, 0);
}

// Where codes come near the edge of the grid: moves those of a word again, one by one, so that none
// spills over into its neighbour; the eighth bit of what does not fit is lost. old_rests: signed
// bytes, 0 without a plane.
__device__ inline uint32_t MoveAtEdge(const Row& row, uint32_t old_codes, uint32_t old_rests,
                                      uint32_t moves, RowCounts* counts) {
  uint32_t result = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const auto move = static_cast<int8_t>(moves);  // the lowest byte; above it is the rest's sum
    moves = (moves - static_cast<uint32_t>(move)) >> 8;
    int steps = static_cast<int8_t>(old_codes >> (8 * i));
    const bool fine = row.residual != nullptr;
    if (fine) steps = steps * kResidualSteps + static_cast<int8_t>(old_rests >> (8 * i));
    steps += move;
    const int code = fine ? CodeOfSteps(steps) : steps;
    if (steps > row.top || steps < -row.top) counts->outside = true;
    if (code == 127 || code == -127) ++counts->saturated;
    result |= (static_cast<uint32_t>(code) & 0xffu) << (8 * i);
  }
  return result;
}

// Where a thread's next 16 columns are.
struct Cursor {
  int c;
  int8_t* codes;
  uint8_t* residual;
  int8_t* momentum;
  float* grid;  // of momentum
  uint4* old;
  uint32_t weight_block;
  uint32_t momentum_block;
};

__device__ inline Cursor MakeCursor(const Row& row, uint4* old) {
  const int c = static_cast<int>(threadIdx.x) * kWide;
  const auto weight_block = static_cast<uint32_t>(row.index * (row.cols / 4));
  const auto momentum_block = static_cast<uint32_t>(row.index * (row.cols / 8));
  return {c,
          row.codes + c,
          row.residual + c / 2,
          row.momentum + c,
          row.momentum_grid + c / kMomentumBlock,
          old + c / kWide,
          weight_block + static_cast<uint32_t>(c / 4),
          momentum_block + static_cast<uint32_t>(c / 8)};
}

__device__ inline void Advance(Cursor* at) {
  constexpr int kColumns = kLionThreads * kWide;
  at->c += kColumns;
  at->codes += kColumns;
  at->residual += kColumns / 2;
  at->momentum += kColumns;
  at->grid += kColumns / kMomentumBlock;
  at->old += kColumns / kWide;
  at->weight_block += kColumns / 4;
  at->momentum_block += kColumns / 8;
}

// MoveAtEdge of 16 columns whose codes and residuals in memory are the old ones still.
template <bool kFine>
__device__ inline void Move16AtEdge(const Row& row, const Cursor& at, Columns* columns,
                                    RowCounts* counts) {
  const uint4 old_codes = *at.old;
  uint32_t old_rests[kWords] = {};
  if (kFine) LoadRests(*reinterpret_cast<const uint2*>(at.residual), old_rests);
#pragma unroll
  for (int k = 0; k < kWords; ++k) {
    const uint32_t old = Word(old_codes, k);
    uint32_t moves = (columns->codes[k] ^ kSignBits) - (old ^ kSignBits);
    uint32_t signed_rests = 0;
    if (kFine) {
      moves = columns->rests[k] - old_rests[k];
      signed_rests = ((old_rests[k] | kSignBits) - 24 * kOnes) ^ kSignBits;  // no byte is below 16
    }
    columns->codes[k] = MoveAtEdge(row, old, signed_rests, moves, counts);
  }
}

// 16 columns as they lie in memory, on their way while others are worked on.
struct Loaded {
  uint4 codes;
  uint4 momentum;
  uint2 rests;
  float momentum_grid;
};

template <bool kFine>
__device__ inline Loaded Load16(const Cursor& at, int64_t cols) {
  const bool inside = at.c < static_cast<int>(cols);
  Loaded loaded;
  loaded.codes = LoadWords(at.codes, inside);
  loaded.momentum = LoadWords(at.momentum, inside);
  loaded.rests = kFine && inside ? *reinterpret_cast<const uint2*>(at.residual) : uint2{0, 0};
  loaded.momentum_grid = inside ? *at.grid : 0.0f;
  return loaded;
}

// Updates the 16 columns that `at` is at, whose gradient is gradient_grid times codes; a row that
// grows asks for their old codes, which `at.old` gets. All threads of a warp call it.
template <bool kFine>
__device__ inline void UpdateSteady16(const LionKeys& keys, const Row& row, const SteadyRow& steady,
                                      const Cursor& at, const Loaded& loaded, float gradient_grid,
                                      const uint4& gradient, RowCounts* counts) {
  const bool inside = at.c < static_cast<int>(row.cols);
  Columns columns;
  if (kFine) LoadRests(loaded.rests, columns.rests);
  if (inside) *at.old = loaded.codes;
#pragma unroll
  for (int k = 0; k < kWords; ++k) columns.codes[k] = Word(loaded.codes, k);
  Move16<kFine>(keys, steady, loaded.momentum_grid, gradient_grid, loaded.momentum, gradient,
                at.weight_block, &columns, counts);
  float largest = columns.largest;
#pragma unroll
  for (int offset = kMomentumBlock / kWide / 2; offset > 0; offset /= 2) {
    largest = LargerMagnitude(largest, __shfl_xor_sync(kFullWarp, largest, offset));
  }
  const RowScale scale = MakeBlockScale(largest);
  if (!inside) return;
  if ((columns.edge & kSignBits) != 0) Move16AtEdge<kFine>(row, at, &columns, counts);
  *reinterpret_cast<uint4*>(at.codes) =
      make_uint4(columns.codes[0], columns.codes[1], columns.codes[2], columns.codes[3]);
  if (kFine) *reinterpret_cast<uint2*>(at.residual) = PackRests(columns.rests);
  if (at.c % kMomentumBlock == 0) *at.grid = scale.scale;
  *reinterpret_cast<uint4*>(at.momentum) =
      scale.inverse > 0x1p100f
          ? EncodeMomentum16<true>(keys, steady, scale.inverse, at.momentum_block, columns.next)
          : EncodeMomentum16<false>(keys, steady, scale.inverse, at.momentum_block, columns.next);
}

// Steps of four columns that UpdateSteady16 has written, some of which may not fit a code.
__device__ inline void LoadMoved4(const Row& row, int64_t c, const int (&old)[kNarrow],
                                  int (&steps)[kNarrow]) {
  LoadCodes4(row.codes, c, row.cols, steps);
#pragma unroll
  for (int i = 0; i < kNarrow; ++i) steps[i] = old[i] + static_cast<int8_t>(steps[i] - old[i]);
  AddRests4(row, c, steps);
}

// Writes four columns of a row that grows; its thread has all columns that share their bytes.
__device__ inline void StoreGrown4(const Row& row, int64_t c, const int (&old)[kNarrow],
                                   const int (&steps)[kNarrow], RowCounts* counts) {
  int codes[kNarrow];
  uint32_t nibbles = 0;
#pragma unroll
  for (int i = 0; i < kNarrow; ++i) {
    codes[i] = row.residual == nullptr ? steps[i] : CodeOfSteps(steps[i]);
    nibbles |= (static_cast<uint32_t>(steps[i]) & 15u) << (8 * i);
    if (codes[i] != old[i]) ++counts->changed;
    if (codes[i] == 127 || codes[i] == -127) ++counts->saturated;
  }
  StoreCodes4(row.codes, c, row.cols, codes);
  if (row.residual == nullptr) return;
  const Rests4 rests = RestsAt(row, c);
  *rests.word = (*rests.word & ~(0x0f * kOnes << rests.shift)) | nibbles << rests.shift;
}

// Re-rounds a row that UpdateSteady16 has written to a grid that holds it, each thread its own
// columns; returns the grid.
__device__ inline float RegrowSteadyRow(const Lion& lion, const Row& row, const int8_t* old_codes,
                                        RowCounts* counts) {
  int old[kNarrow];
  int steps[kNarrow];
  int32_t largest = 0;
  const auto columns = [&](auto work) {  // rare: few registers matter, not instructions
    for (int64_t c16 = threadIdx.x * kWide; c16 < row.cols; c16 += kLionThreads * kWide) {
#pragma unroll 1
      for (int64_t c = c16; c < c16 + kWide; c += kNarrow) {
        LoadCodes4(old_codes, c, row.cols, old);
        LoadMoved4(row, c, old, steps);
        work(c);
      }
    }
  };
  columns([&](int64_t) {
#pragma unroll
    for (int i = 0; i < kNarrow; ++i) largest = max(largest, steps[i] < 0 ? -steps[i] : steps[i]);
  });
  const GrownGrid grown = GrowGrid(row, BlockReduce(largest, MaxOfValues()));
  counts->changed = 0;
  counts->saturated = 0;
  columns([&](int64_t c) {
    Regrow4(lion, row, c, grown.ratio, steps);
    StoreGrown4(row, c, old, steps, counts);
  });
  return grown.grid;
}

// The compiler must take it for another value.
__device__ inline void HideValue(int* value) {
  asm volatile("" : "+r"(*value));
}

// Row r of a tensor.
struct RowOf {
  const LionOptions& options;
  const Weight& w;
  const Momentum& m;
  const StepState* step;
  int r;
};

// Makes what it needs anew, since updating the row takes all registers.
__device__ inline void GrowSteadyRow(RowOf of, const uint4* old, RowCounts* found,
                                     LionCounts* counts) {
  HideValue(&of.r);
  const Lion lion = MakeLion(of.options, *of.step);
  const Row row = MakeRow(lion, of.w, of.m, of.r);
  const float grown = RegrowSteadyRow(lion, row, reinterpret_cast<const int8_t*>(old), found);
  if (threadIdx.x != 0) return;
  of.w.grid[of.r] = grown;
  ++counts->grown;
}

// False, and nothing is done, where the row is not steady. old
// [cols / kWide] in shared memory, each thread its own. All threads of the block; has barriers.
template <bool kFine, typename Source>
__device__ inline bool UpdateSteadyRow(const RowOf& of, const Source& source, const LionKeys& keys,
                                       uint4* old, LionCounts* counts) {
  const Lion lion = MakeLion(of.options, *of.step);
  const Row row = MakeRow(lion, of.w, of.m, of.r);
  Cursor at = MakeCursor(row, old);
  Loaded next = Load16<kFine>(at, row.cols);
  SteadyRow steady;
  if (!MakeSteadyRow(lion, keys, row, &steady)) return false;
  const int cols = static_cast<int>(row.cols);
  SteadyGradient<Source> gradient(source, cols, of.r);
  if (!gradient.usable()) {
    __syncthreads();  // before the next row's
    return false;
  }
  const float gradient_grid = lion.gradient_factor * gradient.grid();
  auto gradient_ahead = gradient.Load(at.c, at.c < cols);
  RowCounts found;
  const int end = static_cast<int>(RoundUp(row.cols, 32 * kWide));  // whole warps
  while (at.c < end) {
    const Loaded loaded = next;
    const uint4 codes = gradient.Take(source, gradient_ahead, at.c, at.c < cols);
    Cursor ahead = at;
    Advance(&ahead);
    next = Load16<kFine>(ahead, row.cols);
    gradient_ahead = gradient.Load(ahead.c, ahead.c < cols);
    UpdateSteady16<kFine>(keys, row, steady, at, loaded, gradient_grid, codes, &found);
    at = ahead;
  }
  if (!kFine) found.changed = found.moved;
  gradient.BeforeBarrier();
  const bool grows = __syncthreads_or(found.outside);
  gradient.BehindBarrier(source, of.r);
  if (grows) GrowSteadyRow(of, old, &found, counts);
  counts->changed += static_cast<int32_t>(found.changed);
  counts->saturated += static_cast<int32_t>(found.saturated);
  const auto moved = static_cast<float>(found.moved);
  const float rest = 1.0f - steady.move;
  const auto stayed = found.nonzero - moved;
  counts->square_errors += moved * (rest * rest) + stayed * (steady.move * steady.move);
  return true;
}

}  // namespace qft::cuda
