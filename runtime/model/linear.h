// A linear layer y = x w^T + b, in the integer or the floating form.
#pragma once

#include "runtime/model/llama.h"

namespace qft {

// y [T, N] = x * weight^T, plus bias where there is one.
void LinearForward(const Llama& llama, const LinearTensors& tensors, const Operand& x,
                   const Matrix& y);

struct LinearBackwardArgs {
  Matrix dy;                         // [T, N] fp32
  Operand x;                         // the forward operand [T, K]
  Weight w;                          // [N, K]
  const TensorKeys* keys = nullptr;  // streams of the output gradient
  int64_t token_offset = 0;
  Matrix dx;  // data == nullptr: not wanted
  bool accumulate_dx = false;
  Matrix dw;  // [N, K]; data == nullptr: not wanted
  bool accumulate_dw = false;
};

// Of the product alone; the gradient of a bias is BiasBackward's.
void LinearBackward(const Llama& llama, const LinearBackwardArgs& args);

// LinearBackward's three parts, for a caller that has x.data only when dx is there. dy as operands
// of the input gradient and the weight gradient, as far as they are wanted; of x the scales are
// read.
struct OutputGradients {
  Operand rows;
  Operand columns;
};
OutputGradients LinearOutputGradients(const Llama& llama, const LinearBackwardArgs& args);
void LinearInputGradient(const Llama& llama, const LinearBackwardArgs& args,
                         const OutputGradients& dy);
void LinearWeightGradient(const Llama& llama, const LinearBackwardArgs& args,
                          const OutputGradients& dy);

}  // namespace qft
