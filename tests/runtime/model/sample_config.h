// A small configuration, as a config.json and as what is read of it.
#pragma once

#include "runtime/data/json.h"
#include "runtime/model/model_config.h"

namespace qft {

inline nlohmann::json SampleJson() {
  return nlohmann::json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-05, "hidden_act": "silu", "tie_word_embeddings": true,
    "bos_token_id": 1, "eos_token_id": 2, "rope_theta": 5000.0, "torch_dtype": "bfloat16"})");
}

inline ModelConfig SampleConfig() {
  ModelConfig config;
  config.vocab_size = 100;
  config.hidden_size = 64;
  config.intermediate_size = 96;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 16;
  config.max_position = 512;
  config.rms_norm_epsilon = 1e-5;
  config.rope_theta = 5000;
  config.tie_embeddings = true;
  config.bos_token = 1;
  config.eos_tokens = {2};
  return config;
}

inline StatusOr<ModelConfig> Parse(const nlohmann::json& root) {
  return ParseHuggingFaceConfig(root.dump(), "c");
}

inline StatusOr<ModelConfig> ParseWith(const char* key, const nlohmann::json& value) {
  nlohmann::json root = SampleJson();
  root[key] = value;
  return Parse(root);
}

}  // namespace qft
