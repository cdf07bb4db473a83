// Updating a steady row of codes: without weight decay, rounded stochastically, its gradient codes,
// no update a step or more. Then every update of the row has the same magnitude: rounding compares
// random bits with one number a row, and a weight moves by a step or not at all, so that four codes
// move at once as the bytes of a word. In one pass: bound by instructions, so these are counted.
#pragma once

#include "kernels/cuda/lion_row.cuh"
#include "kernels/cuda/philox.cuh"

namespace qft::cuda {

inline constexpr int kWords = kWide / 4;  // of codes
inline constexpr uint32_t kOnes = 0x01010101u;
inline constexpr uint32_t kSignBits = 0x80808080u;

struct LionKeys {
  RoundKeys weight;
  RoundKeys momentum;
};

struct SteadyRow {
  float beta1, rest1, beta2, rest2;  // of Lion
  uint32_t threshold;                // an update is a step where its random bits are below
  float move;                        // magnitude of an update, in steps
  PhiloxRow weight_random;
  PhiloxRow momentum_random;
};

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

// Code i of a word. The product lands in the low bits of 1.5 * 2^23, sign and all.
__device__ inline float CodeValue(uint32_t word, int i) {
  const int bits = __dp4a(static_cast<int>(word), 1 << (8 * i), 0x4B400000);
  return __int_as_float(bits) - 12582912.0f;
}

__device__ inline uint32_t PackBytes(uint32_t a, uint32_t b, uint32_t c, uint32_t d,
                                     uint32_t selector) {
  return __byte_perm(__byte_perm(a, b, selector), __byte_perm(c, d, selector), 0x5410);
}

// Bytes a and b of two words and the signs of bytes: __byte_perm does not do signs.
__device__ inline uint32_t PermuteSigns(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t result;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(selector));
  return result;
}

// Bytes of ones where the number is negative.
__device__ inline uint32_t SignMask(const float (&u)[4]) {
  const uint32_t low = PermuteSigns(__float_as_uint(u[0]), __float_as_uint(u[1]), 0x00fb);
  const uint32_t high = PermuteSigns(__float_as_uint(u[2]), __float_as_uint(u[3]), 0x00fb);
  return __byte_perm(low, high, 0x5410);
}

