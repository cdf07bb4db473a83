#include "runtime/state/tensor_state.h"

namespace qft {

TensorState AllocateTensorState(const TensorSpec& spec, bool trainable, bool int8_states,
                                Arena& arena) {
  TensorState state;
  Weight& weight = state.weight;
  Momentum& momentum = state.momentum;
  weight.rows = spec.rows;
  weight.cols = spec.cols;
  if (spec.quantised && int8_states) {
    weight.dtype = momentum.dtype = DType::kI8;
    weight.data = arena.Allocate(Purpose::kWeights, spec.elements());
    weight.grid = arena.Allocate<float>(Purpose::kWeights, spec.rows);
    if (trainable) {
      momentum.data = arena.Allocate(Purpose::kMomentum, spec.elements());
      momentum.grid =
          arena.Allocate<float>(Purpose::kMomentum, spec.rows * MomentumBlocks(spec.cols));
    }
  } else {
    weight.dtype = momentum.dtype = DType::kF32;
    weight.data = arena.Allocate<float>(Purpose::kWeights, spec.elements());
    if (trainable) momentum.data = arena.Allocate<float>(Purpose::kMomentum, spec.elements());
  }
  return state;
}

Weight WeightRows(const Weight& weight, int64_t row_begin, int64_t row_count) {
  Weight rows = weight;
  const int64_t element = weight.dtype == DType::kI8 ? 1 : sizeof(float);
  rows.data = static_cast<char*>(weight.data) + row_begin * weight.cols * element;
  if (weight.grid != nullptr) rows.grid = weight.grid + row_begin;
  rows.rows = row_count;
  return rows;
}

}  // namespace qft
