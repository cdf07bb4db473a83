#include "runtime/model/model_config.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/runtime/model/sample_config.h"

namespace qft {
namespace {

using nlohmann::json;

// Keys of config.json files that were published with models, without what only notes.
struct Published {
  const char* name;
  const char* text;
  std::function<void(ModelConfig&)> change;  // of what all have in common
};

ModelConfig CommonConfig(const Family& family) {
  ModelConfig config;
  config.family = &family;
  config.hidden_size = 4096;
  config.intermediate_size = 11008;
  config.layers = 32;
  config.heads = 32;
  config.kv_heads = 32;
  config.head_dim = 128;
  config.rms_norm_epsilon = 1e-6;
  config.rope_theta = 10000;
  return config;
}

const std::vector<Published>& PublishedConfigs() {
  static const auto* const configs = new std::vector<Published>{
      {"LLaMA 1, as first converted",
       R"({"architectures": ["LLaMAForCausalLM"], "bos_token_id": 0, "eos_token_id": 1,
           "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 11008,
           "initializer_range": 0.02, "max_sequence_length": 2048, "model_type": "llama",
           "num_attention_heads": 32, "num_hidden_layers": 32, "pad_token_id": -1,
           "rms_norm_eps": 1e-06, "torch_dtype": "float16",
           "transformers_version": "4.27.0.dev0", "use_cache": true, "vocab_size": 32000})",
       [](ModelConfig& c) {
         c.vocab_size = 32000;
         c.max_position = 2048;
         c.bos_token = 0;
         c.eos_tokens = {1};
       }},
      {"TinyLlama",
       R"({"architectures": ["LlamaForCausalLM"], "attention_bias": false, "bos_token_id": 1,
           "eos_token_id": 2, "hidden_act": "silu", "hidden_size": 2048,
           "initializer_range": 0.02, "intermediate_size": 5632,
           "max_position_embeddings": 2048, "model_type": "llama", "num_attention_heads": 32,
           "num_hidden_layers": 22, "num_key_value_heads": 4, "pretraining_tp": 1,
           "rms_norm_eps": 1e-05, "rope_scaling": null, "rope_theta": 10000.0,
           "tie_word_embeddings": false, "torch_dtype": "bfloat16",
           "transformers_version": "4.35.0", "use_cache": true, "vocab_size": 32000})",
       [](ModelConfig& c) {
         c.vocab_size = 32000;
         c.hidden_size = 2048;
         c.intermediate_size = 5632;
         c.layers = 22;
         c.kv_heads = 4;
         c.head_dim = 64;
         c.max_position = 2048;
         c.rms_norm_epsilon = 1e-5;
         c.bos_token = 1;
         c.eos_tokens = {2};
       }},
      {"Yi",
       R"({"architectures": ["LlamaForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
           "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
           "intermediate_size": 11008, "max_position_embeddings": 4096, "model_type": "llama",
           "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 4,
           "pad_token_id": 0, "rms_norm_eps": 1e-05, "rope_theta": 5000000.0,
           "tie_word_embeddings": false, "torch_dtype": "bfloat16",
           "transformers_version": "4.34.0", "use_cache": true, "vocab_size": 64000})",
       [](ModelConfig& c) {
         c.vocab_size = 64000;
         c.kv_heads = 4;
         c.max_position = 4096;
         c.rms_norm_epsilon = 1e-5;
         c.rope_theta = 5000000;
         c.bos_token = 1;
         c.eos_tokens = {2};
         c.pad_token = 0;
       }},
      {"Qwen2.5",
       R"({"architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0,
           "bos_token_id": 151643, "eos_token_id": 151643, "hidden_act": "silu",
           "hidden_size": 3584, "initializer_range": 0.02, "intermediate_size": 18944,
           "max_position_embeddings": 131072, "max_window_layers": 28, "model_type": "qwen2",
           "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4,
           "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072,
           "tie_word_embeddings": false, "torch_dtype": "bfloat16",
           "transformers_version": "4.40.1", "use_cache": true, "use_mrope": null,
           "use_sliding_window": false, "vocab_size": 152064})",
       [](ModelConfig& c) {
         c.family = &kQwen2;
         c.vocab_size = 152064;
         c.hidden_size = 3584;
         c.intermediate_size = 18944;
         c.layers = c.heads = 28;
         c.kv_heads = 4;
         c.max_position = 131072;
         c.rope_theta = 1000000;
         c.qkv_bias = true;
         c.bos_token = 151643;
         c.eos_tokens = {151643};
       }},
      {"Qwen3",
       R"({"architectures": ["Qwen3ForCausalLM"], "attention_bias": false,
           "attention_dropout": 0.0, "bos_token_id": 151643, "eos_token_id": 151645,
           "head_dim": 128, "hidden_act": "silu", "hidden_size": 2560,
           "initializer_range": 0.02, "intermediate_size": 9728,
           "max_position_embeddings": 40960, "max_window_layers": 36, "model_type": "qwen3",
           "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8,
           "rms_norm_eps": 1e-06, "rope_scaling": null, "rope_theta": 1000000,
           "sliding_window": null, "tie_word_embeddings": true, "torch_dtype": "bfloat16",
           "transformers_version": "4.51.0", "use_cache": true, "use_sliding_window": false,
           "vocab_size": 151936})",
       [](ModelConfig& c) {
         c.family = &kQwen3;
         c.vocab_size = 151936;
         c.hidden_size = 2560;
         c.intermediate_size = 9728;
         c.layers = 36;
         c.kv_heads = 8;
         c.max_position = 40960;
         c.rope_theta = 1000000;
         c.qk_norm = c.tie_embeddings = true;
         c.bos_token = 151643;
         c.eos_tokens = {151645};
       }},
      {"Mistral",
       R"({"architectures": ["MistralForCausalLM"], "bos_token_id": 1, "eos_token_id": 2,
           "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
           "intermediate_size": 14336, "max_position_embeddings": 32768,
           "model_type": "mistral", "num_attention_heads": 32, "num_hidden_layers": 32,
           "num_key_value_heads": 8, "rms_norm_eps": 1e-05, "rope_theta": 10000.0,
           "sliding_window": 4096, "tie_word_embeddings": false, "torch_dtype": "bfloat16",
           "transformers_version": "4.34.0.dev0", "use_cache": true, "vocab_size": 32000})",
       [](ModelConfig& c) {
         c.family = &kMistral;
         c.vocab_size = 32000;
         c.intermediate_size = 14336;
         c.kv_heads = 8;
         c.max_position = 32768;
         c.rms_norm_epsilon = 1e-5;
         c.sliding_window = 4096;
         c.bos_token = 1;
         c.eos_tokens = {2};
       }}};
  return *configs;
}

