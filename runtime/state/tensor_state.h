// The states of one tensor: weight and momentum.
#pragma once

#include <memory>

#include "kernels/ops.h"
#include "runtime/state/arena.h"
#include "runtime/state/tensor_table.h"

namespace qft {

struct TensorState {
  Weight weight;
  Momentum momentum;  // data == nullptr: frozen
};

// Momentum blocks in a row.
inline int64_t MomentumBlocks(int64_t cols) {
  return (cols + kMomentumBlock - 1) / kMomentumBlock;
}

// Allocates the weight, and the momentum if the tensor trains. `int8_states`: quantised tensors get
// codes and grids, otherwise everything is fp32.
TensorState AllocateTensorState(const TensorSpec& spec, bool trainable, bool int8_states,
                                Arena& arena);

// A block of rows of a weight, as a weight.
Weight WeightRows(const Weight& weight, int64_t row_begin, int64_t row_count);

}  // namespace qft
