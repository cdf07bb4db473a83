#include "runtime/model/linear.h"

namespace qft {

void LinearBackward(const Llama& llama, const LinearBackwardArgs& args) {
  Engine& engine = *llama.engine;
  const Workspace& workspace = *llama.workspace;
  const int64_t tokens = args.dy.rows;
  const int64_t outputs = args.dy.cols;
  if (args.dx.data != nullptr) {
    Operand dy{args.dy.data, nullptr, DType::kF32, tokens, outputs};
    if (llama.integer) {
      dy = Reshaped(workspace.output_gradient, tokens, outputs);
      engine.QuantizeOutputGradient(args.dy, args.w.grid, Rounding::kStochastic,
                                    {args.keys->output_gradient, args.token_offset}, workspace.step,
                                    dy);
    }
    engine.MatmulInputGradient(dy, args.w, args.dx, args.accumulate_dx);
  }
  if (args.dw != nullptr) {
    const Operand dy_t = Reshaped(workspace.output_gradient_transposed, outputs, tokens);
    engine.QuantizeOutputGradientTransposed(
        args.dy, args.x.scales, Rounding::kStochastic,
        {args.keys->output_gradient_transposed, args.token_offset}, workspace.step, dy_t);
    engine.MatmulWeightGradient(dy_t, args.x, {args.dw, DType::kF32, outputs, args.x.cols},
                                args.accumulate_dw);
  }
}

}  // namespace qft
