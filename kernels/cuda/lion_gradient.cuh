// Where updates of codes take a row's gradient from: the gradient stack, or values that become
// codes on their way.
#pragma once

#include "kernels/cuda/lion.cuh"
#include "kernels/cuda/quantize_gradient.cuh"

namespace qft::cuda {

struct StackGradient {
  static constexpr bool kEncodes = false;
  Gradient gradient;
};

// Values [rows, cols] without critical features: those are zeros.
template <typename T>
struct ValueGradient {
  static constexpr bool kEncodes = true;
  const T* values;
  GradientRandom random;
  double* square_sums;  // [rows]: of the critical features, to which those of codes are added
};

// Row r of a gradient. encoded [cols]: room for its codes. All threads of the block.
__device__ inline GradientRow BringRow(const Lion& lion, const StackGradient& from, int64_t cols,
                                       int64_t r, int8_t* /*encoded*/) {
  const Gradient& gradient = from.gradient;
  if (gradient.dtype == DType::kI8) {
    return {static_cast<const int8_t*>(gradient.data) + r * cols, nullptr,
            lion.gradient_factor * gradient.grid[r]};
  }
  return {nullptr, static_cast<const float*>(gradient.data) + r * cols, lion.gradient_factor};
}

// Has barriers, the last behind the codes.
template <typename T>
__device__ inline GradientRow BringRow(const Lion& lion, const ValueGradient<T>& from, int64_t cols,
                                       int64_t r, int8_t* encoded) {
  constexpr int kColumns = kLionThreads * kVector;
  const T* values = from.values + r * cols;
  const RandomRows random_rows(from.random.keys, cols, from.random.step);
  const RandomRow random = random_rows.Row(from.random.keys, from.random.row_offset + r);
  float v[kVector];
  int32_t largest = 0;
  for (int64_t c = threadIdx.x * kVector; c < cols; c += kColumns) {
    Load8(values, c, cols, v);
    largest = LargestMagnitude(v, 0, largest);
  }
  const RowScale scale = MakeRowScale(BlockReduce(largest, MaxOfValues()), 127.0f);
  int squares = 0;
  for (int64_t c = threadIdx.x * kVector; c < cols; c += kColumns) {
    Load8(values, c, cols, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) v[i] = v[i] * scale.inverse;  // 0 where the scale is
    const uint2 codes = PackCodes8<true>(v, random_rows.At(from.random.keys, random, c));
    squares = SquareSum8(codes, squares);
    StoreCodes8(encoded, c, cols, codes);
  }
  const auto sum = BlockReduce(static_cast<int64_t>(squares), AddValues());
  if (threadIdx.x == 0) {
    from.square_sums[r] = RowSquareSum(scale.scale, sum, from.square_sums[r]);
  }
  return {encoded, nullptr, lion.gradient_factor * scale.scale};
}

// Bits of the largest magnitude among this thread's columns, in whole vectors.
__device__ inline int32_t LargestOfThread(const float* row, int cols) {
  float largest = 0.0f;
  for (int c = static_cast<int>(threadIdx.x) * kVector; c < cols; c += kLionThreads * kVector) {
    float v[kVector];
    LoadVector8<true>(row, c, cols, v);
#pragma unroll
    for (int i = 0; i < kVector; ++i) largest = LargerMagnitude(largest, v[i]);
  }
  return __float_as_int(largest);
}
__device__ inline int32_t LargestOfThread(const BFloat16* row, int cols) {
  __nv_bfloat162 largest = __float2bfloat162_rn(0.0f);
#pragma unroll 4
  for (int c = static_cast<int>(threadIdx.x) * kVector; c < cols; c += kLionThreads * kVector) {
    const uint4 words = *reinterpret_cast<const uint4*>(row + c);
    const uint32_t w[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      largest = __hmax2_nan(largest, __habs2(reinterpret_cast<const __nv_bfloat162&>(w[i])));
    }
  }
  return __float_as_int(__low2float(__hmax2_nan(largest, __lowhigh2highlow(largest))));
}

// Eight values, zeros where `wanted` is false.
__device__ inline void LoadIf(bool wanted, const BFloat16* p, float (&v)[kVector]) {
  UnpackBFloat16(wanted ? *reinterpret_cast<const uint4*>(p) : make_uint4(0, 0, 0, 0), v);
}
__device__ inline void LoadIf(bool wanted, const float* p, float (&v)[kVector]) {
  const float4* four = reinterpret_cast<const float4*>(p);
  const float4 low = wanted ? four[0] : make_float4(0, 0, 0, 0);
  const float4 high = wanted ? four[1] : make_float4(0, 0, 0, 0);
  v[0] = low.x, v[1] = low.y, v[2] = low.z, v[3] = low.w;
  v[4] = high.x, v[5] = high.y, v[6] = high.z, v[7] = high.w;
}

// A steady row's gradient as codes, 16 columns of this thread at a time. Ahead: what is loaded
// while other columns are worked on.
template <typename Source>
class SteadyGradient;

template <>
class SteadyGradient<StackGradient> {
 public:
  using Ahead = uint4;

