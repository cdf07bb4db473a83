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

inline constexpr int kThinTerms = 3;
inline constexpr float kThinTermSteps = 254.0f;  // steps of a term in one of the term before
inline constexpr int kThinFeatures = 16;         // whose factors stand together

// The factors of a product as codes: factor(f, i) = scales[f] * (t0 + (t1 + t2 / kThinTermSteps) /
// kThinTermSteps), to 23 bits of the feature's largest. codes [groups of kThinFeatures][kThinTerms]
// [kThinFeatures][stride], zeros behind the ends.
struct ThinFactors {
  int8_t* codes;
  float* scales;
  int64_t stride;
};

#ifdef __CUDACC__
// What the sums of a feature's terms add up to, in units of its scale.
__device__ inline float SumOfTerms(const int (&terms)[kThinTerms]) {
  float sum = 0.0f;
#pragma unroll
  for (int term = kThinTerms - 1; term >= 0; --term) {
    sum = __fmaf_rn(sum, 1.0f / kThinTermSteps, static_cast<float>(terms[term]));
  }
  return sum;
}
#endif

size_t ThinScratchBytes(const ThinProblem& problem);
// An error that is no launch's.
cudaError_t LaunchThin(const ThinProblem& problem, void* scratch, int architecture,
                       cudaStream_t stream);

bool ThinWgmmaSupports(const ThinProblem& problem, int architecture);
cudaError_t LaunchThinWgmma(const ThinProblem& problem, const ThinFactors& factors,
                            cudaStream_t stream);

}  // namespace qft::cuda
