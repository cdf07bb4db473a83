// Gradients become updates of weights and momentum: popped from the stack, or as backward finishes
// them.
#pragma once

#include "runtime/session.h"

namespace qft {

// The updates of one step.
class Updater {
 public:
  // state, options: of the step whose gradients these are.
  Updater(Session& session, StepState* state, const StepOptions& options)
      : session_(session), state_(state), options_(options) {}

  // Pops and applies until the tensor's gradient is no longer on the stack.
  void PopThrough(int tensor);
  void PopAll();
  // Encodes the accumulated gradient [rows, C] of the rows from row_begin on, and applies it.
  void Apply(int tensor, const Matrix& gradient, const RandomStream& random, int64_t row_begin);

 private:
  LionOptions OptionsFor(int tensor) const;
  void PopNext();

  Session& session_;
  StepState* state_;
  const StepOptions& options_;
};

}  // namespace qft
