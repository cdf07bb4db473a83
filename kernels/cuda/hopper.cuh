// Hopper's instructions as functions: mbarriers, the bulk tensor copy engine (TMA), wgmma. Compiled
// for sm_90a alone. Addresses are those of the shared window (SharedAddress).
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace qft::cuda {

// --- mbarriers and clusters --------------------------------------------------------------------

__device__ __forceinline__ void InitBarrier(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;\n" ::"r"(barrier), "r"(arrivals)
               : "memory");
}
// Behind InitBarrier, before the cluster's threads meet.
__device__ __forceinline__ void PublishBarriers() {
  asm volatile("fence.mbarrier_init.release.cluster;\n" ::: "memory");
}
// Returns when the phase of this parity is over; of a fresh barrier, that of parity 1 is.
__device__ __forceinline__ void WaitBarrier(uint32_t barrier, uint32_t parity) {
  uint32_t done = 0;
  while (done == 0) {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.u32 %0, 1, 0, p;\n}\n"
        : "=r"(done)
        : "r"(barrier), "r"(parity)
        : "memory");
  }
}
// Arrives, and lets the phase wait for `bytes` from copies too.
__device__ __forceinline__ void ArriveExpecting(uint32_t barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;\n" ::"r"(barrier), "r"(bytes)
               : "memory");
}
// Arrives at the barrier that block `rank` of the cluster has at this address.
__device__ __forceinline__ void ArriveAt(uint32_t barrier, uint32_t rank) {
  asm volatile(
      "{\n.reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n}\n" ::"r"(barrier),
      "r"(rank)
      : "memory");
}
// Arrives at a barrier of this block.
__device__ __forceinline__ void Arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];\n" ::"r"(barrier) : "memory");
}
__device__ __forceinline__ uint32_t ClusterRank() {
  uint32_t rank;
  asm volatile("mov.u32 %0, %%cluster_ctarank;\n" : "=r"(rank));
  return rank;
}
// Where all threads of the cluster meet.
__device__ __forceinline__ void SyncCluster() {
  asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;\n" ::: "memory");
}
// Where the 128 threads of a warpgroup meet. `id` from 1 on.
__device__ __forceinline__ void SyncWarpgroup(int id) {
  asm volatile("bar.sync %0, 128;\n" ::"r"(id) : "memory");
}

// Barrier `id` is over when it has been met `threads` times, of which those of MeetWithoutWaiting
// do not wait for it.
__device__ __forceinline__ void Meet(int id, int threads) {
  asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}
__device__ __forceinline__ void MeetWithoutWaiting(int id, int threads) {
  asm volatile("bar.arrive %0, %1;\n" ::"r"(id), "r"(threads) : "memory");
}

template <int kRegisters>
__device__ __forceinline__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void GiveRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;\n" ::"n"(kRegisters));
}

// --- copies ------------------------------------------------------------------------------------

// The map's box at column x, row y to `destination`; its bytes count for `barrier`.
__device__ __forceinline__ void LoadBox(const CUtensorMap& map, int x, int y, uint32_t destination,
                                        uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%3, %4}], [%2];\n" ::"r"(destination),
      "l"(&map), "r"(barrier), "r"(x), "r"(y)
      : "memory");
}
// The same for each block of the cluster whose bit `blocks` has, at the same addresses.
__device__ __forceinline__ void LoadBoxForAll(const CUtensorMap& map, int x, int y,
                                              uint32_t destination, uint32_t barrier,
                                              uint16_t blocks) {
  asm volatile(
      "cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
      ".multicast::cluster [%0], [%1, {%4, %5}], [%2], %3;\n" ::"r"(destination),
      "l"(&map), "r"(barrier), "h"(blocks), "r"(x), "r"(y)
      : "memory");
}
// What this thread wrote to shared memory becomes visible to the copy engine.
__device__ __forceinline__ void PublishToCopies() {
  asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}
