#include "runtime/state/tensor_state.h"

namespace qft {

TensorState AllocateTensorState(const TensorSpec& spec, bool trainable, const StateFormat& format,
                                Arena& arena, Arena& momentum_arena) {
  TensorState state;
  Weight& weight = state.weight;
  Momentum& momentum = state.momentum;
  weight.rows = spec.rows;
  weight.cols = spec.cols;
  if (spec.quantised && format.int8) {
    weight.dtype = momentum.dtype = DType::kI8;
    weight.data = arena.Allocate(Purpose::kWeights, spec.elements());
    weight.grid = arena.Allocate<float>(Purpose::kWeights, spec.rows);
    const int64_t critical = spec.rows * format.critical_count;
    weight.critical = {format.critical_columns, arena.Allocate<float>(Purpose::kCritical, critical),
                       format.critical_count};
    if (format.residual) {
      weight.residual =
          arena.Allocate<uint8_t>(Purpose::kResidual, spec.rows * ResidualBytes(spec.cols));
    }
    if (trainable) {
      momentum.data = momentum_arena.Allocate(Purpose::kMomentum, spec.elements());
      momentum.grid =
          momentum_arena.Allocate<float>(Purpose::kMomentum, spec.rows * MomentumBlocks(spec.cols));
      momentum.critical = momentum_arena.Allocate<float>(Purpose::kCritical, critical);
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
  rows.critical.values = weight.critical.values + row_begin * weight.critical.count;
  if (weight.residual != nullptr) {
    rows.residual = weight.residual + row_begin * ResidualBytes(weight.cols);
  }
  rows.rows = row_count;
  return rows;
}

TensorState TensorRows(const TensorState& state, int64_t row_begin, int64_t row_count) {
  const Weight& weight = state.weight;
  const Momentum& momentum = state.momentum;
  Momentum rows = momentum;
  rows.data =
      static_cast<char*>(momentum.data) + row_begin * weight.cols * ElementBytes(momentum.dtype);
  if (momentum.grid != nullptr) {
    rows.grid = momentum.grid + row_begin * MomentumBlocks(weight.cols);
  }
  if (momentum.critical != nullptr) {
    rows.critical = momentum.critical + row_begin * weight.critical.count;
  }
  return {WeightRows(weight, row_begin, row_count), rows};
}

}  // namespace qft
