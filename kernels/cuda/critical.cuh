// The thin products of gradients at critical features, whose codes are zero in the integer product.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/cuda/gradient_operand.cuh"
#include "kernels/ops.h"

namespace qft::cuda {

// out[r, columns[c]] += dy.scale[r] * sum_i dy.code[r, i] * factor(c, i): the columns of dw or dx
// that belong to critical features.
struct ThinProblem {
  const Operand* dy;
  const CriticalFeatures* critical;
  Factors factors;
  const Matrix* out;
};

void LaunchThin(const ThinProblem& problem, int multiprocessors, cudaStream_t stream);

}  // namespace qft::cuda
