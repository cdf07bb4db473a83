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

AttentionHeads AttendedHeads(const Llama& llama, const BlockActivations& activations,
                             int64_t tokens) {
  const Workspace& workspace = *llama.workspace;
  const bool normed = llama.config->qk_norm;
  return {FirstRows(normed ? workspace.normed_q : activations.q, tokens),
          FirstRows(normed ? workspace.normed_k : activations.k, tokens)};
}

void BlockProjections(const Llama& llama, int block, const Matrix& x_in,
                      const BlockActivations& activations, const AttentionHeads& heads,
                      const Matrix& v) {
  const LlamaBlockTensors& w = llama.tensors->blocks[block];
  const Operand input =
      llama.AtSite(activations.attention_input, block, Site::kAttention, x_in.rows);
  llama.engine->RmsNormForward(x_in, llama.vector(w.attention_norm), llama.epsilon(), input,
                               activations.attention_rstd);
  LinearForward(llama, w.q, input, heads.q);
  LinearForward(llama, w.k, input, heads.k);
  LinearForward(llama, w.v, input, v);
}

void NormHeads(const Llama& llama, int block, const AttentionHeads& heads,
               const AttentionHeads& normed) {
  if (!llama.config->qk_norm) return;
  const LlamaBlockTensors& w = llama.tensors->blocks[block];
  const Workspace& workspace = *llama.workspace;
  const auto dim = static_cast<int32_t>(llama.config->head_dim);
  llama.engine->QkNormForward(heads.q, llama.vector(w.q_norm), llama.epsilon(), dim, normed.q,
                              workspace.q_rstd);
  llama.engine->QkNormForward(heads.k, llama.vector(w.k_norm), llama.epsilon(), dim, normed.k,
                              workspace.k_rstd);
}

void RotateHeads(const Llama& llama, int block, const int32_t* positions,
                 const AttentionHeads& heads, bool inverse) {
  const std::vector<int64_t>& unrotated = llama.config->unrotated_layers;
  if (std::binary_search(unrotated.begin(), unrotated.end(), block)) return;
  const AttentionShape shape = llama.attention_shape(heads.q.rows);
  const float* frequency = llama.workspace->inverse_frequency;
  llama.engine->Rope(heads.q, positions, frequency, shape.heads, shape.head_dim, inverse);
  llama.engine->Rope(heads.k, positions, frequency, shape.kv_heads, shape.head_dim, inverse);
}

void BlockForward(const Llama& llama, int block, const MicroBatch& batch, const Matrix& x_in,
                  const BlockActivations& activations, const Matrix& x_out) {
  const int64_t tokens = batch.tokens;
  const AttentionHeads projected{FirstRows(activations.q, tokens),
                                 FirstRows(activations.k, tokens)};
  const Matrix v = FirstRows(activations.v, tokens);
  BlockProjections(llama, block, x_in, activations, projected, v);
  const AttentionHeads heads = AttendedHeads(llama, activations, tokens);
  NormHeads(llama, block, projected, heads);
  RotateHeads(llama, block, batch.positions, heads, false);
  llama.engine->AttentionForward(llama.attention_shape(tokens), batch.document_start, heads.q,
                                 heads.k, v, FirstRows(activations.attention_output, tokens),
                                 activations.log_sum_exp);
  BlockAfterAttention(llama, block, tokens, x_in, activations, x_out);
}

Operand DownInput(const Llama& llama, int block, const BlockActivations& activations,
                  int64_t tokens) {
  Operand input = llama.AtSite(activations.down_input, block, Site::kDown, tokens);
  input.data = llama.workspace->down_data;
  return input;
}

void BlockGates(const Llama& llama, int block, const Operand& mlp_input,
                const BlockActivations& activations, const Operand& down_input) {
  const LlamaBlockTensors& w = llama.tensors->blocks[block];
  const Matrix gate = FirstRows(llama.workspace->gate, mlp_input.rows);
  const Matrix up = FirstRows(llama.workspace->up, mlp_input.rows);
  LinearForward(llama, w.gate, mlp_input, gate);
  LinearForward(llama, w.up, mlp_input, up);
  llama.engine->SwigluForward(gate, up, activations.gates, down_input);
}

void BlockAfterAttention(const Llama& llama, int block, int64_t tokens, const Matrix& x_in,
                         const BlockActivations& activations, const Matrix& x_out) {
  Engine& engine = *llama.engine;
  const LlamaBlockTensors& w = llama.tensors->blocks[block];
  const auto rows = [tokens](const auto& buffer) { return FirstRows(buffer, tokens); };
  const Operand o_input = llama.AtSite(activations.o_input, block, Site::kO, tokens);
  const Matrix middle = rows(activations.middle);
  engine.QuantizeRows(rows(activations.attention_output), o_input);
  LinearForward(llama, w.o, o_input, middle);
  engine.Add(middle, x_in, middle);

  const Operand mlp_input = llama.AtSite(activations.mlp_input, block, Site::kMlp, tokens);
  Operand down_input = DownInput(llama, block, activations, tokens);
  down_input.second = llama.workspace->second_term;
  engine.RmsNormForward(middle, llama.vector(w.mlp_norm), llama.epsilon(), mlp_input,
                        activations.mlp_rstd);
  BlockGates(llama, block, mlp_input, activations, down_input);
  // Two terms are summed: in fp32.
  const Matrix hidden = rows(llama.workspace->hidden);
  LinearForward(llama, w.down, down_input, hidden);
  engine.Add(hidden, middle, x_out);
}

}  // namespace qft
