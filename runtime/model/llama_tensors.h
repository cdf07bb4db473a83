// The tensors of a LlamaForCausalLM, named once, in the order of the forward pass.
#pragma once

#include <vector>

#include "runtime/model/model_config.h"
#include "runtime/state/tensor_table.h"

namespace qft {

// Indices into the tensor table.
struct LlamaBlockTensors {
  int attention_norm, q, k, v, o;
  int mlp_norm, gate, up, down;
};

struct LlamaTensors {
  TensorTable table;
  int embedding = -1;
  std::vector<LlamaBlockTensors> blocks;
  int final_norm = -1;
  int head = -1;  // the embedding when tied

  bool tied() const { return head == embedding; }
};

LlamaTensors MakeLlamaTensors(const ModelConfig& config);

// The tensors of one block in the order in which backward finishes their gradients.
std::vector<int> BackwardOrder(const LlamaBlockTensors& block);

}  // namespace qft