TEST(Families, ReadPublishedConfigurations) {
  for (const Published& published : PublishedConfigs()) {
    ModelConfig expected = CommonConfig(kLlama);
    published.change(expected);
    const auto config = ParseHuggingFaceConfig(published.text, "c");
    ASSERT_TRUE(config.ok()) << published.name << config.status();
    EXPECT_TRUE(*config == expected) << published.name;
    const auto again = ParseHuggingFaceConfig(ToHuggingFaceJson(*config, "bfloat16"), "c");
    ASSERT_TRUE(again.ok()) << published.name << again.status();
    EXPECT_TRUE(*again == *config) << published.name;
  }
}

json FamilyJson(const Family& family) {
  json root = SampleJson();
  root["architectures"] = {family.architecture};
  root["model_type"] = family.model_type;
  return root;
}

StatusOr<ModelConfig> ParseAs(const Family& family, const json& changes) {
  json root = FamilyJson(family);
  root.update(changes);
  return Parse(root);
}

TEST(Families, BiasesAreAsTheFamilyHasThem) {
  struct Case {
    const Family* family;
    json keys;
    bool qkv, o, mlp;
  };
  const Case cases[] = {{&kLlama, json::object(), false, false, false},
                        {&kLlama, {{"attention_bias", true}}, true, true, false},
                        {&kLlama, {{"mlp_bias", true}}, false, false, true},
                        {&kQwen2, json::object(), true, false, false},
                        {&kQwen2, {{"attention_bias", true}}, true, false, false},
                        {&kQwen3, {{"attention_bias", true}}, true, true, false},
                        {&kMistral, {{"attention_bias", false}}, false, false, false}};
  for (const Case& c : cases) {
    const auto config = ParseAs(*c.family, c.keys);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->qkv_bias, c.qkv) << c.keys;
    EXPECT_EQ(config->o_bias, c.o) << c.keys;
    EXPECT_EQ(config->mlp_bias, c.mlp) << c.keys;
    const auto again = ParseHuggingFaceConfig(ToHuggingFaceJson(*config, "bfloat16"), "c");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(*again == *config) << c.keys;
  }
}

