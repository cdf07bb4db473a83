#include "kernels/cpu/critical.h"
#include "kernels/cpu/engine.h"
#include "kernels/cpu/integer_gemm.h"
#include "kernels/cpu/matmul.h"
#include "kernels/cpu/quantize_folded.h"

namespace qft::QFT_ISA {

namespace {

// A tile's INT32 sums fit the second-level cache and stay there until the epilogue.
constexpr int64_t kTallestTile = 512;
constexpr int64_t kWidestTile = 640;
constexpr int64_t kTileStep = 64;
// Reading and packing an operand for a tile costs as much as this many more rows or columns.
constexpr int64_t kPackingCost = 48;

// Up to this many rows (tokens being generated) each weight row is read once and dotted with all.
constexpr int64_t kDotRows = 8;
constexpr int64_t kDotBytesPerTask = 1 << 18;

// Time until the last thread is done, in cells of a tile.
int64_t TileCost(const TileGrid& grid, int threads) {
  const int64_t rounds = Pieces(TileCount(grid), threads);
  return rounds * (grid.rows + kPackingCost) * (grid.columns + kPackingCost);
}

// The sums are exact, so tiles may depend on the number of threads.
TileGrid PickTiles(int64_t m, int64_t n, int threads) {
  TileGrid best{m, n, EvenTile(m, kTallestTile), EvenTile(n, kWidestTile)};
  int64_t best_cost = TileCost(best, threads);
  for (int64_t tall = kTileStep; tall <= kTallestTile; tall += kTileStep) {
    for (int64_t wide = kTileStep; wide <= kWidestTile; wide += kTileStep) {
      const TileGrid grid{m, n, EvenTile(m, tall), EvenTile(n, wide)};
      const int64_t cost = TileCost(grid, threads);
      if (cost >= best_cost) continue;
      best = grid;
      best_cost = cost;
    }
  }
  return best;
}

void AddSums(const int32_t* c, int64_t count, float* partial) {
  for (int64_t j = 0; j < count; ++j) partial[j] += static_cast<float>(c[j]);
}

// b from the tile's first column on.
const int8_t* TileOfB(const IntegerProblem& p, const Tile& tile) {
  return p.b + tile.column * (p.b_transposed ? p.k : 1);
}

// What a tile's epilogue reads: sums and the critical columns' weights, all with leading dimension
// ldc.
struct TileSums {
  const int32_t* c;
  const int32_t* second;          // of a second term, in its own units; nullptr: none
  const float* partial;           // nullptr: none
  const float* critical_weights;  // [critical count, ldc]
  int64_t ldc;
};

// scale * (partial + c), added to out when accumulate: row i and 16 columns from j on of a tile.
QFT_INLINE Float16 ScaledSums(const IntegerProblem& p, const Tile& tile, const TileSums& sums,
                              int64_t i, int64_t j) {
  const int64_t left = tile.columns - j;
  Int16 sum = LoadInt(sums.c + i * sums.ldc + j);
  if (sums.second != nullptr) {
    sum += (LoadInt(sums.second + i * sums.ldc + j) + BroadcastInt(128)) >> 8;
  }
  Float16 value = ToFloat(sum);
  if (sums.partial != nullptr) value = Load(sums.partial + i * sums.ldc + j) + value;
  Float16 scale = Broadcast(p.row_scale[tile.row + i]);
  if (p.column_scale != nullptr) {
    scale = scale * LoadUpTo(p.column_scale + tile.column + j, left);
  }
  value = scale * value;
  if (!p.accumulate) return value;
  return LoadUpTo(p.out + (tile.row + i) * p.n + tile.column + j, left) + value;
}

// The epilogue of kRows rows and kVectors * 16 columns, which stay in registers while the critical
// features are added.
template <int kRows, int kVectors>
QFT_INLINE void StoreBlock(const IntegerProblem& p, const Tile& tile, const TileSums& sums,
                           int64_t i, int64_t j) {
  const int32_t critical = p.critical.count;
  Float16 value[kRows][kVectors];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      value[r][v] = ScaledSums(p, tile, sums, i + r, j + v * kLanes);
    }
  }
  const float* x = critical == 0 ? nullptr : p.critical.values + (tile.row + i) * critical;
  for (int32_t c = 0; c < critical; ++c) {
    Float16 weight[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      weight[v] = Load(sums.critical_weights + c * sums.ldc + j + v * kLanes);
    }
    for (int r = 0; r < kRows; ++r) {
      const Float16 feature = Broadcast(x[r * critical + c]);
      for (int v = 0; v < kVectors; ++v) value[r][v] = Fma(feature, weight[v], value[r][v]);
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kVectors; ++v) {
      const int64_t column = j + v * kLanes;
      const int64_t left = tile.columns - column;
      float* out = p.out + (tile.row + i + r) * p.n + tile.column + column;
      if (left >= kLanes) {
        Store(out, value[r][v]);
      } else {
        StorePartial(out, value[r][v], left);
      }
    }
  }
}

