#include "bindings/cli/named_shapes.h"

#include <filesystem>

#include "bindings/cli/files.h"
#include "bindings/cli/model_path.h"

namespace qft::cli {
namespace {

struct NamedShape {
  const char* name;
  const char* config;  // Hugging Face config.json
};

constexpr NamedShape kShapes[] = {
    {"llama-7b",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000,
         "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 2048,
         "rms_norm_eps": 1e-6})"},
    {"llama-13b",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000,
         "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
         "num_attention_heads": 40, "num_key_value_heads": 40, "max_position_embeddings": 2048,
         "rms_norm_eps": 1e-6})"},
    {"llama-33b",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000,
         "hidden_size": 6656, "intermediate_size": 17920, "num_hidden_layers": 60,
         "num_attention_heads": 52, "num_key_value_heads": 52, "max_position_embeddings": 2048,
         "rms_norm_eps": 1e-6})"},
    {"llama-65b",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000,
         "hidden_size": 8192, "intermediate_size": 22016, "num_hidden_layers": 80,
         "num_attention_heads": 64, "num_key_value_heads": 64, "max_position_embeddings": 2048,
         "rms_norm_eps": 1e-5})"},
    {"llama-2-7b",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000,
         "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096,
         "rms_norm_eps": 1e-5})"},
    {"llama-2-13b",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000,
         "hidden_size": 5120, "intermediate_size": 13824, "num_hidden_layers": 40,
         "num_attention_heads": 40, "num_key_value_heads": 40, "max_position_embeddings": 4096,
         "rms_norm_eps": 1e-5})"},
    {"llama-2-70b",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 32000,
         "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
         "num_attention_heads": 64, "num_key_value_heads": 8, "max_position_embeddings": 4096,
         "rms_norm_eps": 1e-5})"},
    {"llama-3-8b",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256,
         "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192,
         "rms_norm_eps": 1e-5, "rope_theta": 500000.0})"},
    {"llama-3.1-8b",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256,
         "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072,
         "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3",
         "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 8192}})"},
    {"llama-3.2-1b",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 128256,
         "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64,
         "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 131072,
         "rms_norm_eps": 1e-5, "rope_theta": 500000.0, "tie_word_embeddings": true})"},
    {"mistral-7b",
     R"({"architectures": ["MistralForCausalLM"], "model_type": "mistral", "vocab_size": 32768,
         "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 32768,
         "rms_norm_eps": 1e-5, "rope_theta": 1000000.0, "sliding_window": null})"},
    {"qwen2.5-7b",
     R"({"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "vocab_size": 152064,
         "hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28,
         "num_attention_heads": 28, "num_key_value_heads": 4, "max_position_embeddings": 131072,
         "rms_norm_eps": 1e-6, "rope_theta": 1000000.0})"},
    {"qwen3-8b",
     R"({"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "vocab_size": 151936,
         "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
         "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128,
         "max_position_embeddings": 40960, "rms_norm_eps": 1e-6, "rope_theta": 1000000.0})"},
    {"smollm2-135m",
     R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 49152,
         "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30,
         "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 8192,
         "rms_norm_eps": 1e-5, "rope_theta": 100000.0, "tie_word_embeddings": true})"},
};

// The config.json of a name, a folder or a file.
std::string ReadConfig(const std::string& model) {
  for (const NamedShape& shape : kShapes) {
    if (model == shape.name) return shape.config;
  }
  std::filesystem::path path = FindModel(model);
  if (std::filesystem::is_directory(path)) path /= "config.json";
  if (!std::filesystem::exists(path)) {
    throw Usage("--model " + model + ": neither a folder with config.json nor one of " +
                ShapeNames());
  }
  return ReadText(path.string(), kMaxConfigBytes);
}

}  // namespace

std::string ShapeNames() {
  std::string names;
  for (const NamedShape& shape : kShapes) {
    names += (names.empty() ? "" : ", ") + std::string(shape.name);
  }
  return names;
}

Model RandomModel(const std::string& model) {
  const std::string config = ReadConfig(model);
  return Make<Model>(qft_model_create_random, config.data(), config.size(), uint64_t{0});
}

}  // namespace qft::cli
