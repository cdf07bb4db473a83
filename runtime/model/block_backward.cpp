#include <algorithm>
#include <initializer_list>

#include "runtime/model/linear.h"
#include "runtime/model/llama.h"

namespace qft {
namespace {

// BlockBackward's arguments, and the block's two halves in turn.
class BlockBackwardPass {
 public:
  BlockBackwardPass(const Llama& llama, int block, const MicroBatch& batch,
                    const BlockActivations& activations, GradientAccumulators& gradients,
                    bool first)
      : llama_(llama),
        engine_(*llama.engine),
        w_(llama.tensors->blocks[block]),
        workspace_(*llama.workspace),
        block_(block),
        batch_(batch),
        activations_(activations),
        gradients_(gradients),
        first_(first),
        residual_(Rows(batch.residual_gradient)) {}

  // x_out = middle + down(silu(gate) * up)
  void Mlp() {
    const Matrix middle = Rows(activations_.middle);
    const Matrix hidden = Rows(workspace_.hidden);
    const Matrix d_gate = Rows(workspace_.gate);
    const Matrix d_up = Rows(workspace_.up);
    Operand mlp_input = At(activations_.mlp_input, Site::kMlp);
    const Operand down_input = DownInput(llama_, block_, activations_, batch_.tokens);
    if (MakesInputsAgain()) {
      NormAgain(middle, w_.mlp_norm, mlp_input, activations_.mlp_rstd);
      if (activations_.kept == Kept::kNoGates) {
        BlockGates(llama_, block_, mlp_input, activations_, down_input);
      }
    }
    Down(down_input, d_gate, d_up);
    Prepare(mlp_input, {w_.gate.weight, w_.up.weight});
    Linear(w_.gate, d_gate, mlp_input, hidden, false);
    Linear(w_.up, d_up, mlp_input, hidden, true);
    Norm(middle, w_.mlp_norm, activations_.mlp_rstd);
  }

  // middle = x_in + o(attention(q, k, v))
  void Attention(const Matrix& x_in) {
    Operand attention_input = At(activations_.attention_input, Site::kAttention);
    const Operand o_input = At(activations_.o_input, Site::kO);
    const Matrix output = Rows(activations_.attention_output);
    if (MakesInputsAgain()) {
      NormAgain(x_in, w_.attention_norm, attention_input, activations_.attention_rstd);
      engine_.QuantizeRows(output, o_input);
    }
    const Matrix hidden = Rows(workspace_.hidden);
    const Matrix d_output = Rows(workspace_.query);
    const AttentionHeads gradient{Rows(workspace_.dq), Rows(workspace_.dk)};
    const Matrix dv = Rows(workspace_.dv);
    Linear(w_.o, residual_, o_input, d_output, false);
    const AttentionHeads heads = Heads();
    engine_.AttentionBackward(llama_.attention_shape(batch_.tokens), batch_.document_start, heads.q,
                              heads.k, Rows(activations_.v), output, activations_.log_sum_exp,
                              d_output, gradient.q, gradient.k, dv, workspace_.attention_scratch);
    RotateHeads(llama_, block_, batch_.positions, gradient, true);
    if (llama_.config->qk_norm) {
      QkNorm(activations_.q, w_.q_norm, workspace_.q_rstd, gradient.q);
      QkNorm(activations_.k, w_.k_norm, workspace_.k_rstd, gradient.k);
    }
    Prepare(attention_input, {w_.q.weight, w_.k.weight, w_.v.weight});
    Linear(w_.q, gradient.q, attention_input, hidden, false);
    Linear(w_.k, gradient.k, attention_input, hidden, true);
    Linear(w_.v, dv, attention_input, hidden, true);
    Norm(x_in, w_.attention_norm, activations_.attention_rstd);
  }

 private:
  Matrix Rows(const Matrix& buffer) const { return FirstRows(buffer, batch_.tokens); }
  Operand At(const Operand& operand, Site site) const {
    return llama_.AtSite(operand, block_, site, batch_.tokens);
  }

  // Of a block that keeps nothing forward has just made them.
  bool MakesInputsAgain() const {
    return activations_.kept == Kept::kNoInputs || activations_.kept == Kept::kNoGates;
  }