void StoreTile(const IntegerProblem& p, const Tile& tile, const TileSums& sums) {
  int64_t j = 0;
  for (; j + 2 * kLanes <= tile.columns; j += 2 * kLanes) {
    int64_t i = 0;
    for (; i + 4 <= tile.rows; i += 4) StoreBlock<4, 2>(p, tile, sums, i, j);
    for (; i < tile.rows; ++i) StoreBlock<1, 2>(p, tile, sums, i, j);
  }
  for (; j < tile.columns; j += kLanes) {
    for (int64_t i = 0; i < tile.rows; ++i) StoreBlock<1, 1>(p, tile, sums, i, j);
  }
}

// Plus value, piece by piece in fp32.
float LongDot(const int8_t* a, const int8_t* b, int64_t k, float value) {
  for (int64_t i = 0; i < k; i += kMaxIntegerSum) {
    value += static_cast<float>(IntegerDot(a + i, b + i, Smaller(k - i, kMaxIntegerSum)));
  }
  return value;
}

// The sum of row i of a and row j of b.
float DotValue(const IntegerProblem& p, int64_t i, int64_t j) {
  const int8_t* a = p.a + i * p.k;
  const int8_t* b = p.b + j * p.k;
  const int8_t* second = p.second == nullptr ? nullptr : p.second + i * p.k;
  if (p.k > kMaxIntegerSum) {
    const float first = second == nullptr ? 0.0f : LongDot(second, b, p.k, 0.0f) * kFirstTermUnit;
    return LongDot(a, b, p.k, first);
  }
  int32_t sum = IntegerDot(a, b, p.k);
  if (second != nullptr) sum += InFirstTermUnits(IntegerDot(second, b, p.k));
  return static_cast<float>(sum);
}

}  // namespace

void CpuEngine::IntegerDots(const IntegerProblem& p) {
  const int64_t columns = p.k < kDotBytesPerTask / kLanes ? kDotBytesPerTask / (p.k + 1) : kLanes;
  pool_.ParallelFor(Pieces(p.n, columns), [&](int64_t task, int) {
    const int64_t end = Smaller(p.n, (task + 1) * columns);
    for (int64_t j = task * columns; j < end; ++j) {
      const float column_scale = p.column_scale != nullptr ? p.column_scale[j] : 1.0f;
      for (int64_t i = 0; i < p.m; ++i) {
        const float scale = p.row_scale[i] * column_scale;
        const float value = scale * DotValue(p, i, j);
        float* out = p.out + i * p.n + j;
        *out = AddCriticalOutput(p, i, j, p.accumulate ? *out + value : value);
      }
    }
  });
}

