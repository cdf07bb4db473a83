// Codes transposed for the products whose sum runs over the rows of an operand.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace qft::cuda {

// in [rows, cols] -> out [cols, rows].
void LaunchTranspose(const int8_t* in, int64_t rows, int64_t cols, int8_t* out,
                     cudaStream_t stream);

}  // namespace qft::cuda