TEST(Families, AWindowIsASwitchForQwen) {
  struct Case {
    json keys;
    int64_t window;  // -1: refused
  };
  const Case cases[] = {
      {{{"sliding_window", 64}}, 0},
      {{{"use_sliding_window", false}, {"sliding_window", 64}, {"max_window_layers", 1}}, 0},
      {{{"use_sliding_window", true}, {"sliding_window", 64}, {"max_window_layers", 0}}, 64},
      {{{"use_sliding_window", true}, {"sliding_window", 64}, {"max_window_layers", 2}}, 0},
      {{{"use_sliding_window", true}, {"sliding_window", 64}, {"max_window_layers", 1}}, -1},
      {{{"use_sliding_window", true}, {"sliding_window", 64}}, -1},
      {{{"use_sliding_window", true}, {"max_window_layers", 0}}, -1},
      {{{"use_sliding_window", 1}}, -1},
      {{{"layer_types", {"full_attention", "sliding_attention"}}}, -1}};
  for (const Family* family : {&kQwen2, &kQwen3}) {
    for (const Case& c : cases) {
      const auto config = ParseAs(*family, c.keys);
      EXPECT_EQ(config.ok(), c.window >= 0) << c.keys << config.status();
      if (!config.ok()) continue;
      EXPECT_EQ(config->sliding_window, c.window) << c.keys;
      const auto again = ParseHuggingFaceConfig(ToHuggingFaceJson(*config, "bfloat16"), "c");
      ASSERT_TRUE(again.ok()) << again.status();
      EXPECT_TRUE(*again == *config) << c.keys;
    }
  }
}

TEST(Families, HeadDimensionsOfTheirOwn) {
  EXPECT_EQ(ParseAs(kQwen3, json::object())->head_dim, 128) << "where the file says nothing";
  EXPECT_EQ(ParseAs(kQwen2, json::object())->head_dim, 16);
  const json odd = {{"num_attention_heads", 5}, {"num_key_value_heads", 5}, {"head_dim", 24}};
  for (const Family* family : Families()) {
    const auto config = ParseAs(*family, odd);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->head_dim, 24);
  }
}

TEST(Families, SmolLm3LeavesLayersUnrotated) {
  struct Case {
    json keys;
    std::vector<int64_t> unrotated;
  };
  const Case cases[] = {{json::object(), {3}},
                        {{{"no_rope_layer_interval", 2}}, {1, 3}},
                        {{{"no_rope_layers", {0, 1, 1, 0, 1}}}, {0, 3}},
                        {{{"no_rope_layers", {1, 1, 1, 1, 1}}}, {}}};
  for (const Case& c : cases) {
    json keys = c.keys;
    keys["num_hidden_layers"] = 5;
    const auto config = ParseAs(kSmolLm3, keys);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->unrotated_layers, c.unrotated) << keys;
    const auto again = ParseHuggingFaceConfig(ToHuggingFaceJson(*config, "bfloat16"), "c");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(*again == *config) << keys;
  }
}

// What transformers assumes is the family's; null is not absent.
TEST(Families, AbsentKeys) {
  const auto parse = [](const Family& family, const char* key, bool null) {
    json root = FamilyJson(family);
    root["num_attention_heads"] = root["num_key_value_heads"] = 32;
    root.erase(key);
    if (null) root[key] = nullptr;
    return Parse(root);
  };
  EXPECT_EQ(parse(kLlama, "num_key_value_heads", false)->kv_heads, 32);
  EXPECT_EQ(parse(kMistral, "num_key_value_heads", false)->kv_heads, 8);
  EXPECT_EQ(parse(kMistral, "num_key_value_heads", true)->kv_heads, 32);
  EXPECT_EQ(parse(kMistral, "sliding_window", false)->sliding_window, 4096);
  EXPECT_EQ(parse(kMistral, "sliding_window", true)->sliding_window, 0);
  EXPECT_EQ(parse(kQwen2, "sliding_window", false)->sliding_window, 0);
  EXPECT_EQ(parse(kLlama, "rope_theta", false)->rope_theta, 10000);
  EXPECT_FALSE(parse(kQwen3, "tie_word_embeddings", false)->tie_embeddings);
}

