// The shape of a LLaMA-family model, from a Hugging Face config.json or from GGUF metadata.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "runtime/data/gguf.h"
#include "runtime/model/family.h"
#include "runtime/model/rope.h"

namespace qft {

struct ModelConfig {
  const Family* family = &kLlama;
  std::string name;  // may be empty
  int64_t vocab_size = 0;
  int64_t hidden_size = 0;
  int64_t intermediate_size = 0;
  int64_t layers = 0;
  int64_t heads = 0;
  int64_t kv_heads = 0;
  int64_t head_dim = 0;
  int64_t max_position = 0;
  double rms_norm_epsilon = 0;
  double rope_theta = 0;
  RopeScaling rope_scaling;
  int64_t sliding_window = 0;  // most tokens that a token sees, itself included; 0: its whole past
  bool qkv_bias = false;
  bool o_bias = false;
  bool mlp_bias = false;                  // of gate, up and down
  bool qk_norm = false;                   // queries and keys are normed head by head
  std::vector<int64_t> unrotated_layers;  // without rotary embeddings; ascending
  bool tie_embeddings = false;
  std::optional<int64_t> bos_token;
  std::vector<int64_t> eos_tokens;
  std::optional<int64_t> pad_token;

  bool operator==(const ModelConfig&) const = default;
};

// What every configuration must fulfil, whatever it comes from: sizes are positive and below limits
// far above any model, so that a corrupt number is refused before memory is taken for it.
Status CheckModelConfig(const ModelConfig& config);

// The content of a config.json; `what` names it in errors. Architectures of family.h; a key that
// changes the model's function in a way libqft does not compute, or that it does not know, is
// refused by its name.
StatusOr<ModelConfig> ParseHuggingFaceConfig(std::string_view text, const std::string& what);

// Architectures of family.h; every key of the architecture must be one that is understood. Where
// the metadata has no vocabulary size, the embedding's shape tells it; embeddings are tied where
// there is no head, linear layers have biases where the first block has them. `what` names the file
// in errors.
// The tensor of a GGUF file that holds what the frequencies of llama3's rotary scaling are divided
// by; ParseGgufConfig finds the scaling that it belongs to.
inline constexpr char kRopeFactors[] = "rope_freqs.weight";
StatusOr<ModelConfig> ParseGgufConfig(const GgufFile& file, const std::string& what);

// A config.json that transformers loads; `dtype` is that of the weights beside it ("float32",
// "bfloat16").
std::string ToHuggingFaceJson(const ModelConfig& config, std::string_view dtype);

}  // namespace qft
