#include "runtime/model/llama_tensors.h"

#include <string>

namespace qft {
namespace {

int AddMatrix(TensorTable& table, const std::string& name, int64_t rows, int64_t cols) {
  return table.Add({name, rows, cols, 2, true});
}

int AddVector(TensorTable& table, const std::string& name, int64_t size) {
  return table.Add({name, 1, size, 1, false});
}

}  // namespace

LlamaTensors MakeLlamaTensors(const ModelConfig& config) {
  LlamaTensors tensors;
  TensorTable& table = tensors.table;
  const int64_t hidden = config.hidden_size;
  const int64_t inner = config.intermediate_size;
  const int64_t query = config.heads * config.head_dim;
  const int64_t key = config.kv_heads * config.head_dim;
  tensors.embedding = AddMatrix(table, "model.embed_tokens.weight", config.vocab_size, hidden);
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string prefix = "model.layers." + std::to_string(i) + ".";
    LlamaBlockTensors block{};
    block.attention_norm = AddVector(table, prefix + "input_layernorm.weight", hidden);
    block.q = AddMatrix(table, prefix + "self_attn.q_proj.weight", query, hidden);
    block.k = AddMatrix(table, prefix + "self_attn.k_proj.weight", key, hidden);
    block.v = AddMatrix(table, prefix + "self_attn.v_proj.weight", key, hidden);
    block.o = AddMatrix(table, prefix + "self_attn.o_proj.weight", hidden, query);
    block.mlp_norm = AddVector(table, prefix + "post_attention_layernorm.weight", hidden);
    block.gate = AddMatrix(table, prefix + "mlp.gate_proj.weight", inner, hidden);
    block.up = AddMatrix(table, prefix + "mlp.up_proj.weight", inner, hidden);
    block.down = AddMatrix(table, prefix + "mlp.down_proj.weight", hidden, inner);
    tensors.blocks.push_back(block);
  }
  tensors.final_norm = AddVector(table, "model.norm.weight", hidden);
  tensors.head = config.tie_embeddings
                     ? tensors.embedding
                     : AddMatrix(table, "lm_head.weight", config.vocab_size, hidden);
  return tensors;
}

int SiteOf(const LlamaTensors& tensors, int tensor) {
  const int blocks = static_cast<int>(tensors.blocks.size());
  if (tensor == tensors.head) return kSitesPerBlock * blocks;
  for (int b = 0; b < blocks; ++b) {
    const LlamaBlockTensors& w = tensors.blocks[b];
    const auto at = [b](Site site) { return kSitesPerBlock * b + static_cast<int>(site); };
    if (tensor == w.q || tensor == w.k || tensor == w.v) return at(Site::kAttention);
    if (tensor == w.o) return at(Site::kO);
    if (tensor == w.gate || tensor == w.up) return at(Site::kMlp);
    if (tensor == w.down) return at(Site::kDown);
  }
  return -1;
}

std::vector<int> BackwardOrder(const LlamaBlockTensors& block) {
  return {block.down, block.gate, block.up, block.mlp_norm,      block.o,
          block.q,    block.k,    block.v,  block.attention_norm};
}

}  // namespace qft
