// The hardware as the attention kernels use it: shared memory, asynchronous copies, matrix
// fragments and the tensor core product of sm_80 and later, and launching.
#pragma once

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

namespace qft::cuda {

inline constexpr int kSharedAlignment = 256;
// What every processor from sm_80 on gives a block.
inline constexpr int kMaxShared = 99 * 1024;

// The block's dynamic shared memory.
__device__ inline uint4* SharedMemory() {
  extern __shared__ __align__(kSharedAlignment) uint4 attention_shared[];
  return attention_shared;
}

__device__ inline uint32_t SharedAddress(const void* data) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(data));
}

// 16 bytes from global to shared memory, both aligned to 16; zeros where not `valid`, and nothing
// is read then.
__device__ inline void CopyAsync16(uint32_t to, const void* from, bool valid) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

// The same for 4 bytes.
__device__ inline void CopyAsync4(uint32_t to, const void* from, bool valid) {
  const int bytes = valid ? 4 : 0;
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(to), "l"(from), "r"(bytes)
               : "memory");
}

__device__ inline void CommitCopies() {
  asm volatile("cp.async.commit_group;\n" ::: "memory");
}

// Waits for all of this thread's committed copies; a barrier makes them visible to the block.
__device__ inline void WaitForCopies() {
  asm volatile("cp.async.wait_group 0;\n" ::: "memory");
}

// Four 8 x 8 matrices of 16 bits: lanes 8i .. 8i + 7 give the addresses of matrix i's rows. Lane l
// gets elements 2 (l % 4) and the next of row l / 4 of each.
__device__ inline void LoadMatrices(uint32_t address, uint32_t (&m)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(address)
               : "memory");
}

// The same of the transposed matrices.
__device__ inline void LoadMatricesTransposed(uint32_t address, uint32_t (&m)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(address)
               : "memory");
}

// c [16, 8] += a [16, 16] * b [16, 8], bf16 in, fp32 out, spread over the warp: with g = lane / 4
// and t = 2 * (lane % 4), and the columns t and t + 1 in one register,
//   a  (g, t), (g + 8, t), (g, t + 8), (g + 8, t + 8)
//   b  rows t and t + 1, then t + 8 and t + 9, of column g
//   c  (g, t), (g, t + 1), (g + 8, t), (g + 8, t + 1)
__device__ inline void MultiplyAdd(const uint32_t (&a)[4], uint32_t b0, uint32_t b1,
                                   float (&c)[4]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 2^x to about 2 ulp, denormal results as 0.
__device__ inline float Exp2Fast(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

// Launches with `shared` bytes of dynamic shared memory, at most kMaxShared, and allows every
// launch as much, so that launches with less do not get in each other's way. Returns the error of
// the latter; the launch's own stays for cudaPeekAtLastError.
template <typename... Parameters>
cudaError_t LaunchKernel(void (*kernel)(Parameters...), dim3 grid, int threads, size_t shared,
                         cudaStream_t stream, Parameters... parameters) {
  const cudaError_t error =
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kMaxShared);
  if (error != cudaSuccess) return error;
  kernel<<<grid, threads, shared, stream>>>(parameters...);
  return cudaSuccess;
}

}  // namespace qft::cuda
