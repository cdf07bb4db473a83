#include <algorithm>
#include <cmath>

#include "runtime/model/linear.h"
#include "runtime/model/llama.h"

namespace qft {

AttentionShape Llama::attention_shape(int64_t tokens) const {
  AttentionShape shape;
  shape.tokens = tokens;
  shape.heads = static_cast<int32_t>(config->heads);
  shape.kv_heads = static_cast<int32_t>(config->kv_heads);
  shape.head_dim = static_cast<int32_t>(config->head_dim);
  const auto magnitude = static_cast<float>(RopeMagnitude(config->rope_scaling));
  shape.scale = magnitude * magnitude / std::sqrt(static_cast<float>(config->head_dim));
  return shape;
}

int32_t FirstSeen(const ModelConfig& config, int32_t start, int32_t t) {
  if (config.sliding_window == 0) return start;
  return static_cast<int32_t>(std::max<int64_t>(start, t + 1 - config.sliding_window));
}

Operand Llama::AtSite(const Operand& operand, int site, int64_t rows) const {
  Operand result = FirstRows(operand, rows);
  result.critical.columns = critical_columns + static_cast<int64_t>(site) * critical_count;
  result.critical.values = operand.critical.values;
  result.critical.count = critical_count;
  return result;
}

void BlockForward(const Llama& llama, int block, const MicroBatch& batch, const Matrix& x_in,
                  const BlockActivations& activations, const Matrix& x_out) {
  Engine& engine = *llama.engine;
  const LlamaBlockTensors& w = llama.tensors->blocks[block];
  const ModelConfig& config = *llama.config;
  const Workspace& workspace = *llama.workspace;
  const int64_t tokens = batch.tokens;
  const float epsilon = static_cast<float>(config.rms_norm_epsilon);
  const auto heads = static_cast<int32_t>(config.heads);
  const auto kv_heads = static_cast<int32_t>(config.kv_heads);
  const auto dim = static_cast<int32_t>(config.head_dim);

  const Operand attention_input =
      llama.AtSite(activations.attention_input, block, Site::kAttention, tokens);
  const Matrix q = FirstRows(activations.q, tokens);
  const Matrix k = FirstRows(activations.k, tokens);
  const Matrix v = FirstRows(activations.v, tokens);
  engine.RmsNormForward(x_in, llama.norm(w.attention_norm), epsilon, attention_input,
                        activations.attention_rstd);
  engine.MatmulForward(attention_input, llama.weight(w.q), q, false);
  engine.MatmulForward(attention_input, llama.weight(w.k), k, false);
  engine.MatmulForward(attention_input, llama.weight(w.v), v, false);
  engine.Rope(q, batch.positions, workspace.inverse_frequency, heads, dim, false);
  engine.Rope(k, batch.positions, workspace.inverse_frequency, kv_heads, dim, false);

  engine.AttentionForward(llama.attention_shape(tokens), batch.document_start, q, k, v,
                          FirstRows(activations.attention_output, tokens), activations.log_sum_exp);
  BlockAfterAttention(llama, block, tokens, x_in, activations, x_out);
}

void BlockAfterAttention(const Llama& llama, int block, int64_t tokens, const Matrix& x_in,
                         const BlockActivations& activations, const Matrix& x_out) {
  Engine& engine = *llama.engine;
  const LlamaBlockTensors& w = llama.tensors->blocks[block];
  const auto rows = [tokens](const auto& buffer) { return FirstRows(buffer, tokens); };
  const float epsilon = static_cast<float>(llama.config->rms_norm_epsilon);
  const Operand o_input = llama.AtSite(activations.o_input, block, Site::kO, tokens);
  const Matrix middle = rows(activations.middle);
  engine.QuantizeRows(rows(activations.attention_output), o_input);
  engine.MatmulForward(o_input, llama.weight(w.o), middle, false);
  engine.Add(middle, x_in, middle);

  const Operand mlp_input = llama.AtSite(activations.mlp_input, block, Site::kMlp, tokens);
  const Matrix gate = rows(activations.gate);
  const Matrix up = rows(activations.up);
  Operand down_input = llama.AtSite(activations.down_input, block, Site::kDown, tokens);
  down_input.second = llama.workspace->second_term;
  engine.RmsNormForward(middle, llama.norm(w.mlp_norm), epsilon, mlp_input, activations.mlp_rstd);
  engine.MatmulForward(mlp_input, llama.weight(w.gate), gate, false);
  engine.MatmulForward(mlp_input, llama.weight(w.up), up, false);
  engine.SwigluForward(gate, up, down_input);
  // Two terms are summed: in fp32.
  const Matrix hidden = rows(llama.workspace->hidden);
  engine.MatmulForward(down_input, llama.weight(w.down), hidden, false);
  engine.Add(hidden, middle, x_out);
}

void BlockBackward(const Llama& llama, int block, const MicroBatch& batch, const Matrix& x_in,
                   const BlockActivations& activations, GradientAccumulators& gradients,
                   bool first) {
  Engine& engine = *llama.engine;
  const LlamaBlockTensors& w = llama.tensors->blocks[block];
  const Workspace& workspace = *llama.workspace;
  const int64_t tokens = batch.tokens;
  const auto rows = [tokens](const auto& buffer) { return FirstRows(buffer, tokens); };
  const auto linear = [&](int tensor, const Matrix& dy, const Operand& x, const Matrix& dx,
                          bool accumulate_dx) {
    LinearBackward(llama, {dy, x, llama.weight(tensor), &(*llama.keys)[tensor], batch.token_offset,
                           dx, accumulate_dx, gradients.For(tensor), !first});
    gradients.Done(tensor);
  };
  const auto norm_gradient = [&](int tensor) {
    auto* gradient = static_cast<float*>(gradients.For(tensor).data);
    if (gradient != nullptr && first) {
      engine.Fill(gradient, 0, llama.weight(tensor).cols * sizeof(float));
    }
    return gradient;
  };
  const Matrix residual = rows(batch.residual_gradient);

  // x_out = middle + down(silu(gate) * up)
  const Matrix inner = rows(workspace.inner);
  const Matrix gate = rows(activations.gate);
  const Matrix up = rows(activations.up);
  const Operand mlp_input = llama.AtSite(activations.mlp_input, block, Site::kMlp, tokens);
  const Operand down_input = llama.AtSite(activations.down_input, block, Site::kDown, tokens);
  const Matrix hidden = rows(workspace.hidden);
  const float epsilon = static_cast<float>(llama.config->rms_norm_epsilon);
  if (activations.kept != Kept::kAll) {
    engine.RmsNormForward(rows(activations.middle), llama.norm(w.mlp_norm), epsilon, mlp_input,
                          activations.mlp_rstd);
    if (activations.kept == Kept::kNoGates) {
      engine.MatmulForward(mlp_input, llama.weight(w.gate), gate, false);
      engine.MatmulForward(mlp_input, llama.weight(w.up), up, false);
    }
    engine.SwigluForward(gate, up, down_input);
  }
  linear(w.down, residual, down_input, inner, false);
  engine.SwigluBackward(gate, up, inner, gate, up);
  linear(w.gate, gate, mlp_input, hidden, false);
  linear(w.up, up, mlp_input, hidden, true);
  engine.RmsNormBackward(rows(activations.middle), llama.norm(w.mlp_norm), activations.mlp_rstd,
                         hidden, residual, norm_gradient(w.mlp_norm));
  gradients.Done(w.mlp_norm);

  // middle = x_in + o(attention(q, k, v))
  const Matrix query = rows(workspace.query);
  const Matrix dq = rows(workspace.dq);
  const Matrix dk = rows(workspace.dk);
  const Matrix dv = rows(workspace.dv);
  const Operand attention_input =
      llama.AtSite(activations.attention_input, block, Site::kAttention, tokens);
  const Operand o_input = llama.AtSite(activations.o_input, block, Site::kO, tokens);
  if (activations.kept != Kept::kAll) {
    engine.RmsNormForward(x_in, llama.norm(w.attention_norm), epsilon, attention_input,
                          activations.attention_rstd);
    engine.QuantizeRows(rows(activations.attention_output), o_input);
  }
  const AttentionShape shape = llama.attention_shape(tokens);
  linear(w.o, residual, o_input, query, false);
  engine.AttentionBackward(shape, batch.document_start, rows(activations.q), rows(activations.k),
                           rows(activations.v), rows(activations.attention_output),
                           activations.log_sum_exp, query, dq, dk, dv, workspace.attention_scratch);
  engine.Rope(dq, batch.positions, workspace.inverse_frequency, shape.heads, shape.head_dim, true);
  engine.Rope(dk, batch.positions, workspace.inverse_frequency, shape.kv_heads, shape.head_dim,
              true);
  linear(w.q, dq, attention_input, hidden, false);
  linear(w.k, dk, attention_input, hidden, true);
  linear(w.v, dv, attention_input, hidden, true);
  engine.RmsNormBackward(x_in, llama.norm(w.attention_norm), activations.attention_rstd, hidden,
                         residual, norm_gradient(w.attention_norm));
  gradients.Done(w.attention_norm);
}

}  // namespace qft