  // What attention read. Normed heads are not kept: they are made again, the same bits.
  AttentionHeads Heads() const {
    const AttentionHeads heads = AttendedHeads(llama_, activations_, batch_.tokens);
    if (llama_.config->qk_norm) {
      NormHeads(llama_, block_, {Rows(activations_.q), Rows(activations_.k)}, heads);
      RotateHeads(llama_, block_, batch_.positions, heads, false);
    }
    return heads;
  }

  void NormAgain(const Matrix& x, int weight, const Operand& y, float* rstd) {
    engine_.RmsNormForward(x, llama_.vector(weight), llama_.epsilon(), y, rstd);
  }

  // The gradients of gate and up. down_input's data comes with them, from what is kept of both: in
  // time for the weight gradient, and out of one reading.
  void Down(const Operand& down_input, const Matrix& d_gate, const Matrix& d_up) {
    const Matrix& d_input = d_gate;  // in place
    const LinearBackwardArgs args = Args(w_.down, residual_, down_input, d_input, false);
    const OutputGradients dy = LinearOutputGradients(llama_, args);
    LinearInputGradient(llama_, args, dy);
    engine_.SwigluBackward(activations_.gates, d_input, d_gate, d_up, down_input);
    LinearWeightGradient(llama_, args, dy);
    gradients_.Done(w_.down.weight);
  }

  // For the gradients of those of `weights` that train.
  void Prepare(Operand& x, std::initializer_list<int> weights) {
    const bool wanted = std::any_of(weights.begin(), weights.end(), [this](int weight) {
      return gradients_.For(weight).data != nullptr;
    });
    if (!wanted || workspace_.prepared_input == nullptr) return;
    engine_.PrepareInput(x, workspace_.prepared_input);
    x.prepared = workspace_.prepared_input;
  }

  // dx (+)= the gradient through a linear layer.
  void Linear(const LinearTensors& tensors, const Matrix& dy, const Operand& x, const Matrix& dx,
              bool accumulate_dx) {
    LinearBackward(llama_, Args(tensors, dy, x, dx, accumulate_dx));
    gradients_.Done(tensors.weight);
  }

  // Of a linear layer's product; the gradient of its bias is done.
  LinearBackwardArgs Args(const LinearTensors& tensors, const Matrix& dy, const Operand& x,
                          const Matrix& dx, bool accumulate_dx) {
    if (tensors.bias >= 0) {
      if (float* dbias = VectorGradient(tensors.bias)) engine_.BiasBackward(dy, dbias);
      gradients_.Done(tensors.bias);
    }
    const int weight = tensors.weight;
    return {dy,
            x,
            llama_.weight(weight),
            &(*llama_.keys)[weight],
            batch_.token_offset,
            dx,
            accumulate_dx,
            gradients_.For(weight),
            !first_};
  }

  // residual += the gradient of x through its norm, from workspace.hidden.
  void Norm(const Matrix& x, int weight, const float* rstd) {
    engine_.RmsNormBackward(x, llama_.vector(weight), rstd, Rows(workspace_.hidden), residual_,
                            VectorGradient(weight));
    gradients_.Done(weight);
  }

  // In place.
  void QkNorm(const Matrix& x, int weight, const float* rstd, const Matrix& gradient) {
    engine_.QkNormBackward(Rows(x), llama_.vector(weight), rstd, gradient, gradient,
                           static_cast<int32_t>(llama_.config->head_dim), VectorGradient(weight));
    gradients_.Done(weight);
  }

  // Zeroed for a step's first micro-batch; nullptr: the tensor does not train.
  float* VectorGradient(int tensor) {
    auto* gradient = static_cast<float*>(gradients_.For(tensor).data);
    if (gradient != nullptr && first_) {
      engine_.Fill(gradient, 0, llama_.weight(tensor).cols * sizeof(float));
    }
    return gradient;
  }

  const Llama& llama_;
  Engine& engine_;
  const LlamaBlockTensors& w_;
  const Workspace& workspace_;
  int block_;
  const MicroBatch& batch_;
  const BlockActivations& activations_;
  GradientAccumulators& gradients_;
  bool first_;
  Matrix residual_;
};

}  // namespace

void BlockBackward(const Llama& llama, int block, const MicroBatch& batch, const Matrix& x_in,
                   const BlockActivations& activations, GradientAccumulators& gradients,
                   bool first) {
  BlockBackwardPass pass(llama, block, batch, activations, gradients, first);
  pass.Mlp();
  pass.Attention(x_in);
}

}  // namespace qft
