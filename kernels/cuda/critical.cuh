// The thin products of gradients at critical features, whose codes are zero in the integer product.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/ops.h"

namespace qft::cuda {

// out[r, columns[c]] += dy.scale[r] * sum_i dy.code[r, i] * fl(critical[i, c] * fl(1 /
// divisors[i])), 0 where the divisor is: the columns of dw or dx that belong to critical features,
// where `divisors` are what is folded into dy. The factors of a feature are multiplied as three
// terms of codes, 23 bits of the largest.
struct ThinProblem {
  const Operand* dy;
  const CriticalFeatures* critical;
  const float* divisors;
  const Matrix* out;
};

size_t ThinScratchBytes(const ThinProblem& problem);
void LaunchThin(const ThinProblem& problem, void* scratch, cudaStream_t stream);

}  // namespace qft::cuda
