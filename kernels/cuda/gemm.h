// The INT8 matrix product that the three matmuls of linear layers come down to, and its kernels.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "kernels/ops.h"

namespace qft::cuda {

// out[i, j] = fl(row_scale[i] * column_scale[j]) * float(sum over k of a[i, k] * b[j, k]); where
// `accumulate`, added to what out holds. INT32 sums, after every kMaxIntegerSum products continued
// in fp32. Where there is `second` [m, k], the sum is a's and (second's sum + 128) >> 8; continued
// ones start from 2^-8 times second's. Then, where critical_count > 0, plus the product of
// critical_a [m, critical_count] and critical_b [n, critical_count] in fp32 (or TF32).
// a [m, k] and b [n, k] dense; out [m, n] fp32 or bf16, rounded once at the end.
struct IntegerProblem {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  const int8_t* a = nullptr;
  const int8_t* second = nullptr;
  const int8_t* b = nullptr;
  const float* row_scale = nullptr;
  const float* column_scale = nullptr;  // nullptr: ones
  void* out = nullptr;
  DType out_type = DType::kF32;
  bool accumulate = false;
  const float* critical_a = nullptr;
  const float* critical_b = nullptr;
  int32_t critical_count = 0;
};

// mma.sync (sm_80 and later). Any sizes and alignments; fast where a and b are 16-byte aligned and
// k is a multiple of 16. Returns the launch's error.
cudaError_t LaunchIntegerMma(const IntegerProblem& problem, cudaStream_t stream);

// wgmma and TMA (sm_90a). Whether it takes this problem on the current device:
bool IntegerWgmmaSupports(const IntegerProblem& problem, int architecture);
cudaError_t LaunchIntegerWgmma(const IntegerProblem& problem, int multiprocessors,
                               cudaStream_t stream);

}  // namespace qft::cuda
