// The forward pass as attention.cu offers it to the ops.
#pragma once

#include "kernels/cuda/attention_common.cuh"

namespace qft::cuda {

// out, and log_sum_exp where wanted, of a.tokens > 0 queries. A launch error stays for
// cudaPeekAtLastError.
cudaError_t LaunchAttentionForward(const AttentionArguments& a, int architecture,
                                   cudaStream_t stream);

}  // namespace qft::cuda