__device__ inline uint32_t Word(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

// What a thread's updates of a row did; changed and saturated only if the row does not grow.
struct RowCounts {
  uint32_t moved = 0;
  uint32_t changed = 0;
  uint32_t saturated = 0;
  float nonzero = 0;     // updates other than 0
  bool outside = false;  // steps that do not fit the grid
};

// Counts `u` unless it is 0 (or no number), and sets `bit` of `moving` if its random bits say so:
// two compares and two instructions under their predicates, which is not what a compiler makes.
__device__ inline void Decide(float u, uint32_t random, uint32_t threshold, uint32_t bit,
                              uint32_t* moving, float* nonzero) {
  asm("{\n"
      ".reg .pred some, moves;\n"
      "setp.gt.f32 some, %2, 0f00000000;\n"
      "@some add.f32 %1, %1, 0f3F800000;\n"
      "setp.lt.and.u32 moves, %3, %4, some;\n"
      "@moves or.b32 %0, %0, %5;\n"
      "}"
      : "+r"(*moving), "+f"(*nonzero)
      : "f"(fabsf(u)), "r"(random), "r"(threshold), "r"(bit));
}

// Bit 7 of a byte where the code's magnitude is 127 or more, and for -126 and 126 perhaps: those
// are looked at one by one.
__device__ inline uint32_t NearEdge(uint32_t codes) {
  return (codes ^ PermuteSigns(codes, 0, 0xba98)) + 2 * kOnes;
}

// 16 columns in work: codes and residuals before and after they move, and what decides how.
struct Columns {
  uint32_t codes[kWords];
  uint32_t rests[kWords];  // 24 + r in each byte, so that a step up or down stays in its byte
  uint32_t edge;           // NearEdge of the codes
  float next[kWide];       // momentum
  float largest;           // magnitude of it
};

__device__ inline void LoadRests(uint2 plane, uint32_t (&rests)[kWords]) {
  constexpr uint32_t kLow = 0x0f * kOnes;
  constexpr uint32_t kBias = 24 * kOnes;
  rests[0] = (plane.x & kLow) ^ kBias;
  rests[1] = (plane.y & kLow) ^ kBias;
  rests[2] = (plane.x >> 4 & kLow) ^ kBias;
  rests[3] = (plane.y >> 4 & kLow) ^ kBias;
}

__device__ inline uint2 PackRests(const uint32_t (&rests)[kWords]) {
  constexpr uint32_t kLow = 0x0f * kOnes;
  uint32_t nibbles[kWords];
#pragma unroll
  for (int k = 0; k < kWords; ++k) nibbles[k] = (rests[k] & kLow) ^ 8 * kOnes;
  return make_uint2(nibbles[0] | nibbles[2] << 4, nibbles[1] | nibbles[3] << 4);
}

// Moves word k up by a step where a byte of `up` is one, down where one of `down` is; returns ones
// where codes change. What leaves its byte is caught by NearEdge.
template <bool kFine>
__device__ inline uint32_t Move4(uint32_t up, uint32_t down, int k, Columns* columns) {
  uint32_t code = columns->codes[k] ^ kSignBits;
  uint32_t changed = up | down;
  if constexpr (kFine) {
    columns->rests[k] = columns->rests[k] + up - down;
    const uint32_t carries = columns->rests[k] >> 4;  // 1: none, 2: a code up, 0: a code down
    changed = ~carries & kOnes;
    code = code + (carries & 3 * kOnes) - kOnes;
  } else {
    code = code + up - down;
  }
  columns->codes[k] = code ^ kSignBits;
  columns->edge |= NearEdge(columns->codes[k]);
  return changed;
}

// Renews the momentum of 16 columns and moves their codes.
template <bool kFine>
__device__ inline void Move16(const LionKeys& keys, const SteadyRow& row, float momentum_grid,
                              float gradient_grid, const uint4& momentum, const uint4& gradient,
                              uint32_t weight_block, Columns* columns, RowCounts* counts) {
  columns->edge = 0;
  columns->largest = 0.0f;
  uint32_t moved = 0;
  uint32_t changed = 0;
#pragma unroll
  for (int k = 0; k < kWords; ++k) {
    const PhiloxBlock random =
        PhiloxOf(keys.weight, row.weight_random, weight_block + static_cast<uint32_t>(k));
    float u[4];
    uint32_t moving = 0;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float m = momentum_grid * CodeValue(Word(momentum, k), i);
      const float g = gradient_grid * CodeValue(Word(gradient, k), i);
      u[i] = row.beta1 * m + row.rest1 * g;
      Decide(u[i], random.word[i], row.threshold, 1u << (8 * i), &moving, &counts->nonzero);
      float& next = columns->next[4 * k + i];
      next = row.beta2 * m + row.rest2 * g;
      columns->largest = LargerMagnitude(columns->largest, next);
    }
    const uint32_t rising = SignMask(u);
    changed += Move4<kFine>(moving & rising, moving & ~rising, k, columns);
    moved += moving;
  }
  counts->moved = __dp4a(moved, kOnes, counts->moved);
  if (kFine) counts->changed = __dp4a(changed, kOnes, counts->changed);
}

// The scale of a block of momentum and its inverse, like MakeRowScale's, in one division: the first
// of the block's eight threads, neighbours in the warp, makes the scale, which it alone needs, the
// others the inverse.
__device__ inline RowScale MakeBlockScale(float largest) {
  constexpr float kTop = 127.0f;
  constexpr int kThreads = kMomentumBlock / kWide;
  const bool first = threadIdx.x % kThreads == 0;
  const float quotient = __fdiv_rn(first ? largest : kTop, first ? kTop : largest);
  const float inverse = __shfl_sync(kFullWarp, quotient, 1, kThreads);
  if (__float_as_int(largest) >= 0x7f800000) return {__int_as_float(0x7fc00000), 0.0f, true};
  if (!(inverse <= 3.402823466e+38f)) return {0.0f, 0.0f, true};
  return {quotient, inverse, false};
}