void CpuEngine::IntegerMatmul(const IntegerProblem& p) {
  if (p.m <= 0 || p.n <= 0) return;
  if (p.b_transposed && p.m <= kDotRows) return IntegerDots(p);
  const TileGrid grid = PickTiles(p.m, p.n, pool_.threads());
  pool_.ParallelFor(TileCount(grid), [&](int64_t task, int worker) {
    const Tile tile = TileAt(grid, task);
    const int64_t ldc = RoundUp(tile.columns, kLanes);
    const int64_t cells = tile.rows * ldc;
    const bool split = p.k > kMaxIntegerSum;
    const GemmShape shape{
        tile.rows, tile.columns,  Smaller(p.k, kMaxIntegerSum), p.k, p.b_transposed ? p.k : p.n,
        ldc,       p.b_transposed};
    const size_t sum_bytes = static_cast<size_t>(cells) * sizeof(int32_t);
    const size_t critical_bytes =
        static_cast<size_t>(p.critical.count) * static_cast<size_t>(ldc) * sizeof(float);
    // Split sums of both terms are continued in one place.
    const bool two_sums = split || p.second != nullptr;
    const size_t kept_bytes = sum_bytes * (two_sums ? 2 : 1) + critical_bytes;
    char* scratch = WorkerScratch(worker, kept_bytes + IntegerPartScratch(shape));
    if (scratch == nullptr) return;
    auto* c = reinterpret_cast<int32_t*>(scratch);
    auto* critical_weights = reinterpret_cast<float*>(scratch + sum_bytes);
    char* beside = scratch + sum_bytes + critical_bytes;
    char* rest = scratch + kept_bytes;
    GatherCriticalWeights(p, tile.column, tile.columns, ldc, critical_weights);
    TileSums sums{c, nullptr, nullptr, critical_weights, ldc};
    if (split) {
      auto* partial = reinterpret_cast<float*>(beside);
      if (!MultiplyLong(worker, shape, p, tile, c, partial, rest)) return;
      sums.partial = partial;
    } else {
      if (p.second != nullptr) {
        auto* second = reinterpret_cast<int32_t*>(beside);
        if (!MultiplyPart(worker, shape, p.second + tile.row * p.k, TileOfB(p, tile), second,
                          rest)) {
          return;
        }
        sums.second = second;
      }
      if (!MultiplyPart(worker, shape, p.a + tile.row * p.k, TileOfB(p, tile), c, rest)) return;
    }
    StoreTile(p, tile, sums);
  });
}

// Sums too long for 32 bits, continued in `partial`; the last piece of a is left in c.
bool CpuEngine::MultiplyLong(int worker, const GemmShape& shape, const IntegerProblem& p,
                             const Tile& tile, int32_t* c, float* partial, char* scratch) {
  const int64_t cells = tile.rows * shape.ldc;
  std::memset(partial, 0, static_cast<size_t>(cells) * sizeof(float));
  for (const int8_t* term : {p.second, p.a}) {
    if (term == nullptr) continue;
    for (int64_t k = 0; k < p.k; k += kMaxIntegerSum) {
      GemmShape part = shape;
      part.k = Smaller(kMaxIntegerSum, p.k - k);
      const int8_t* b = TileOfB(p, tile) + k * (p.b_transposed ? 1 : p.n);
      if (!MultiplyPart(worker, part, term + tile.row * p.k + k, b, c, scratch)) return false;
      if (term != p.a || k + part.k < p.k) AddSums(c, cells, partial);
    }
    if (term == p.second) {
      for (int64_t i = 0; i < cells; ++i) partial[i] *= kFirstTermUnit;
    }
  }
  return true;
}

size_t CpuEngine::IntegerPartScratch(const GemmShape& shape) const {
  if (!integer_onednn_) return IntegerTileScratch(shape);
  return shape.b_transposed ? 0 : static_cast<size_t>(shape.k * shape.n);
}

bool CpuEngine::MultiplyPart(int worker, GemmShape shape, const int8_t* a, const int8_t* b,
                             int32_t* c, char* scratch) {
  if (!integer_onednn_) {
    MultiplyIntegerTile(shape, a, b, c, scratch);
    return true;
  }
  // oneDNN is several times slower where b has gaps between its rows.
  if (!shape.b_transposed && shape.ldb != shape.n) {
    auto* dense = reinterpret_cast<int8_t*>(scratch);
    for (int64_t k = 0; k < shape.k; ++k) {
      std::memcpy(dense + k * shape.n, b + k * shape.ldb, static_cast<size_t>(shape.n));
    }
    b = dense;
    shape.ldb = shape.n;
  }
  OneDnn* onednn = workers_[worker].onednn;
  const char* message = onednn == nullptr ? kNoOneDnn : onednn->MultiplyInteger(shape, a, b, c);
  if (message != nullptr) Fail(message);
  return message == nullptr;
}

}  // namespace qft::QFT_ISA
