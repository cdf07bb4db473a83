// Rows that become codes: which columns are critical, and rows held in registers.
#pragma once

#include "kernels/cuda/device.cuh"

namespace qft::cuda {

inline constexpr int kMostCritical = 64;

// The critical columns of a row in shared memory.
struct CriticalColumns {
  int32_t column[kMostCritical];
  int32_t count;
};

// All threads of the block; ends with a barrier.
__device__ inline void LoadCriticalColumns(const CriticalFeatures& critical,
                                           CriticalColumns* columns) {
  if (threadIdx.x < critical.count) columns->column[threadIdx.x] = critical.columns[threadIdx.x];
  if (threadIdx.x == 0) columns->count = critical.count;
  __syncthreads();
}

// Bit i: column c + i is critical.
__device__ inline uint32_t CriticalMask(const CriticalColumns& columns, int64_t c) {
  int low = 0;
  int high = columns.count;
  while (low < high) {  // first that is not below c
    const int middle = (low + high) / 2;
    if (columns.column[middle] < c) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  uint32_t mask = 0;
  for (; low < columns.count && columns.column[low] < c + kVector; ++low) {
    mask |= 1u << (columns.column[low] - c);
  }
  return mask;
}

// Largest magnitude bits among those not masked, and not below `largest`.
__device__ inline int32_t LargestMagnitude(const float (&v)[kVector], uint32_t mask,
                                           int32_t largest) {
#pragma unroll
  for (int i = 0; i < kVector; ++i) {
    const int32_t bits = (mask >> i & 1) != 0 ? 0 : MagnitudeBits(v[i]);
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

// A row in the registers of a block's threads: vector i of a thread begins at Column(i), zeros
// behind the end. A kernel on rows takes as many blocks as fit the device; each goes through rows,
// so that what it knows of columns it finds once. kWhole promises WholeVectors of all matrices.
template <int kThreads_, int kVectors_, bool kWhole_>
struct RowLayout {
  static constexpr int kThreads = kThreads_;
  static constexpr int kVectors = kVectors_;
  static constexpr bool kWhole = kWhole_;
  static constexpr int kBlocks = 1024 / kThreads;  // at least, on a multiprocessor
  using Values = float[kVectors][kVector];

  __device__ static int64_t Column(int i) {
    return (static_cast<int64_t>(i) * kThreads + threadIdx.x) * kVector;
  }
  // Vector i.
  template <typename T>
  __device__ static void Load(const T* row, int64_t cols, int i, float (&v)[kVector]) {
    if (!kWhole || Column(i) < cols) {
      LoadVector8<kWhole>(row, Column(i), cols, v);
    } else {
#pragma unroll
      for (int j = 0; j < kVector; ++j) v[j] = 0.0f;
    }
  }
  template <typename T>
  __device__ static void Load(const T* row, int64_t cols, Values& v) {
#pragma unroll
    for (int i = 0; i < kVectors; ++i) Load(row, cols, i, v[i]);
  }
};

// A row that is on its way while another is worked on. Where there are no registers for that, in
// fp32 and for more than kMost vectors a thread, it comes when it is taken.
template <typename Layout, typename T, int kMost = 3>
class RowAhead {
 public:
  __device__ void Load(const T* row, int64_t cols) {
    row_ = row;
    cols_ = cols;
    if constexpr (kAhead) {
#pragma unroll
      for (int i = 0; i < Layout::kVectors; ++i) {
        const int64_t c = Layout::Column(i);
        words_[i] = c < cols ? *reinterpret_cast<const uint4*>(row + c) : make_uint4(0, 0, 0, 0);
      }
    }
  }
  // Vector i.
  __device__ void Take(int i, float (&v)[kVector]) const {
    if constexpr (kAhead) {
      UnpackBFloat16(words_[i], v);
    } else {
      Layout::Load(row_, cols_, i, v);
    }
  }
  __device__ void Take(typename Layout::Values& v) const {
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) Take(i, v[i]);
  }

 private:
  static constexpr bool kAhead =
      Layout::kWhole && Layout::kVectors <= kMost && std::is_same_v<T, BFloat16>;

  const T* row_ = nullptr;
  int64_t cols_ = 0;
  uint4 words_[kAhead ? Layout::kVectors : 1];
};

// Calls work(row, turn, v) for each of this block's rows of data [rows, cols].
template <typename Layout, typename T, typename Work>
__device__ void ForEachRow(const T* data, int64_t rows, int64_t cols, Work work) {
  RowAhead<Layout, T> ahead;
  int64_t row = blockIdx.x;
  if (row < rows) ahead.Load(data + row * cols, cols);
  for (int turn = 0; row < rows; ++turn) {
    typename Layout::Values v;
    ahead.Take(v);
    const int64_t next = row + gridDim.x;
    if (next < rows) ahead.Load(data + next * cols, cols);
    work(row, turn, v);
    row = next;
  }
}

inline constexpr int64_t kMostRowColumns = 1024 * 8 * kVector;
inline constexpr char kRowTooWide[] = "rows of more than 65,536 columns";

// Calls f(RowLayout) with one that holds rows of `cols`, at most kMostRowColumns.
template <typename F>
void WithRowLayout(int64_t cols, bool whole, F f) {
  if (!whole) return f(RowLayout<1024, 8, false>());
  if (cols <= 256 * kVector) return f(RowLayout<256, 1, true>());
  if (cols <= 512 * kVector) return f(RowLayout<256, 2, true>());
  if (cols <= 1024 * kVector) return f(RowLayout<512, 2, true>());
  if (cols <= 1536 * kVector) return f(RowLayout<512, 3, true>());
  if (cols <= 2048 * kVector) return f(RowLayout<512, 4, true>());
  f(RowLayout<1024, 8, true>());
}

// The blocks of a kernel on rows.
template <typename Layout>
unsigned RowBlocks(int64_t rows, int multiprocessors) {
  return static_cast<unsigned>(Smaller(rows, int64_t{2} * Layout::kBlocks * multiprocessors));
}

// Which of a thread's columns are critical.
template <typename Layout>
class CriticalVectors {
 public:
  // All threads of the block; has a barrier.
  __device__ explicit CriticalVectors(const CriticalFeatures& critical) {
    __shared__ CriticalColumns columns;
    LoadCriticalColumns(critical, &columns);
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) bits_[i] = 0;
#pragma unroll 4
    for (int j = 0; j < critical.count; ++j) {
      const int column = columns.column[j];
#pragma unroll
      for (int i = 0; i < Layout::kVectors; ++i) {
        const int64_t offset = column - Layout::Column(i);
        if (offset < 0 || offset >= kVector) continue;
        if (bits_[i] == 0) bits_[i] = static_cast<uint32_t>(j) << kVector;
        bits_[i] |= 1u << offset;
      }
    }
  }
  // Bit j: column j of vector i is critical.
  __device__ uint32_t Mask(int i) const {
    return bits_[i] & ((1u << kVector) - 1);
  }
  // The critical values of vector i, v, to where `values` [count] of the row has them.
  __device__ void Store(int i, const float (&v)[kVector], float* values) const {
    values += bits_[i] >> kVector;
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      if ((bits_[i] >> j & 1) != 0) *values++ = v[j];
    }
  }
  // v += the critical values of vector i from where `values` [count] of the row has them.
  __device__ void Add(int i, const float* values, float (&v)[kVector]) const {
    values += bits_[i] >> kVector;
#pragma unroll
    for (int j = 0; j < kVector; ++j) {
      if ((bits_[i] >> j & 1) != 0) v[j] += *values++;
    }
  }

 private:
  uint32_t bits_[Layout::kVectors];  // the mask, and above it the number of its first feature
};

// Whether each eight elements of each row can be moved as vectors.
inline bool WholeVectors(const Operand& operand) {
  if (operand.dtype == DType::kF32) {
    return WholeVectors(static_cast<const float*>(operand.data), operand.cols);
  }
  return WholeVectors(static_cast<const int8_t*>(operand.data), operand.cols) &&
         WholeVectors(operand.second, operand.cols);
}

// Writes rows of an operand, kI8 or kF32.
template <typename Layout>
class OperandRows {
 public:
  using Values = typename Layout::Values;