__device__ __forceinline__ void StoreBox(const CUtensorMap& map, int x, int y, uint32_t source) {
  asm volatile(
      "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];\n" ::"l"(&map),
      "r"(source), "r"(x), "r"(y)
      : "memory");
}
// out = fl(out + source), in the type of the map.
__device__ __forceinline__ void AddBox(const CUtensorMap& map, int x, int y, uint32_t source) {
  asm volatile(
      "cp.reduce.async.bulk.tensor.2d.global.shared::cta.add.bulk_group [%0, {%2, %3}], [%1];\n" ::
          "l"(&map),
      "r"(source), "r"(x), "r"(y)
      : "memory");
}
__device__ __forceinline__ void CommitStores() {
  asm volatile("cp.async.bulk.commit_group;\n" ::: "memory");
}
// Until all but the last kPending groups of this thread's stores have read their shared memory.
template <int kPending>
__device__ __forceinline__ void WaitForStores() {
  asm volatile("cp.async.bulk.wait_group.read %0;\n" ::"n"(kPending) : "memory");
}
// Four 8 x 8 matrices of 16-bit elements, one row address a lane.
__device__ __forceinline__ void StoreMatrices(uint32_t address, const uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};\n" ::"r"(address),
               "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}
__device__ __forceinline__ void StorePair(uint32_t address, int x, int y) {
  asm volatile("st.shared.v2.b32 [%0], {%1, %2};\n" ::"r"(address), "r"(x), "r"(y) : "memory");
}

// --- wgmma -------------------------------------------------------------------------------------

// Rows of 128 bytes of k from a 1,024-byte aligned address on, as TMA's 128-byte swizzle leaves
// them: groups of 8 rows are 1,024 bytes apart. 32 bytes further in k are 2 more.
__device__ __forceinline__ uint64_t MatrixDescriptor(uint32_t address) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  constexpr uint64_t kGroupStride = uint64_t{1024 >> 4} << 32;
  constexpr uint64_t kLeadingUnused = uint64_t{1} << 16;
  return kSwizzle128 | kGroupStride | kLeadingUnused | ((address & 0x3ffff) >> 4);
}

// The same lines where they run across the sum: line k holds 64 columns of b [k, columns] in bf16,
// and the next 64 columns are `box_bytes` behind. An "MN-major" operand, in the terms of the PTX
// ISA (matrix descriptor, canonical layouts) of 128-byte swizzle: units of 8 x 8 chunks of 16
// bytes, where the first 8 runs along the 64 columns of a line and the second along 8 lines 128
// bytes apart. The leading dimension offset is from one unit's columns to the next ones (64
// further), the stride dimension offset from 8 lines to the next 8, so a bf16 product, 16 of the
// sum, reads two units along k. In CuTe's notation, chunks: ((8, n), (8, 2)) : ((1, leading), (8,
// stride)). 16 further lines are 2,048 bytes.
__device__ __forceinline__ uint64_t TransposedDescriptor(uint32_t address, uint32_t box_bytes) {
  constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;
  constexpr uint64_t kGroupStride = uint64_t{1024 >> 4} << 32;
  const uint64_t leading = uint64_t{box_bytes >> 4} << 16;
  return kSwizzle128 | kGroupStride | leading | ((address & 0x3ffff) >> 4);
}