  __device__ SteadyGradient(const StackGradient& from, int cols, int r)
      : grid_(from.gradient.grid[r]),
        codes_(static_cast<const int8_t*>(from.gradient.data) + int64_t{r} * cols) {}
  __device__ bool usable() const { return true; }
  __device__ float grid() const { return grid_; }
  __device__ Ahead Load(int c, bool inside) const {
    return inside ? *reinterpret_cast<const uint4*>(codes_ + c) : make_uint4(0, 0, 0, 0);
  }
  __device__ uint4 Take(const StackGradient& /*from*/, const Ahead& ahead, int /*c*/,
                        bool /*inside*/) {
    return ahead;
  }
  __device__ void BeforeBarrier() const {}
  __device__ void BehindBarrier(const StackGradient& /*from*/, int /*r*/) const {}

 private:
  float grid_;
  const int8_t* codes_;
};

template <typename T>
class SteadyGradient<ValueGradient<T>> {
 public:
  // Values wait in a cache since the row's largest was looked for.
  struct Ahead {};

  // All threads of the block; has a barrier, and wants one before the next row.
  __device__ SteadyGradient(const ValueGradient<T>& from, int cols, int r)
      : values_(from.values + int64_t{r} * cols) {
    const int32_t largest = LargestOfBlock<kWarps>(LargestOfThread(values_, cols));
    const RowScale scale = MakeRowScale(largest, 127.0f);
    grid_ = scale.scale;
    factor_ = scale.inverse * 65536.0f;
    const auto first = static_cast<uint64_t>((from.random.row_offset + r) * (cols / kVector));
    block_ = static_cast<uint32_t>(first);
    random_ = MakePhiloxRow(from.random.keys, 0, from.random.step->step);
    // So that the factor is finite, and all blocks of random numbers have the same high word.
    usable_ = scale.inverse <= 0x1p100f && first + cols / kVector <= 0xffffffffu;
  }
  __device__ bool usable() const { return usable_; }
  __device__ float grid() const { return grid_; }
  __device__ Ahead Load(int /*c*/, bool /*inside*/) const { return {}; }
  __device__ uint4 Take(const ValueGradient<T>& from, const Ahead& /*ahead*/, int c, bool inside) {
    uint2 codes[kWide / kVector];
#pragma unroll
    for (int k = 0; k < kWide / kVector; ++k) {
      const int at = c + k * kVector;
      float v[kVector];
      LoadIf(inside, values_ + at, v);
#pragma unroll
      for (int i = 0; i < kVector; ++i) v[i] = v[i] * factor_;
      const uint32_t block = block_ + static_cast<uint32_t>(at) / kVector;
      codes[k] = PackStochastic8(v, PhiloxOf(from.random.keys, random_, block));
      squares_ = SquareSum8(codes[k], squares_);
    }
    return make_uint4(codes[0].x, codes[0].y, codes[1].x, codes[1].y);
  }
  // Both by all threads, around a barrier behind the row's last columns.
  __device__ void BeforeBarrier() const {
    const int sum = __reduce_add_sync(kFullWarp, squares_);
    if (threadIdx.x % 32 == 0) Partials()[threadIdx.x / 32] = sum;
  }
  __device__ void BehindBarrier(const ValueGradient<T>& from, int r) const {
    if (threadIdx.x != 0) return;
    int64_t sum = 0;
    for (int i = 0; i < kWarps; ++i) sum += Partials()[i];
    from.square_sums[r] = RowSquareSum(grid_, sum, from.square_sums[r]);
  }

 private:
  static constexpr int kWarps = kLionThreads / 32;

  // The next row's come behind the barrier that finds its largest.
  __device__ static int* Partials() {
    __shared__ int partials[kWarps];
    return partials;
  }

  const T* values_;
  float grid_;
  float factor_;    // from values to 65536ths of codes
  uint32_t block_;  // of random numbers, the row's first
  PhiloxRow random_;
  bool usable_;
  int squares_ = 0;
};

}  // namespace qft::cuda
