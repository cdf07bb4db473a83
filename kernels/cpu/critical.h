// The part of a forward matmul that belongs to critical features: a thin fp32 product beside the
// integer one.
#pragma once

#include "kernels/cpu/matmul.h"

namespace qft::QFT_ISA {

// The weights of the critical columns for outputs [column, column + columns):
// weights[c * stride + j], zero up to the stride.
void GatherCriticalWeights(const IntegerProblem& p, int64_t column, int64_t columns, int64_t stride,
                           float* weights);

// fma(values[row, c], weight[column, c], value) for c in order.
float AddCriticalOutput(const IntegerProblem& p, int64_t row, int64_t column, float value);

}  // namespace qft::QFT_ISA