// Each is refused, and the message names the key.
TEST(Families, RefuseByNameWhatTheyDoNotCompute) {
  struct Case {
    const Family* family;
    const char* key;
    json value;
    ErrorCode code;
  };
  constexpr ErrorCode kUnsupported = ErrorCode::kUnsupported;
  constexpr ErrorCode kBadData = ErrorCode::kBadData;
  const Case cases[] = {
      {&kLlama, "embedding_multiplier", 12, kUnsupported},
      {&kLlama, "attention_multiplier", 0.015625, kUnsupported},
      {&kLlama, "logits_scaling", 8, kUnsupported},
      {&kLlama, "residual_multiplier", 0.22, kUnsupported},
      {&kLlama, "final_logit_softcapping", 30.0, kUnsupported},
      {&kLlama, "num_local_experts", 8, kUnsupported},
      {&kLlama, "no_rope_layers", {1, 0}, kUnsupported},
      {&kLlama, "clip_qkv", 8.0, kUnsupported},
      {&kLlama, "use_qk_norm", true, kUnsupported},
      {&kLlama, "auto_map", {{"AutoModelForCausalLM", "modeling.Llama"}}, kUnsupported},
      {&kLlama, "rope_interleaved", true, kUnsupported},
      {&kLlama, "is_decoder", true, kUnsupported},
      {&kLlama, "attention_bias", "yes", kBadData},
      {&kLlama, "mlp_bias", 1, kBadData},
      {&kLlama, "hidden_act", "gelu_pytorch_tanh", kUnsupported},
      {&kLlama, "use_sliding_window", true, kUnsupported},
      {&kMistral, "attention_bias", true, kUnsupported},
      {&kMistral, "mlp_bias", true, kUnsupported},
      {&kMistral, "sliding_window", -1, kBadData},
      {&kMistral, "sliding_window", "64", kBadData},
      {&kQwen2, "mlp_bias", true, kUnsupported},
      {&kQwen2, "use_mrope", true, kUnsupported},
      {&kQwen2, "num_experts", 60, kUnsupported},
      {&kQwen2, "rope_scaling", {{"rope_type", "su"}, {"factor", 2}}, kUnsupported},
      {&kQwen2, "rope_scaling", {{"mrope_section", {16, 24, 24}}}, kUnsupported},
      {&kQwen3, "mlp_bias", true, kUnsupported},
      {&kSmolLm3, "no_rope_layers", {1}, kBadData},
      {&kSmolLm3, "no_rope_layers", {1, 2}, kBadData},
      {&kSmolLm3, "no_rope_layers", "all", kBadData},
      {&kSmolLm3, "no_rope_layer_interval", 0, kBadData},
      {&kSmolLm3, "use_sliding_window", true, kUnsupported},
      {&kQwen3, "head_dim", 33, kBadData},
      {&kQwen3, "head_dim", 0, kBadData},
      {&kQwen3, "num_key_value_heads", 3, kBadData},
      {&kQwen3, "model_type", "qwen2", kUnsupported},
      {&kQwen3, "quantization_config", {{"quant_method", "fp8"}}, kUnsupported}};
  for (const Case& c : cases) {
    const Status status = ParseAs(*c.family, {{c.key, c.value}}).status();
    EXPECT_EQ(GetErrorInfo(status).code, c.code) << c.key << " " << c.value << status;
    // A head dimension or a number of heads is named in words.
    const bool in_words = std::string(c.key).find("head") != std::string::npos;
    EXPECT_TRUE(in_words || status.message().find(c.key) != absl::string_view::npos) << status;
  }
}

TEST(Families, KeysThatAreNoTextAreShownEscaped) {
  const auto config = ParseWith("line\nbreak", 1);
  EXPECT_NE(config.status().message().find("line\\nbreak"), absl::string_view::npos)
      << config.status();
}

}  // namespace
}  // namespace qft
