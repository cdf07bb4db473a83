#include "kernels/cpu/engine.h"
#include "kernels/cpu/quantize_folded.h"
#include "kernels/cpu/row_tasks.h"

namespace qft::QFT_ISA {

namespace {

// Two passes over dy, both in the order of memory: the largest magnitude of each column, then
// tiles of 64 rows and 64 columns (one call's worth of random words a row) that are quantised and
// transposed.
constexpr int64_t kTile = kRandomColumns;
constexpr int64_t kTilesPerTask = 8;
constexpr int kRowsAtOnce = 4;

struct Source {
  const float* data;
  const float* fold;  // one factor a row; nullptr: ones
  int64_t rows;
  int64_t cols;
};

QFT_INLINE Float16 LoadFolded(const Source& dy, int64_t row, int64_t column) {
  const Float16 v = LoadUpTo(dy.data + row * dy.cols + column, dy.cols - column);
  return dy.fold == nullptr ? v : v * Broadcast(dy.fold[row]);
}

// largest[c] is raised to the bits of the largest magnitude in rows [row, row + kCount).
template <int kCount>
QFT_INLINE void RaiseLargest(const Source& dy, int64_t row, int32_t* largest) {
  for (int64_t c = 0; c < dy.cols; c += kLanes) {
    Int16 v = LoadInt(largest + c);
    for (int i = 0; i < kCount; ++i) v = MaxInt(Bits(Abs(LoadFolded(dy, row + i, c))), v);
    StoreInt(largest + c, v);
  }
}

void RaiseLargestOfRows(const Source& dy, int64_t begin, int64_t end, int32_t* largest) {
  int64_t row = begin;
  for (; row + kRowsAtOnce <= end; row += kRowsAtOnce) {
    RaiseLargest<kRowsAtOnce>(dy, row, largest);
  }
  for (; row < end; ++row) RaiseLargest<1>(dy, row, largest);
}

// One row of a tile as kTile codes. A column whose scale is zero or NaN has inverse 0: codes 0
// whatever the product is.
QFT_INLINE void QuantizeTileRow(const Source& dy, int64_t row, int64_t column,
                                const float* inverses, Rounding rounding, const uint32_t* words,
                                int8_t* codes) {
  for (int64_t i = 0; i < kTile && column + i < dy.cols; i += kLanes) {
    const Float16 inverse = LoadUpTo(inverses + column + i, dy.cols - column - i);
    const Float16 scaled = LoadFolded(dy, row, column + i) * inverse;
    const Float16 x = FromBits(Bits(scaled) & Less(Broadcast(0.0f), inverse));
    const Int16 rounded = rounding == Rounding::kNearest
                              ? RoundToInt(x)
                              : RoundStochastic16(x, LoadHalves(words, static_cast<int>(i)));
    StoreCodes(codes + i, rounded);
  }
}

// out[c][r] = in[r][c] for 16 x 16 bytes.
QFT_INLINE void Transpose16(const int8_t* in, int64_t in_stride, int8_t* out, int64_t out_stride) {
  Byte16 rows[16];
  for (int i = 0; i < 16; ++i) std::memcpy(&rows[i], in + i * in_stride, 16);
  // Four perfect shuffles of the sixteen rows: after each, neighbours hold interleaved bytes.
  for (int stage = 0; stage < 4; ++stage) {
    Byte16 next[16];
    for (int i = 0; i < 8; ++i) {
      next[2 * i] = __builtin_shufflevector(rows[i], rows[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20,
                                            5, 21, 6, 22, 7, 23);
      next[2 * i + 1] = __builtin_shufflevector(rows[i], rows[i + 8], 8, 24, 9, 25, 10, 26, 11, 27,
                                                12, 28, 13, 29, 14, 30, 15, 31);
    }
    for (int i = 0; i < 16; ++i) rows[i] = next[i];
  }
  for (int i = 0; i < 16; ++i) std::memcpy(out + i * out_stride, &rows[i], 16);
}

// out [`cols` columns][`count` rows] from codes [kTile rows][kTile columns].
void StoreTransposed(const int8_t* codes, int64_t count, int64_t cols, int8_t* out,
                     int64_t out_stride) {
  for (int64_t r = 0; r < count; r += kLanes) {
    for (int64_t c = 0; c < cols; c += kLanes) {
      const int8_t* in = codes + r * kTile + c;
      if (r + kLanes <= count && c + kLanes <= cols) {
        Transpose16(in, kTile, out + c * out_stride + r, out_stride);
        continue;
      }
      int8_t block[kLanes * kLanes];
      Transpose16(in, kTile, block, kLanes);
      const int64_t rows_here = count - r < kLanes ? count - r : kLanes;
      for (int64_t i = 0; i < kLanes && c + i < cols; ++i) {
        std::memcpy(out + (c + i) * out_stride + r, block + i * kLanes,
                    static_cast<size_t>(rows_here));
      }
    }
  }
}

struct Random {
  RandomKeys keys;
  int64_t first_block;
  int64_t blocks_per_row;
};

void QuantizeTile(const Source& dy, int64_t row, int64_t column, const float* inverses,
                  Rounding rounding, const Random& random, int8_t* out) {
  alignas(64) int8_t codes[kTile * kTile];
  const int64_t count = dy.rows - row < kTile ? dy.rows - row : kTile;
  const int64_t cols = dy.cols - column < kTile ? dy.cols - column : kTile;
  alignas(64) uint32_t words[kRandomWords] = {};
  for (int64_t r = 0; r < count; ++r) {
    if (rounding == Rounding::kStochastic) {
      const int64_t block = random.first_block + (row + r) * random.blocks_per_row + column / 8;
      RandomWords(random.keys, static_cast<uint64_t>(block), words);
    }
    QuantizeTileRow(dy, row + r, column, inverses, rounding, words, codes + r * kTile);
  }
  StoreTransposed(codes, count, cols, out + column * dy.rows + row, dy.rows);
}

void CopyTile(const Source& dy, int64_t row, int64_t column, float* out) {
  for (int64_t c = column; c < dy.cols && c < column + kTile; ++c) {
    for (int64_t r = row; r < dy.rows && r < row + kTile; ++r) {
      out[c * dy.rows + r] =
          dy.fold == nullptr ? dy.data[r * dy.cols + c] : dy.data[r * dy.cols + c] * dy.fold[r];
    }
  }
}

}  // namespace

// The largest magnitudes are gathered by each worker for itself: their maximum does not depend on
// who took which rows. Returns 1/scale of each column in worker 0's scratch, nullptr on failure.
float* CpuEngine::ColumnInverses(const Matrix& dy, const float* fold, float* scales) {
  const Source source{static_cast<const float*>(dy.data), fold, dy.rows, dy.cols};
  const size_t bytes = static_cast<size_t>(dy.cols + kLanes) * sizeof(int32_t);
  for (int worker = 0; worker < pool_.threads(); ++worker) {
    char* scratch = WorkerScratch(worker, bytes);
    if (scratch == nullptr) return nullptr;
    std::memset(scratch, 0, bytes);
  }
  const RowTasks tasks(dy.rows, dy.cols);
  pool_.ParallelFor(tasks.count, [&](int64_t task, int worker) {
    RaiseLargestOfRows(source, tasks.Begin(task), tasks.End(task),
                       reinterpret_cast<int32_t*>(WorkerScratch(worker, bytes)));
  });
  auto* inverses = reinterpret_cast<float*>(WorkerScratch(0, bytes));
  for (int64_t c = 0; c < dy.cols; ++c) {
    int32_t largest = 0;
    for (int worker = 0; worker < pool_.threads(); ++worker) {
      int32_t bits;
      std::memcpy(&bits, WorkerScratch(worker, bytes) + c * sizeof(bits), sizeof(bits));
      largest = bits > largest ? bits : largest;
    }
    const RowScale grid = MakeRowScale(largest, 127.0f);
    scales[c] = grid.scale;
    inverses[c] = grid.zero ? 0.0f : grid.inverse;
  }
  return inverses;
}

void CpuEngine::QuantizeOutputGradientTransposed(const Matrix& dy, const float* fold,
                                                 Rounding rounding, const RandomStream& random,
                                                 const StepState* step, const Operand& out) {
  if (!SupportsDType(out.dtype)) return;
  const bool codes = out.dtype == DType::kI8;
  const float* inverses = codes ? ColumnInverses(dy, fold, out.scales) : nullptr;
  if (codes && inverses == nullptr) return;
  const Source source{static_cast<const float*>(dy.data), fold, dy.rows, dy.cols};
  const int64_t blocks_per_row = RandomBlocksPerRow(dy.cols);
  const Random bits{MakeRandomKeys(random.key, step != nullptr ? step->step : 0),
                    random.row_offset * blocks_per_row, blocks_per_row};
  const int64_t task_cols = kTile * kTilesPerTask;
  const int64_t across = (dy.cols + task_cols - 1) / task_cols;
  const int64_t down = (dy.rows + kTile - 1) / kTile;
  pool_.ParallelFor(across * down, [&](int64_t task, int) {
    const int64_t row = task / across * kTile;
    const int64_t begin = task % across * task_cols;
    for (int64_t c = begin; c < dy.cols && c < begin + task_cols; c += kTile) {
      if (codes) {
        QuantizeTile(source, row, c, inverses, rounding, bits, static_cast<int8_t*>(out.data));
      } else {
        CopyTile(source, row, c, static_cast<float*>(out.data));
      }
    }
  });
}

}  // namespace qft::QFT_ISA
