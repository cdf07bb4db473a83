// Bytes that the CUDA engine takes beside what ops are given, as plain functions of shapes and of
// the device: the engine asks them, and so does a plan for a device that isn't there.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops.h"

namespace qft::cuda {

// What activations are stored as under integer arithmetic.
inline constexpr DType kActivationType = DType::kBF16;
// Rows of codes that run along the tokens must start at multiples of 16 bytes for the fast matmuls.
inline constexpr int64_t kTokenMultiple = 16;
// Dynamic shared memory that a kernel asks for at most: with 3 KB of its own every device has it
// (99 KB on sm_86).
inline constexpr size_t kMostShared = 96 * 1024;
// What the driver may take yet once an engine exists, for code that it loads when it is first
// launched and for stacks: 20 MB were seen with these kernels, 320 with ones that spilled.
inline constexpr int64_t kDriverBytes = int64_t{320} << 20;

inline constexpr int kFactorTerms = 3;      // codes of a factor
inline constexpr int kFactorFeatures = 16;  // features come in as many
inline constexpr int kFactorChunk = 64;     // stride is a multiple

// Where the parts of a gradient's second operand [length, cols] with `critical_count` critical
// features lie (gradient_operand.cuh): its codes transposed, then the codes of factors
// [features][kFactorTerms][stride], then their scales.
struct PreparedLayout {
  int64_t transposed_bytes;
  int64_t stride;
  int features;

  int64_t CodeBytes() const { return int64_t{features} * kFactorTerms * stride; }
  size_t Bytes() const {
    return static_cast<size_t>(transposed_bytes + CodeBytes() +
                               features * static_cast<int64_t>(sizeof(float)));
  }
};
PreparedLayout LayoutOfPrepared(int64_t length, int64_t cols, int32_t critical_count);

// The largest of what single ops take.
size_t ScratchBytes(const ScratchShape& shape, int multiprocessors);
size_t AttentionBackwardScratch(const AttentionShape& shape);

}  // namespace qft::cuda
