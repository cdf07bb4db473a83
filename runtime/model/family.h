// The families of models that libqft computes: LLaMA and what differs from it in a few places. A
// family is one file in families/ that says what differs; docs/adding_a_family.md.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string_view>

#include "base/status.h"

namespace qft {

struct ModelConfig;

// Biases of linear layers: none, always, or where the key of config.json says so.
enum class Bias { kNever, kAlways, kByKey };

// Whether a token sees at most `sliding_window` tokens: never; where that key has a number; where
// use_sliding_window is set too, for layers from max_window_layers on.
enum class Window { kNever, kByNumber, kBySwitch };

// Keys of config.json that one family alone has.
struct FamilyKeys {
  std::span<const std::string_view> names;
  // After everything else was read and before it is checked.
  Status (*read)(const nlohmann::json& root, ModelConfig* config) = nullptr;
  void (*write)(const ModelConfig& config, nlohmann::ordered_json* root) = nullptr;
};

struct Family {
  const char* architecture;                 // in config.json
  const char* model_type;                   // in config.json
  const char* alias = nullptr;              // another name of the architecture
  const char* gguf_architecture = nullptr;  // general.architecture; nullptr: not read from GGUF
  bool gguf_interleaves = false;            // GGUF holds the halves of q's and k's heads mixed
  Bias qkv_bias = Bias::kNever;             // key: attention_bias
  Bias o_bias = Bias::kNever;               // key: attention_bias
  Bias mlp_bias = Bias::kNever;             // key: mlp_bias
  bool qk_norm = false;                     // queries and keys are normed head by head
  Window window = Window::kNever;
  // What transformers assumes where config.json lacks the key.
  double rope_theta = 10000;
  int64_t kv_heads = 0;        // 0: num_attention_heads
  int64_t head_dim = 0;        // 0: hidden_size / num_attention_heads
  int64_t sliding_window = 0;  // 0: none; of kByNumber
  bool tie_embeddings = false;
  FamilyKeys keys = {};
};

extern const Family kLlama;
extern const Family kMistral;
extern const Family kQwen2;
extern const Family kQwen3;
extern const Family kSmolLm3;

std::span<const Family* const> Families();

}  // namespace qft
