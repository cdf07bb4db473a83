// The part of a forward matmul that belongs to critical features: a thin fp32 product beside the
// integer one.
#pragma once

#include "kernels/cpu/matmul.h"

namespace qft::QFT_ISA {

// The weights of the critical columns for outputs [column, column + columns):
// weights[c * stride + j], zero up to the stride.
void GatherCriticalWeights(const IntegerProblem& p, int64_t column, int64_t columns, int64_t stride,
                           float* weights);

// out[j] = fma(values[c], weights[c * stride + j], out[j]) for c in order.
void AddCriticalRow(const float* values, const float* weights, int32_t count, int64_t stride,
                    int64_t columns, float* out);

// The same for one output.
float AddCriticalOutput(const IntegerProblem& p, int64_t row, int64_t column, float value);

}  // namespace qft::QFT_ISA
