#include "kernels/cuda/gradient_operand.cuh"

#include "kernels/cuda/device.cuh"

namespace qft::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 4;  // a multiprocessor at least, to have enough copies under way
constexpr int kWarps = kThreads / 32;
constexpr int kTile = 128;
constexpr int kStride = kTile + 4;  // bytes; spreads a column's words over the banks

constexpr int kBatch = 8;  // factors of a thread on their way at once

// The factors of rows first, first + kThreads .. of a feature, zeros from `end` on. No branch
// stands between the loads.
__device__ void LoadFactors(const GradientOperand& operand, int feature, int64_t first, int64_t end,
                            float (&factors)[kBatch]) {
  float divisors[kBatch];
#pragma unroll
  for (int j = 0; j < kBatch; ++j) {
    const int64_t i = Smaller(first + j * kThreads, operand.length - 1);
    divisors[j] = operand.divisors[i];
    factors[j] = operand.critical.values[i * operand.critical.count + feature];
  }
#pragma unroll
  for (int j = 0; j < kBatch; ++j) {
    const bool none = divisors[j] == 0.0f || first + j * kThreads >= end;
    factors[j] = none ? 0.0f : factors[j] * __fdiv_rn(1.0f, divisors[j]);
  }
}

// The terms of one factor, kFactorTerms codes a stride apart.
__device__ void StoreTerms(float factor, const RowScale& scale, int64_t stride, int8_t* codes) {
  float rest = scale.zero ? 0.0f : factor * scale.inverse;
#pragma unroll
  for (int term = 0; term < kFactorTerms; ++term) {
    const int code = RoundToInt(rest);
    codes[term * stride] = static_cast<int8_t>(code);
    rest = (rest - static_cast<float>(code)) * kFactorTermSteps;
  }
}

// Row `row` of the factors, a feature or padding. Reads them twice, the second time from cache. A
// block.
__device__ void MakeFactors(const GradientOperand& operand, int64_t row, const Factors& out) {
  const bool padding = row >= operand.critical.count;
  const int feature = padding ? 0 : static_cast<int>(row);
  const int64_t end = padding ? 0 : operand.length;
  float factors[kBatch];
  float largest = 0.0f;
  for (int64_t i = threadIdx.x; i < end; i += kBatch * kThreads) {
    LoadFactors(operand, feature, i, end, factors);
#pragma unroll
    for (int j = 0; j < kBatch; ++j) largest = LargerMagnitude(largest, factors[j]);
  }
  const RowScale scale = MakeRowScale(LargestOfBlock(__float_as_int(largest)), 127.0f);
  if (threadIdx.x == 0) out.scales[row] = scale.scale;
  int8_t* codes = out.codes + row * kFactorTerms * out.stride;
  for (int64_t i = threadIdx.x; i < out.stride; i += kBatch * kThreads) {
    LoadFactors(operand, feature, i, end, factors);
#pragma unroll
    for (int j = 0; j < kBatch; ++j) {
      const int64_t at = i + j * kThreads;
      if (at < out.stride) StoreTerms(factors[j], scale, out.stride, codes + at);
    }
  }
}

__device__ uint32_t LoadWord(const int8_t* row, int64_t c, int64_t cols) {
  const int8_t* p = row + c;
  if (c + 4 <= cols && reinterpret_cast<uintptr_t>(p) % 4 == 0) {
    return *reinterpret_cast<const uint32_t*>(p);
  }
  uint32_t word = 0;
  for (int i = 0; i < 4 && c + i < cols; ++i) word |= (p[i] & 0xffu) << (8 * i);
  return word;
}

// A tile of kTile x kTile to out [cols, rows]. A block.
__device__ void TransposeTile(const GradientOperand& in, int64_t first_row, int64_t first_col,
                              int8_t* out) {
  __shared__ uint32_t tile[kTile * kStride / 4];
  const int64_t rows = in.length;
  const int word = threadIdx.x % 32;
  for (int quad = threadIdx.x / 32; quad < kTile / 4; quad += kWarps) {
    const int64_t c = first_col + 4 * word;
    uint32_t w[4] = {};
    for (int i = 0; i < 4; ++i) {
      const int64_t r = first_row + 4 * quad + i;
      if (r < rows && c < in.cols) w[i] = LoadWord(in.codes + r * in.cols, c, in.cols);
    }
    Transpose4(w);
    for (int i = 0; i < 4; ++i) tile[(4 * word + i) * (kStride / 4) + quad] = w[i];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kTile * kTile / 16; i += kThreads) {
    const int64_t c = first_col + i / (kTile / 16);
    const int64_t r = first_row + i % (kTile / 16) * 16;
    if (c >= in.cols || r >= rows) continue;
    const uint32_t* from = tile + i / (kTile / 16) * (kStride / 4) + i % (kTile / 16) * 4;
    int8_t* to = out + c * rows + r;
    if (r + 16 <= rows && reinterpret_cast<uintptr_t>(to) % 16 == 0) {
      *reinterpret_cast<uint4*>(to) = make_uint4(from[0], from[1], from[2], from[3]);
      continue;
    }
    for (int j = 0; j < 16 && r + j < rows; ++j) {
      to[j] = static_cast<int8_t>(from[j / 4] >> (8 * (j % 4)));
    }
  }
}

// The first blocks a feature of factors each, which take few processors long; the others, beside
// them, a tile each.
__global__ void __launch_bounds__(kThreads, kBlocks)
    PrepareKernel(GradientOperand operand, PreparedOperand out) {
  const auto block = static_cast<int64_t>(blockIdx.x);
  if (block < out.factors.features) {
    MakeFactors(operand, block, out.factors);
    return;
  }
  const int64_t columns = CeilDivide(operand.cols, kTile);
  const int64_t tile = block - out.factors.features;
  TransposeTile(operand, tile / columns * kTile, tile % columns * kTile, out.transposed);
}

PreparedLayout LayoutOf(const GradientOperand& operand) {
  return LayoutOfPrepared(operand.length, operand.cols, operand.critical.count);
}

}  // namespace

size_t PreparedBytes(const GradientOperand& operand) {
  return LayoutOf(operand).Bytes();
}

PreparedOperand PreparedAt(const GradientOperand& operand, void* memory) {
  const PreparedLayout layout = LayoutOf(operand);
  PreparedOperand prepared;
  prepared.transposed = static_cast<int8_t*>(memory);
  prepared.factors.codes = prepared.transposed + layout.transposed_bytes;
  prepared.factors.scales = reinterpret_cast<float*>(prepared.factors.codes + layout.CodeBytes());
  prepared.factors.stride = layout.stride;
  prepared.factors.features = layout.features;
  return prepared;
}

void LaunchPrepare(const GradientOperand& operand, void* memory, cudaStream_t stream) {
  const PreparedOperand out = PreparedAt(operand, memory);
  const int64_t tiles = CeilDivide(operand.length, kTile) * CeilDivide(operand.cols, kTile);
  PrepareKernel<<<static_cast<unsigned>(out.factors.features + tiles), kThreads, 0, stream>>>(
      operand, out);
}

}  // namespace qft::cuda
