// The arguments of a norm's backward pass over rows [R, K].
#pragma once

#include "kernels/ops.h"

namespace qft::QFT_ISA {

struct NormGradient {
  Matrix x;
  const float* weight;
  const float* rstd;
  Matrix dy;
  Matrix dx;        // may be dy's memory where nothing is added
  bool accumulate;  // dx += instead of =
  float* dweight;   // nullptr: not wanted
};

}  // namespace qft::QFT_ISA
