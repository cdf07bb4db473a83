#include "runtime/model/linear.h"

namespace qft {

void LinearForward(const Llama& llama, const LinearTensors& tensors, const Operand& x,
                   const Matrix& y) {
  llama.engine->MatmulForward(x, llama.weight(tensors.weight), y, false);
  if (tensors.bias >= 0) llama.engine->AddBias(y, llama.vector(tensors.bias));
}

OutputGradients LinearOutputGradients(const Llama& llama, const LinearBackwardArgs& args) {
  Engine& engine = *llama.engine;
  const Workspace& workspace = *llama.workspace;
  const int64_t tokens = args.dy.rows;
  const int64_t outputs = args.dy.cols;
  const bool wants_dx = args.dx.data != nullptr;
  const bool wants_dw = args.dw.data != nullptr;
  OutputGradientOperand dy{args.w.grid, {args.keys->output_gradient, args.token_offset}, {}};
  OutputGradientOperand dy_t{
      args.x.scales, {args.keys->output_gradient_transposed, args.token_offset}, {}};
  dy.out = llama.integer ? Reshaped(workspace.output_gradient, tokens, outputs)
                         : Operand{args.dy.data, nullptr, DType::kF32, tokens, outputs};
  dy_t.out = Reshaped(workspace.output_gradient_transposed, outputs, tokens);
  constexpr Rounding kRounding = Rounding::kStochastic;
  if (wants_dx && wants_dw && llama.integer) {
    engine.QuantizeOutputGradients(args.dy, kRounding, workspace.step, dy, dy_t);
  } else if (wants_dw) {
    engine.QuantizeOutputGradientTransposed(args.dy, dy_t.fold, kRounding, dy_t.random,
                                            workspace.step, dy_t.out);
  } else if (wants_dx && llama.integer) {
    engine.QuantizeOutputGradient(args.dy, dy.fold, kRounding, dy.random, workspace.step, dy.out);
  }
  return {dy.out, dy_t.out};
}

void LinearInputGradient(const Llama& llama, const LinearBackwardArgs& args,
                         const OutputGradients& dy) {
  if (args.dx.data == nullptr) return;
  llama.engine->MatmulInputGradient(dy.rows, args.w, args.dx, args.accumulate_dx);
}

void LinearWeightGradient(const Llama& llama, const LinearBackwardArgs& args,
                          const OutputGradients& dy) {
  if (args.dw.data == nullptr) return;
  llama.engine->MatmulWeightGradient(dy.columns, args.x, args.dw, args.accumulate_dw);
}

void LinearBackward(const Llama& llama, const LinearBackwardArgs& args) {
  const OutputGradients dy = LinearOutputGradients(llama, args);
  LinearInputGradient(llama, args, dy);
  LinearWeightGradient(llama, args, dy);
}

}  // namespace qft
