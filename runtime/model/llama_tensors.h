// The tensors of a model of a family, named once, in the order of the forward pass.
#pragma once

#include <vector>

#include "runtime/model/model_config.h"
#include "runtime/state/tensor_table.h"

namespace qft {

// Indices into the tensor table; -1: the model has no such tensor.
struct LinearTensors {
  int weight = -1;
  int bias = -1;
};

struct LlamaBlockTensors {
  int attention_norm = -1;
  LinearTensors q, k, v, o;
  int q_norm = -1;
  int k_norm = -1;
  int mlp_norm = -1;
  LinearTensors gate, up, down;
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

// Where matmul operands with critical features of their own arise, four a block and the head's.
enum class Site { kAttention = 0, kO = 1, kMlp = 2, kDown = 3 };
inline constexpr int kSitesPerBlock = 4;

// The site whose operand a tensor is multiplied with: kSitesPerBlock * block + site, after the
// blocks the head's; -1: it is not part of a matmul.
int SiteOf(const LlamaTensors& tensors, int tensor);

// The tensors of one block in the order in which backward finishes their gradients.
std::vector<int> BackwardOrder(const LlamaBlockTensors& block);

}  // namespace qft
