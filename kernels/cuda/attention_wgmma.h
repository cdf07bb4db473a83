// The attention kernels for Hopper's tensor cores (sm_90a), for what UsesTensorCores accepts and
// FillsTiles.
#pragma once

#include "kernels/cuda/attention_common.cuh"

namespace qft::cuda {

// What LaunchAttentionForward does.
cudaError_t LaunchWgmmaForward(const AttentionArguments& a, cudaStream_t stream);

// The backward pass from log_sum_exp and delta: dk and dv, then dq. dout bf16, 16-byte aligned.
cudaError_t LaunchWgmmaKeyGradient(const AttentionArguments& a, cudaStream_t stream);
cudaError_t LaunchWgmmaQueryGradient(const AttentionArguments& a, cudaStream_t stream);

}  // namespace qft::cuda
