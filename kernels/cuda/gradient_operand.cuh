// What the second operand of a gradient's product becomes before the product: its codes transposed,
// since tensor cores take INT8 operands along the sum, and its critical features as factors of the
// thin product.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/cuda/sizes.h"
#include "kernels/ops.h"

namespace qft::cuda {

// codes [length, cols] and critical [length, count]; `divisors` [length] are what is folded into
// the other operand.
struct GradientOperand {
  const int8_t* codes;
  int64_t length;
  int64_t cols;
  CriticalFeatures critical;
  const float* divisors;
};

inline constexpr float kFactorTermSteps = 254.0f;  // steps of a term in one of the term before

// factor(f, i) = fl(critical[i, f] * fl(1 / divisors[i])), 0 where the divisor is, as codes:
// scales[f] * (t0 + (t1 + t2 / kFactorTermSteps) / kFactorTermSteps), to 23 bits of the feature's
// largest. codes [features][kFactorTerms][stride], zeros behind the ends.
struct Factors {
  int8_t* codes;
  float* scales;
  int64_t stride;
  int features;
};

struct PreparedOperand {
  int8_t* transposed;  // [cols, length]
  Factors factors;
};

size_t PreparedBytes(const GradientOperand& operand);
// Into `memory`, of PreparedBytes, aligned to 16 bytes.
void LaunchPrepare(const GradientOperand& operand, void* memory, cudaStream_t stream);
// Where LaunchPrepare leaves what in `memory`.
PreparedOperand PreparedAt(const GradientOperand& operand, void* memory);

}  // namespace qft::cuda