// Codes of 16 columns of momentum. Where the scale is zero its inverse is too, and what is no
// number converts to 0.
template <bool kTiny>
__device__ inline uint4 EncodeMomentum16(const LionKeys& keys, const SteadyRow& row, float inverse,
                                         uint32_t momentum_block, const float (&next)[kWide]) {
  uint32_t words[kWords];
#pragma unroll
  for (int k = 0; k < kWords; k += 2) {
    const PhiloxBlock random =
        PhiloxOf(keys.momentum, row.momentum_random, momentum_block + static_cast<uint32_t>(k / 2));
    uint32_t sums[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      // In 65536ths: a power of two changes no rounding, as long as the factor is finite.
      const float value = next[4 * k + i];
      const float scaled = kTiny ? value * inverse * 65536.0f : value * (inverse * 65536.0f);
      sums[i] = __dp2a_lo(random.word[i / 2], i % 2 == 0 ? 0x0001u : 0x0100u,
                          static_cast<uint32_t>(__float2int_rn(scaled)));
    }
    words[k] = PackBytes(sums[0], sums[1], sums[2], sums[3], 0x0062);
    words[k + 1] = PackBytes(sums[4], sums[5], sums[6], sums[7], 0x0062);
  }
  return make_uint4(words[0], words[1], words[2], words[3]);
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
  const int8_t* gradient;
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
          row.gradient_codes + c,
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
  at->gradient += kColumns;
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
  uint4 gradient;
  uint2 rests;
  float momentum_grid;
};

template <bool kFine>
__device__ inline Loaded Load16(const Cursor& at, int64_t cols) {
  const bool inside = at.c < static_cast<int>(cols);
  Loaded loaded;
  loaded.codes = LoadWords(at.codes, inside);
  loaded.momentum = LoadWords(at.momentum, inside);
  loaded.gradient = LoadWords(at.gradient, inside);
  loaded.rests = kFine && inside ? *reinterpret_cast<const uint2*>(at.residual) : uint2{0, 0};
  loaded.momentum_grid = inside ? *at.grid : 0.0f;
  return loaded;
}

// Updates the 16 columns that `at` is at; a row that grows asks for their old codes, which `at.old`
// gets. All threads of a warp call it.
template <bool kFine>
__device__ inline void UpdateSteady16(const LionKeys& keys, const Row& row, const SteadyRow& steady,
                                      const Cursor& at, const Loaded& loaded, RowCounts* counts) {
  const bool inside = at.c < static_cast<int>(row.cols);
  Columns columns;
  if (kFine) LoadRests(loaded.rests, columns.rests);
  if (inside) *at.old = loaded.codes;
#pragma unroll
  for (int k = 0; k < kWords; ++k) columns.codes[k] = Word(loaded.codes, k);
  Move16<kFine>(keys, steady, loaded.momentum_grid, row.gradient_factor, loaded.momentum,
                loaded.gradient, at.weight_block, &columns, counts);
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
  const Gradient& gradient;
  const StepState* step;
  int r;
};

// Makes what it needs anew, since updating the row takes all registers.
__device__ inline void GrowSteadyRow(RowOf of, const uint4* old, RowCounts* found,
                                     LionCounts* counts) {
  HideValue(&of.r);
  const Lion lion = MakeLion(of.options, *of.step);
  const Row row = MakeRow(lion, of.w, of.m, of.gradient, of.r);
  const float grown = RegrowSteadyRow(lion, row, reinterpret_cast<const int8_t*>(old), found);
  if (threadIdx.x != 0) return;
  of.w.grid[of.r] = grown;
  ++counts->grown;
}

// False, and nothing is done, where the row is not steady. old [cols / kWide] in shared memory,
// each thread its own. All threads of the block; has barriers.
template <bool kFine>
__device__ inline bool UpdateSteadyRow(const RowOf& of, const LionKeys& keys, uint4* old,
                                       LionCounts* counts) {
  const Lion lion = MakeLion(of.options, *of.step);
  const Row row = MakeRow(lion, of.w, of.m, of.gradient, of.r);
  Cursor at = MakeCursor(row, old);
  Loaded next = Load16<kFine>(at, row.cols);
  SteadyRow steady;
  if (!MakeSteadyRow(lion, keys, row, &steady)) return false;
  RowCounts found;
  const int end = static_cast<int>(RoundUp(row.cols, 32 * kWide));  // whole warps
  while (at.c < end) {
    const Loaded loaded = next;
    Cursor ahead = at;
    Advance(&ahead);
    next = Load16<kFine>(ahead, row.cols);
    UpdateSteady16<kFine>(keys, row, steady, at, loaded, &found);
    at = ahead;
  }
  if (!kFine) found.changed = found.moved;
  if (__syncthreads_or(found.outside)) GrowSteadyRow(of, old, &found, counts);
  counts->changed += static_cast<int32_t>(found.changed);
  counts->saturated += static_cast<int32_t>(found.saturated);
  const auto moved = static_cast<float>(found.moved);
  const float rest = 1.0f - steady.move;
  counts->square_errors +=
      moved * (rest * rest) + (found.nonzero - moved) * (steady.move * steady.move);
  return true;
}

}  // namespace qft::cuda
