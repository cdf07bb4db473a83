#include "kernels/cuda/device.cuh"
#include "kernels/cuda/transpose.cuh"

namespace qft::cuda {
namespace {

constexpr int kTile = 128;
constexpr int kStride = kTile + 4;  // bytes; spreads a column's words over the banks

__device__ uint32_t LoadWord(const int8_t* row, int64_t c, int64_t cols) {
  const int8_t* p = row + c;
  if (c + 4 <= cols && reinterpret_cast<uintptr_t>(p) % 4 == 0) {
    return *reinterpret_cast<const uint32_t*>(p);
  }
  uint32_t word = 0;
  for (int i = 0; i < 4 && c + i < cols; ++i) word |= (p[i] & 0xffu) << (8 * i);
  return word;
}

// in [rows, cols] -> out [cols, rows], a block a tile of kTile x kTile.
__global__ void __launch_bounds__(256)
    TransposeKernel(const int8_t* in, int64_t rows, int64_t cols, int8_t* out) {
  __shared__ uint32_t tile[kTile * kStride / 4];
  const int64_t first_row = int64_t{blockIdx.y} * kTile;
  const int64_t first_col = int64_t{blockIdx.x} * kTile;
  const int word = threadIdx.x % 32;
  for (int quad = threadIdx.x / 32; quad < kTile / 4; quad += 8) {
    const int64_t c = first_col + 4 * word;
    uint32_t w[4] = {};
    for (int i = 0; i < 4; ++i) {
      const int64_t r = first_row + 4 * quad + i;
      if (r < rows && c < cols) w[i] = LoadWord(in + r * cols, c, cols);
    }
    Transpose4(w);
    for (int i = 0; i < 4; ++i) tile[(4 * word + i) * (kStride / 4) + quad] = w[i];
  }
  __syncthreads();
  for (int i = threadIdx.x; i < kTile * kTile / 16; i += 256) {
    const int64_t c = first_col + i / (kTile / 16);
    const int64_t r = first_row + i % (kTile / 16) * 16;
    if (c >= cols || r >= rows) continue;
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

}  // namespace

void LaunchTranspose(const int8_t* in, int64_t rows, int64_t cols, int8_t* out,
                     cudaStream_t stream) {
  const dim3 tiles(static_cast<unsigned>(CeilDivide(cols, kTile)),
                   static_cast<unsigned>(CeilDivide(rows, kTile)));
  TransposeKernel<<<tiles, 256, 0, stream>>>(in, rows, cols, out);
}

}  // namespace qft::cuda