  __device__ explicit OperandRows(const Operand& out) : out_(out), critical_(out.critical) {}

  // All threads of the block; `turn` counts the calls.
  __device__ void Write(int64_t row, int turn, const Values& v) const {
    if (out_.dtype == DType::kF32) {
      float* values = static_cast<float*>(out_.data) + row * out_.cols;
#pragma unroll
      for (int i = 0; i < Layout::kVectors; ++i) {
        if (Layout::Column(i) < out_.cols) Store8(values, Layout::Column(i), out_.cols, v[i]);
      }
      return;
    }
    int32_t largest = 0;
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      if (critical_.Mask(i) != 0) {
        largest = LargestMagnitude(v[i], critical_.Mask(i), largest);
        continue;
      }
      float most = 0.0f;
#pragma unroll
      for (int j = 0; j < kVector; ++j) most = LargerMagnitude(most, v[i][j]);
      largest = max(largest, __float_as_int(most));
    }
    const RowScale scale = MakeRowScale(LargestInTurn(largest, turn), 127.0f);
    if (threadIdx.x == 0) out_.scales[row] = scale.scale;
#pragma unroll
    for (int i = 0; i < Layout::kVectors; ++i) {
      if (Layout::Column(i) < out_.cols) WriteVector(row, i, scale, v[i]);
    }
  }

 private:
  // Codes, and second terms where the operand has them. Critical columns get code 0 and their value
  // apart.
  __device__ void WriteVector(int64_t row, int i, const RowScale& scale,
                              const float (&v)[kVector]) const {
    const int64_t c = Layout::Column(i);
    const uint32_t mask = critical_.Mask(i);
    float scaled[kVector];
    uint32_t bits[kVector];
#pragma unroll
    for (int j = 0; j < kVector; ++j) scaled[j] = v[j] * scale.inverse;
    if (mask != 0) {
#pragma unroll
      for (int j = 0; j < kVector; ++j) scaled[j] = (mask >> j & 1) != 0 ? 0.0f : scaled[j];
    }
#pragma unroll
    for (int j = 0; j < kVector; ++j) bits[j] = __float_as_uint(scaled[j] + kIntegerFloat);
    const auto codes = [&] { return scale.zero ? make_uint2(0, 0) : LowBytes(bits); };
    StoreCodes8<Layout::kWhole>(static_cast<int8_t*>(out_.data) + row * out_.cols, c, out_.cols,
                                codes());
    if (out_.second != nullptr) {
#pragma unroll
      for (int j = 0; j < kVector; ++j) {
        const float rest = (scaled[j] - (__uint_as_float(bits[j]) - kIntegerFloat)) * 256.0f;
        bits[j] = __float_as_uint(fmaxf(fminf(rest, 127.0f), -127.0f) + kIntegerFloat);
      }
      StoreCodes8<Layout::kWhole>(out_.second + row * out_.cols, c, out_.cols, codes());
    }
    if (mask != 0) critical_.Store(i, v, out_.critical.values + row * out_.critical.count);
  }

  const Operand& out_;
  CriticalVectors<Layout> critical_;
};

}  // namespace qft::cuda