// Before the first product of a batch, and where registers it adds to were touched.
__device__ __forceinline__ void BeginProducts() {
  asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
__device__ __forceinline__ void CommitProducts() {
  asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
template <int kPending>
__device__ __forceinline__ void WaitForProducts() {
  asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(kPending) : "memory");
}
// Keeps the compiler from moving uses of d across.
template <int kCount>
__device__ __forceinline__ void PinRegisters(int (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+r"(d[i])::"memory");
}
template <int kCount>
__device__ __forceinline__ void PinRegisters(float (&d)[kCount]) {
#pragma unroll
  for (int i = 0; i < kCount; ++i) asm volatile("" : "+f"(d[i])::"memory");
}
// Operands of one constraint from an array.
#define QFT_OPERANDS_8(c, d, i)                                                       \
  c(d[i]), c(d[(i) + 1]), c(d[(i) + 2]), c(d[(i) + 3]), c(d[(i) + 4]), c(d[(i) + 5]), \
      c(d[(i) + 6]), c(d[(i) + 7])
#define QFT_OPERANDS_32(c, d, i)                                                          \
  QFT_OPERANDS_8(c, d, i), QFT_OPERANDS_8(c, d, (i) + 8), QFT_OPERANDS_8(c, d, (i) + 16), \
      QFT_OPERANDS_8(c, d, (i) + 24)
#define QFT_OPERANDS_64(c, d) QFT_OPERANDS_32(c, d, 0), QFT_OPERANDS_32(c, d, 32)
#define QFT_OPERANDS_128(c, d)                                                    \
  QFT_OPERANDS_32(c, d, 0), QFT_OPERANDS_32(c, d, 32), QFT_OPERANDS_32(c, d, 64), \
      QFT_OPERANDS_32(c, d, 96)
#define QFT_REGISTERS_32                                                    \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31}"
#define QFT_REGISTERS_64                                                             \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "          \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}"
#define QFT_REGISTERS_128                                                                        \
  "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "                      \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "             \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "             \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "             \
  "%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "             \
  "%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "             \
  "%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
  "%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, "   \
  "%127}"

// d = a * b^T (+ d where `add`): a [64, 32], b [256, 32] bytes by their descriptors. A thread of
// the warpgroup holds elements i of d: row 16 * warp + lane / 4 + 8 * (i / 2 % 2), column 8 * (i /
// 4) + 2 * (lane % 4) + i % 2. In flight until WaitForProducts.
__device__ __forceinline__ void MultiplyInteger(int (&d)[128], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.s8 " QFT_REGISTERS_128 ", %128, %129, p;\n}\n"
      : QFT_OPERANDS_128("+r", d)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}

// d += a * b^T: a [64, 8], b [256, 8] TF32; d holds the bits of fp32. Registers of another type
// would be other registers, and there are too few of them for both.
__device__ __forceinline__ void MultiplyTf32(int (&d)[128], uint64_t a, uint64_t b) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n256k8.f32.tf32.tf32 " QFT_REGISTERS_128
      ", %128, %129, p, 1, 1;\n}\n"
      : QFT_OPERANDS_128("+r", d)
      : "l"(a), "l"(b), "r"(1));
}

// Which way the lines of an operand in shared memory run: along the sum (MatrixDescriptor), or
// across it (TransposedDescriptor).
enum class Lines { kAlongSum = 0, kAcrossSum = 1 };

// bf16 products with fp32 sums, d = a * b^T (+ d where `add`): a [64, 16] by its descriptor, or in
// registers as MultiplyAdd of mma.sync takes its a [16, 16], a warp 16 of the rows; b [2 n, 16]
// where d has n elements, laid out as those of MultiplyInteger.
__device__ __forceinline__ void MultiplyBf16(float (&d)[32], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " QFT_REGISTERS_32
      ", %32, %33, p, 1, 1, 0, 0;\n}\n"
      : QFT_OPERANDS_32("+f", d, 0)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}
template <Lines kLinesOfB>
__device__ __forceinline__ void MultiplyBf16(float (&d)[32], const uint32_t (&a)[4], uint64_t b,
                                             bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 " QFT_REGISTERS_32
      ", {%32, %33, %34, %35}, %36, p, 1, 1, %38;\n}\n"
      : QFT_OPERANDS_32("+f", d, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)),
        "n"(static_cast<int>(kLinesOfB)));
}
__device__ __forceinline__ void MultiplyBf16(float (&d)[64], uint64_t a, uint64_t b, bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " QFT_REGISTERS_64
      ", %64, %65, p, 1, 1, 0, 0;\n}\n"
      : QFT_OPERANDS_64("+f", d)
      : "l"(a), "l"(b), "r"(static_cast<int>(add)));
}
template <Lines kLinesOfB>
__device__ __forceinline__ void MultiplyBf16(float (&d)[64], const uint32_t (&a)[4], uint64_t b,
                                             bool add) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 " QFT_REGISTERS_64
      ", {%64, %65, %66, %67}, %68, p, 1, 1, %70;\n}\n"
      : QFT_OPERANDS_64("+f", d)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(static_cast<int>(add)),
        "n"(static_cast<int>(kLinesOfB)));
}

#undef QFT_OPERANDS_8
#undef QFT_OPERANDS_32
#undef QFT_OPERANDS_64
#undef QFT_OPERANDS_128
#undef QFT_REGISTERS_32
#undef QFT_REGISTERS_64
#undef QFT_REGISTERS_128

}  // namespace qft::cuda
