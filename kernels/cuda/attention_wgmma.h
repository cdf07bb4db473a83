// The attention kernels for Hopper's tensor cores (sm_90a), for what UsesTensorCores accepts.
#pragma once

#include "kernels/cuda/attention_common.cuh"

namespace qft::cuda {

// What LaunchAttentionForward does.
cudaError_t LaunchWgmmaForward(const AttentionArguments& a, cudaStream_t stream);

// dq, dk, dv from q, k, v, dout (bf16, 16-byte aligned), log_sum_exp and delta.
cudaError_t LaunchWgmmaBackward(const AttentionArguments& a, cudaStream_t stream);

}  // namespace qft::cuda
