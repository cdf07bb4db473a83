#include "kernels/cpu/decode_row.h"
#include "kernels/cpu/engine.h"
#include "kernels/cpu/matmul.h"

namespace qft::QFT_ISA {

namespace {

// Tiles and depth fix the order of the sums: they depend on the shape alone.
constexpr int64_t kTile = 256;
constexpr int64_t kDepth = 1024;

// The part of b that a tile needs for k in [k, k + depth), decoded to `out` with leading dimension
// ldb.
void DecodePart(const FloatProblem& p, const Tile& tile, int64_t k, int64_t depth, float* out,
                int64_t ldb) {
  const int64_t row = p.b_transposed ? tile.column : k;
  const int64_t rows = p.b_transposed ? tile.columns : depth;
  const int64_t column = p.b_transposed ? k : tile.column;
  const int64_t columns = p.b_transposed ? depth : tile.columns;
  for (int64_t r = 0; r < rows; ++r) {
    DecodeRow(RowOfWeight(*p.b_weight, row + r), column, columns, out + r * ldb);
  }
}

void AddTile(const float* c, int64_t count, float* sum) {
  for (int64_t i = 0; i < count; ++i) sum[i] += c[i];
}

void StoreTile(const FloatProblem& p, const Tile& tile, const float* sum) {
  for (int64_t i = 0; i < tile.rows; ++i) {
    float* out = p.out + (tile.row + i) * p.n + tile.column;
    const float* row = sum + i * tile.columns;
    for (int64_t j = 0; j < tile.columns; ++j) out[j] = p.accumulate ? out[j] + row[j] : row[j];
  }
}

}  // namespace

void CpuEngine::FloatMatmul(const FloatProblem& p) {
  if (p.m <= 0 || p.n <= 0) return;
  const TileGrid grid{p.m, p.n, EvenTile(p.m, kTile), EvenTile(p.n, kTile)};
  const int64_t stored_ldb = p.b_transposed ? p.k : p.n;
  pool_.ParallelFor(TileCount(grid), [&](int64_t task, int worker) {
    const Tile tile = TileAt(grid, task);
    const int64_t cells = tile.rows * tile.columns;
    const int64_t decoded = p.b_values != nullptr ? 0 : tile.columns * kDepth;
    auto* sum = reinterpret_cast<float*>(
        WorkerScratch(worker, static_cast<size_t>(2 * cells + decoded) * sizeof(float)));
    if (sum == nullptr) return;
    float* c = sum + cells;
    float* decoded_b = c + cells;
    for (int64_t k = 0; k < p.k; k += kDepth) {
      const int64_t depth = Smaller(kDepth, p.k - k);
      const float* b = decoded_b;
      int64_t ldb = p.b_transposed ? depth : tile.columns;
      if (p.b_values != nullptr) {
        b = p.b_values + (p.b_transposed ? tile.column * p.k + k : k * p.n + tile.column);
        ldb = stored_ldb;
      } else {
        DecodePart(p, tile, k, depth, decoded_b, ldb);
      }
      const GemmShape shape{tile.rows, tile.columns, depth, p.k, ldb, tile.columns, p.b_transposed};
      OneDnn* onednn = workers_[worker].onednn;
      const float* a = p.a + tile.row * p.k + k;
      const char* message =
          onednn == nullptr ? kNoOneDnn : onednn->MultiplyFloat(shape, a, b, k == 0 ? sum : c);
      if (message != nullptr) return Fail(message);
      if (k > 0) AddTile(c, cells, sum);
    }
    StoreTile(p, tile, sum);
  });
}

}  // namespace qft::QFT_ISA
