#include "runtime/model/llama_tensors.h"

#include <string>

namespace qft {
namespace {

// A part of the model's name in a Hugging Face folder and in a GGUF file.
struct Name {
  std::string huggingface;
  std::string gguf;

  Name operator+(const Name& part) const {
    return {huggingface + part.huggingface, gguf + part.gguf};
  }
};

class TableMaker {
 public:
  explicit TableMaker(TensorTable* table) : table_(*table) {}

  int Matrix(const Name& name, int64_t rows, int64_t cols) {
    return table_.Add(Spec(name, ".weight", rows, cols, 2));
  }
  int Norm(const Name& name, int64_t size) { return table_.Add(Spec(name, ".weight", 1, size, 1)); }
  // rotated: its outputs are heads that rotary embeddings turn.
  LinearTensors Linear(const Name& name, int64_t rows, int64_t cols, bool bias, bool rotated) {
    LinearTensors tensors;
    TensorSpec weight = Spec(name, ".weight", rows, cols, 2);
    weight.rotated = rotated;
    tensors.weight = table_.Add(std::move(weight));
    if (!bias) return tensors;
    TensorSpec vector = Spec(name, ".bias", 1, rows, 1);
    vector.rotated = rotated;
    vector.initial = 0;
    tensors.bias = table_.Add(std::move(vector));
    return tensors;
  }

 private:
  static TensorSpec Spec(const Name& name, const char* suffix, int64_t rows, int64_t cols,
                         int32_t dimensions) {
    TensorSpec spec;
    spec.name = name.huggingface + suffix;
    spec.gguf_name = name.gguf + suffix;
    spec.rows = rows;
    spec.cols = cols;
    spec.dimensions = dimensions;
    spec.quantised = dimensions == 2;
    return spec;
  }

  TensorTable& table_;
};

LlamaBlockTensors MakeBlock(const ModelConfig& config, int64_t index, TableMaker& make) {
  const int64_t hidden = config.hidden_size;
  const int64_t inner = config.intermediate_size;
  const int64_t query = config.heads * config.head_dim;
  const int64_t key = config.kv_heads * config.head_dim;
  const std::string number = std::to_string(index) + ".";
  const Name block{"model.layers." + number, "blk." + number};
  const auto name = [&](const char* huggingface, const char* gguf) {
    return block + Name{huggingface, gguf};
  };
  LlamaBlockTensors w;
  w.attention_norm = make.Norm(name("input_layernorm", "attn_norm"), hidden);
  const bool qkv_bias = config.qkv_bias;
  w.q = make.Linear(name("self_attn.q_proj", "attn_q"), query, hidden, qkv_bias, true);
  w.k = make.Linear(name("self_attn.k_proj", "attn_k"), key, hidden, qkv_bias, true);
  w.v = make.Linear(name("self_attn.v_proj", "attn_v"), key, hidden, qkv_bias, false);
  if (config.qk_norm) {
    w.q_norm = make.Norm(name("self_attn.q_norm", "attn_q_norm"), config.head_dim);
    w.k_norm = make.Norm(name("self_attn.k_norm", "attn_k_norm"), config.head_dim);
  }
  w.o = make.Linear(name("self_attn.o_proj", "attn_output"), hidden, query, config.o_bias, false);
  w.mlp_norm = make.Norm(name("post_attention_layernorm", "ffn_norm"), hidden);
  w.gate = make.Linear(name("mlp.gate_proj", "ffn_gate"), inner, hidden, config.mlp_bias, false);
  w.up = make.Linear(name("mlp.up_proj", "ffn_up"), inner, hidden, config.mlp_bias, false);
  w.down = make.Linear(name("mlp.down_proj", "ffn_down"), hidden, inner, config.mlp_bias, false);
  return w;
}

}  // namespace

LlamaTensors MakeLlamaTensors(const ModelConfig& config) {
  LlamaTensors tensors;
  TableMaker make(&tensors.table);
  const int64_t hidden = config.hidden_size;
  tensors.embedding = make.Matrix({"model.embed_tokens", "token_embd"}, config.vocab_size, hidden);
  for (int64_t i = 0; i < config.layers; ++i) {
    tensors.blocks.push_back(MakeBlock(config, i, make));
  }
  tensors.final_norm = make.Norm({"model.norm", "output_norm"}, hidden);
  tensors.head = config.tie_embeddings
                     ? tensors.embedding
                     : make.Matrix({"lm_head", "output"}, config.vocab_size, hidden);
  return tensors;
}

int SiteOf(const LlamaTensors& tensors, int tensor) {
  const int blocks = static_cast<int>(tensors.blocks.size());
  if (tensor == tensors.head) return kSitesPerBlock * blocks;
  for (int b = 0; b < blocks; ++b) {
    const LlamaBlockTensors& w = tensors.blocks[b];
    const auto at = [b](Site site) { return kSitesPerBlock * b + static_cast<int>(site); };
    if (tensor == w.q.weight || tensor == w.k.weight || tensor == w.v.weight) {
      return at(Site::kAttention);
    }
    if (tensor == w.o.weight) return at(Site::kO);
    if (tensor == w.gate.weight || tensor == w.up.weight) return at(Site::kMlp);
    if (tensor == w.down.weight) return at(Site::kDown);
  }
  return -1;
}

std::vector<int> BackwardOrder(const LlamaBlockTensors& block) {
  std::vector<int> order;
  const auto add = [&](int tensor) {
    if (tensor >= 0) order.push_back(tensor);
  };
  const auto linear = [&](const LinearTensors& tensors) {
    add(tensors.bias);
    add(tensors.weight);
  };
  linear(block.down);
  linear(block.gate);
  linear(block.up);
  add(block.mlp_norm);
  linear(block.o);
  add(block.q_norm);
  add(block.k_norm);
  linear(block.q);
  linear(block.k);
  linear(block.v);
  add(block.attention_norm);
  return order;
}

}  // namespace qft
