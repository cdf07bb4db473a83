// The model and the batches that these tests use, as plain data.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace qft {

struct LlamaShape {
  std::string family = "llama";  // the config.json's model_type
  bool attention_bias = false;   // keys of config.json
  bool mlp_bias = false;
  int vocabulary = 96;
  int hidden = 32;
  int inner = 48;
  int layers = 2;
  int heads = 4;
  int kv_heads = 2;
  int head_dim = 8;
  bool tied = false;
  double epsilon = 1e-5;
  double rope_theta = 10000.0;

  std::string Json() const;
};

// Small models of the families that compute what LLaMA does not.
LlamaShape Qwen2Shape();
LlamaShape Qwen3Shape();
LlamaShape SmolLm3Shape();  // its second layer does not rotate
// LLaMA with every bias that a configuration may ask for.
LlamaShape BiasedShape();
// Heads, of q and of k, in rows that begin at no multiple of 16 bytes: of 100 features, as in
// OpenLLaMA 3B, and of 10, normed.
LlamaShape HeadDim100Shape();
LlamaShape HeadDim10Shape();

// A micro-batch that owns its arrays. Empty vectors stand for NULL.
struct TestBatch {
  std::vector<int32_t> tokens;
  std::vector<int32_t> targets;
  std::vector<float> weights;
  std::vector<int32_t> documents;

  int64_t size() const { return static_cast<int64_t>(tokens.size()); }
};

// Random tokens below `vocabulary`, in documents of the given lengths.
TestBatch RandomBatch(int vocabulary, const std::vector<int>& lengths, uint32_t seed);

}  // namespace qft
