#include "runtime/update.h"

namespace qft {

void Updater::PopThrough(int tensor) {
  while (session_.buffers_.stack.Find(tensor) != nullptr) PopNext();
}

void Updater::PopAll() {
  while (!session_.buffers_.stack.empty()) PopNext();
}

void Updater::PopNext() {
  const StackEntry entry = session_.buffers_.stack.Pop();
  const TensorState& state = session_.buffers_.tensors[entry.tensor];
  session_.snapshot_.BeforeOverwrite(entry.tensor);
  session_.engine_->LionUpdate(OptionsFor(entry.tensor), state.weight,
                               session_.momentum_.Enter(state.momentum), entry.gradient, state_);
  session_.momentum_.Leave(state.momentum);
}

void Updater::Apply(int tensor, const Matrix& gradient, const RandomStream& random,
                    int64_t row_begin) {
  const TensorState state = TensorRows(session_.buffers_.tensors[tensor], row_begin, gradient.rows);
  LionOptions options = OptionsFor(tensor);
  options.row_offset = row_begin;
  session_.snapshot_.BeforeOverwrite(tensor);
  session_.engine_->EncodeAndUpdate(gradient, random, options, state.weight,
                                    session_.momentum_.Enter(state.momentum), state_);
  session_.momentum_.Leave(state.momentum);
}

LionOptions Updater::OptionsFor(int tensor) const {
  const TensorTraining& training = session_.plan_.training[tensor];
  const SessionConfig& config = session_.config_;
  const TensorKeys& keys = session_.keys_[tensor];
  const std::vector<double>& factors = options_.group_factors;
  double factor = training.learning_rate_factor;
  if (training.group >= 0 && !factors.empty()) factor *= factors[training.group];
  LionOptions options;
  options.beta1 = static_cast<float>(config.beta1);
  options.beta2 = static_cast<float>(config.beta2);
  options.weight_decay = static_cast<float>(training.weight_decay);
  options.learning_rate_factor = static_cast<float>(factor);
  options.rounding = config.rounding;
  options.weight_key = keys.weight;
  options.momentum_key = keys.momentum;
  options.regrow_key = keys.regrow;
  return options;
}

}  // namespace qft
