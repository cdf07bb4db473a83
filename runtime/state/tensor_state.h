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

// How quantised tensors are held.
struct StateFormat {
  bool int8 = true;       // codes and grids; otherwise everything is fp32
  bool residual = false;  // with a residual plane
  // Of this tensor's input features; values are the state's own.
  const int32_t* critical_columns = nullptr;
  int32_t critical_count = 0;
};

// Allocates the weight, and the momentum if the tensor trains: of quantised tensors from
// `momentum_arena`.
TensorState AllocateTensorState(const TensorSpec& spec, bool trainable, const StateFormat& format,
                                Arena& arena, Arena& momentum_arena);

// A block of rows of a weight, as a weight.
Weight WeightRows(const Weight& weight, int64_t row_begin, int64_t row_count);
// The same of a tensor that trains.
TensorState TensorRows(const TensorState& state, int64_t row_begin, int64_t row_count);

}  // namespace qft
