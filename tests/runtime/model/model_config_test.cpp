#include "runtime/model/model_config.h"

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>
#include <string>

#include "runtime/data/json.h"
#include "tests/runtime/data/format_bytes.h"
#include "tests/runtime/data/memory_file_system.h"

namespace qft {
namespace {

using nlohmann::json;

json SampleJson() {
  return json::parse(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
    "rms_norm_eps": 1e-05, "hidden_act": "silu", "tie_word_embeddings": true,
    "bos_token_id": 1, "eos_token_id": 2, "rope_theta": 5000.0, "torch_dtype": "bfloat16"})");
}

ModelConfig SampleConfig() {
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

StatusOr<ModelConfig> Parse(const json& root) {
  return ParseHuggingFaceConfig(root.dump(), "c");
}

StatusOr<ModelConfig> ParseWith(const char* key, const json& value) {
  json root = SampleJson();
  root[key] = value;
  return Parse(root);
}

void ExpectRefused(const char* key, const json& value, ErrorCode code) {
  const auto config = ParseWith(key, value);
  ASSERT_FALSE(config.ok()) << key << " " << value;
  EXPECT_EQ(GetErrorInfo(config.status()).code, code) << config.status();
  EXPECT_NE(config.status().message().find(key), absl::string_view::npos) << config.status();
}

TEST(HuggingFaceConfig, ReadsEveryField) {
  const auto config = Parse(SampleJson());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(*config == SampleConfig());
}

TEST(HuggingFaceConfig, Defaults) {
  json root = SampleJson();
  for (const char* key : {"num_key_value_heads", "rope_theta", "tie_word_embeddings", "hidden_act",
                          "bos_token_id", "eos_token_id", "model_type"}) {
    root.erase(key);
  }
  const auto config = Parse(root);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->kv_heads, 4);
  EXPECT_EQ(config->rope_theta, 10000);
  EXPECT_FALSE(config->tie_embeddings);
  EXPECT_FALSE(config->bos_token.has_value());
  EXPECT_TRUE(config->eos_tokens.empty());
}

TEST(HuggingFaceConfig, AcceptsWhatChangesNothing) {
  const std::pair<const char*, json> harmless[] = {
      {"rope_scaling", nullptr},
      {"rope_scaling", {{"type", "default"}}},
      {"rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5000}}},
      {"attention_bias", false},
      {"pretraining_tp", 1},
      {"attention_dropout", 0.0},
      {"sliding_window", nullptr},
      {"layer_types", {"full_attention", "full_attention"}},
      {"pad_token_id", -1},
      {"head_dim", nullptr},
      {"dtype", "float32"},
      {"use_cache", true},
      {"initializer_range", 0.02}};
  for (const auto& [key, value] : harmless) {
    const auto config = ParseWith(key, value);
    ASSERT_TRUE(config.ok()) << key << config.status();
    EXPECT_TRUE(*config == SampleConfig()) << key;
  }
}

TEST(HuggingFaceConfig, ReadsOptionalForms) {
  EXPECT_EQ(ParseWith("head_dim", 32)->head_dim, 32);
  EXPECT_EQ(ParseWith("eos_token_id", {2, 5})->eos_tokens, (std::vector<int64_t>{2, 5}));
  EXPECT_EQ(ParseWith("pad_token_id", 3)->pad_token, 3);
  EXPECT_EQ(ParseWith("_name_or_path", "someone/model")->name, "someone/model");
  json root = SampleJson();
  root.erase("rope_theta");
  root["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 7e5}};
  EXPECT_EQ(Parse(root)->rope_theta, 7e5);
}

TEST(HuggingFaceConfig, RefusesByKeyWhatItDoesNotCompute) {
  const std::pair<const char*, json> unsupported[] = {
      {"architectures", {"GPT2LMHeadModel"}},
      {"architectures", {"LlamaForCausalLM", "Other"}},
      {"architectures", "LlamaForCausalLM"},
      {"model_type", "mistral"},
      {"hidden_act", "gelu"},
      {"pretraining_tp", 2},
      {"attention_dropout", 0.1},
      {"partial_rotary_factor", 0.5},
      {"sliding_window", 4096},
      {"use_sliding_window", true},
      {"quantization_config", {{"quant_method", "gptq"}}},
      {"layer_types", {"full_attention", "sliding_attention"}},
      {"rope_scaling", {{"rope_type", "longrope"}, {"factor", 8.0}}},
      {"rope_scaling", {{"type", "linear"}, {"factor", 2.0}, {"beta_fast", 32}}},
      {"rope_scaling", {{"factor", 2.0}}},
      {"rope_parameters", {{"rope_type", "default"}, {"partial_rotary_factor", 0.5}}}};
  for (const auto& [key, value] : unsupported) {
    ExpectRefused(key, value, ErrorCode::kUnsupported);
  }
}

TEST(HuggingFaceConfig, RefusesMissingKeys) {
  for (const char* key :
       {"architectures", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "max_position_embeddings", "rms_norm_eps"}) {
    json root = SampleJson();
    root.erase(key);
    const auto config = Parse(root);
    ASSERT_FALSE(config.ok()) << key;
    EXPECT_NE(config.status().message().find(key), absl::string_view::npos) << config.status();
    ExpectRefused(key, nullptr, ErrorCode::kBadData);
  }
}

TEST(HuggingFaceConfig, RefusesWrongTypes) {
  const std::pair<const char*, json> wrong[] = {{"vocab_size", "100"},
                                                {"vocab_size", 100.5},
                                                {"vocab_size", json::array({100})},
                                                {"num_hidden_layers", true},
                                                {"rms_norm_eps", "1e-5"},
                                                {"rope_theta", "x"},
                                                {"rope_scaling", 2},
                                                {"tie_word_embeddings", "yes"},
                                                {"eos_token_id", "2"},
                                                {"eos_token_id", {2, "3"}},
                                                {"bos_token_id", json::object()}};
  for (const auto& [key, value] : wrong) ExpectRefused(key, value, ErrorCode::kBadData);
}

TEST(HuggingFaceConfig, RefusesAbsurdValues) {
  for (const char* key :
       {"vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
        "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    for (const json& value : {json(0), json(-1), json(int64_t{1} << 60), json(~uint64_t{0}),
                              json(std::numeric_limits<int64_t>::min())}) {
      EXPECT_EQ(GetErrorInfo(ParseWith(key, value).status()).code, ErrorCode::kBadData)
          << key << value;
    }
  }
  const std::pair<const char*, json> absurd[] = {
      {"num_key_value_heads", 3}, {"num_attention_heads", 5}, {"head_dim", 15},
      {"rms_norm_eps", 0},        {"rms_norm_eps", -1e-5},    {"rms_norm_eps", 1e30},
      {"rope_theta", 0},          {"rope_theta", -1},         {"rope_theta", 1e300},
      {"bos_token_id", 100},      {"eos_token_id", -2},       {"pad_token_id", 1000}};
  for (const auto& [key, value] : absurd) {
    EXPECT_EQ(GetErrorInfo(ParseWith(key, value).status()).code, ErrorCode::kBadData)
        << key << value;
  }
}

TEST(HuggingFaceConfig, RefusesContradictingRotaryBases) {
  ExpectRefused("rope_parameters", {{"rope_theta", 1000.0}}, ErrorCode::kBadData);
  ExpectRefused("rope_scaling", {{"type", "linear"}, {"rope_type", "yarn"}, {"factor", 2.0}},
                ErrorCode::kBadData);
}

TEST(HuggingFaceConfig, MistralMayHaveAWindow) {
  json root = SampleJson();
  root["architectures"] = {"MistralForCausalLM"};
  root["model_type"] = "mistral";
  for (const json& window : {json(nullptr), json(48)}) {
    root["sliding_window"] = window;
    const auto config = Parse(root);
    ASSERT_TRUE(config.ok()) << config.status();
    EXPECT_EQ(config->family, &kMistral);
    EXPECT_EQ(config->sliding_window, window.is_null() ? 0 : 48);
    const auto again = ParseHuggingFaceConfig(ToHuggingFaceJson(*config, "bfloat16"), "c");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(*again == *config);
  }
  root["layer_types"] = {"sliding_attention", "sliding_attention"};
  EXPECT_TRUE(Parse(root).ok());
  root["layer_types"] = {"full_attention", "sliding_attention"};
  EXPECT_FALSE(Parse(root).ok());
  root.erase("layer_types");
  root["sliding_window"] = 0;
  EXPECT_FALSE(Parse(root).ok());
  root["sliding_window"] = 48;
  root["model_type"] = "llama";
  EXPECT_FALSE(Parse(root).ok());
}

// --- families ---

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

json Llama3Rope() {
  return {{"rope_type", "llama3"},
          {"factor", 8.0},
          {"low_freq_factor", 1.0},
          {"high_freq_factor", 4.0},
          {"original_max_position_embeddings", 64}};
}

TEST(HuggingFaceConfig, ReadsEveryKindOfRotaryScaling) {
  const auto llama3 = ParseWith("rope_scaling", Llama3Rope());
  ASSERT_TRUE(llama3.ok()) << llama3.status();
  EXPECT_EQ(llama3->rope_scaling.kind, RopeKind::kLlama3);
  EXPECT_EQ(llama3->rope_scaling.original_max_position, 64);
  const auto linear = ParseWith("rope_scaling", {{"type", "linear"}, {"factor", 2.5}});
  ASSERT_TRUE(linear.ok()) << linear.status();
  EXPECT_EQ(linear->rope_scaling.kind, RopeKind::kLinear);
  EXPECT_EQ(linear->rope_scaling.factor, 2.5);
  const auto dynamic = ParseWith("rope_scaling", {{"type", "dynamic"}, {"factor", 2}});
  ASSERT_TRUE(dynamic.ok()) << dynamic.status();
  EXPECT_EQ(dynamic->rope_scaling.kind, RopeKind::kDynamic);
  const auto yarn = ParseWith("rope_parameters", {{"rope_type", "yarn"},
                                                  {"rope_theta", 5000},
                                                  {"factor", nullptr},
                                                  {"original_max_position_embeddings", 128}});
  ASSERT_TRUE(yarn.ok()) << yarn.status();
  EXPECT_EQ(yarn->rope_scaling.factor, 4) << "512 / 128";
}

TEST(HuggingFaceConfig, RefusesBrokenRotaryScaling) {
  for (const char* key :
       {"factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"}) {
    json without = Llama3Rope();
    without.erase(key);
    EXPECT_EQ(GetErrorInfo(ParseWith("rope_scaling", without).status()).code, ErrorCode::kBadData)
        << key;
    for (const json& value : {json("x"), json(0), json(-3), json(0.5)}) {
      if (key == std::string("low_freq_factor") && value == 0.5) continue;  // that is fine
      json broken = Llama3Rope();
      broken[key] = value;
      EXPECT_FALSE(ParseWith("rope_scaling", broken).ok()) << key << " " << value;
    }
  }
  EXPECT_FALSE(ParseWith("rope_scaling", {{"rope_type", "yarn"}, {"factor", 2}}).ok());
  EXPECT_FALSE(ParseWith("rope_scaling", {{"rope_type", 7}, {"factor", 2}}).ok());
}

TEST(HuggingFaceConfig, RotaryScalingIsReadBackAsWritten) {
  const json kinds[] = {Llama3Rope(),
                        {{"rope_type", "linear"}, {"factor", 2}},
                        {{"rope_type", "dynamic"}, {"factor", 3}},
                        {{"rope_type", "yarn"},
                         {"factor", 4},
                         {"original_max_position_embeddings", 128},
                         {"attention_factor", 0.9},
                         {"beta_fast", 20},
                         {"truncate", false}}};
  for (const json& kind : kinds) {
    const auto config = ParseWith("rope_scaling", kind);
    ASSERT_TRUE(config.ok()) << config.status();
    const auto again = ParseHuggingFaceConfig(ToHuggingFaceJson(*config, "bfloat16"), "c");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(*again == *config) << kind;
  }
}

TEST(HuggingFaceConfig, RefusesWhatIsNoObject) {
  for (const char* text : {"", "[]", "3", "{", "{\"vocab_size\": 1, \"vocab_size\": 2}"}) {
    EXPECT_FALSE(ParseHuggingFaceConfig(text, "c").ok()) << text;
  }
}

TEST(HuggingFaceConfig, EveryFlippedByteIsAnErrorOrAConfiguration) {
  const std::string good = SampleJson().dump();
  for (size_t at = 0; at < good.size(); ++at) {
    for (const int flip : {0x01, 0x02, 0x08, 0x10, 0x20, 0x80}) {
      std::string text = good;
      text[at] = static_cast<char>(text[at] ^ flip);
      const auto config = ParseHuggingFaceConfig(text, "c");
      EXPECT_TRUE(!config.ok() || CheckModelConfig(*config).ok()) << text;
    }
  }
}

TEST(HuggingFaceConfig, IsReadBackAsWritten) {
  ModelConfig config = SampleConfig();
  for (const bool more : {false, true}) {
    if (more) {
      config.name = "a name";
      config.eos_tokens = {2, 7};
      config.pad_token = 0;
      config.tie_embeddings = false;
      config.head_dim = 48;
      config.rms_norm_epsilon = 9.999999747378752e-06;
    }
    const auto again = ParseHuggingFaceConfig(ToHuggingFaceJson(config, "bfloat16"), "c");
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_TRUE(*again == config);
  }
}

TEST(HuggingFaceConfig, WritesNamesThatAreNoUtf8) {
  ModelConfig config = SampleConfig();
  config.name = "\xff\xfe";
  EXPECT_TRUE(ParseHuggingFaceConfig(ToHuggingFaceJson(config, "float32"), "c").ok());
}

// --- GGUF ---

GgufBytes SampleGguf() {
  GgufBytes bytes;
  bytes.AddString("general.architecture", "llama");
  bytes.AddUint32("llama.context_length", 512);
  bytes.AddUint32("llama.embedding_length", 64);
  bytes.AddUint32("llama.block_count", 2);
  bytes.AddUint32("llama.feed_forward_length", 96);
  bytes.AddUint32("llama.attention.head_count", 4);
  bytes.AddUint32("llama.attention.head_count_kv", 2);
  bytes.AddFloat32("llama.attention.layer_norm_rms_epsilon", 1e-5f);
  bytes.AddFloat32("llama.rope.freq_base", 5000.0f);
  bytes.AddUint32("tokenizer.ggml.bos_token_id", 1);
  bytes.AddUint32("tokenizer.ggml.eos_token_id", 2);
  bytes.AddTensor("token_embd.weight", {64, 100}, 0, std::string(64 * 100 * 4, '\0'));
  return bytes;
}

std::string KeyOf(const std::string& entry) {
  uint64_t length;
  std::memcpy(&length, entry.data(), sizeof(length));
  return entry.substr(sizeof(length), length);
}

StatusOr<ModelConfig> ParseGguf(const GgufBytes& bytes) {
  MemoryFileSystem fs;
  fs.files["f"] = bytes.Build();
  QFT_ASSIGN_OR_RETURN(const GgufFile file, OpenGguf(fs, "f"));
  return ParseGgufConfig(file, "f");
}

Status ParseGgufWith(const std::function<void(GgufBytes&)>& change) {
  GgufBytes bytes = SampleGguf();
  change(bytes);
  return ParseGguf(bytes).status();
}

TEST(GgufConfig, ReadsEveryField) {
  const auto config = ParseGguf(SampleGguf());
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(*config == SampleConfig());
}

TEST(GgufConfig, UntiedWhenThereIsAHead) {
  GgufBytes bytes = SampleGguf();
  bytes.AddTensor("output.weight", {64, 100}, 0, std::string(64 * 100 * 4, '\0'));
  const auto config = ParseGguf(bytes);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_FALSE(config->tie_embeddings);
}

TEST(GgufConfig, AcceptsWhatChangesNothing) {
  GgufBytes bytes = SampleGguf();
  bytes.AddUint32("llama.vocab_size", 100);
  bytes.AddUint32("llama.rope.dimension_count", 16);
  bytes.AddUint32("llama.attention.key_length", 16);
  bytes.AddUint32("llama.attention.value_length", 16);
  bytes.AddString("llama.rope.scaling.type", "none");
  bytes.AddFloat32("llama.rope.scaling.factor", 1.0f);
  bytes.AddUint32("llama.expert_count", 0);
  bytes.AddUint32("tokenizer.ggml.padding_token_id", 0xffffffff);
  const auto config = ParseGguf(bytes);
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_TRUE(*config == SampleConfig());
}

TEST(GgufConfig, RefusesByKeyWhatItDoesNotCompute) {
  const std::pair<std::string, std::function<void(GgufBytes&)>> unsupported[] = {
      {"llama.rope.scaling.type",
       [](GgufBytes& b) { b.AddString("llama.rope.scaling.type", "longrope"); }},
      {"llama.rope.scaling.factor",
       [](GgufBytes& b) { b.AddFloat32("llama.rope.scaling.factor", 4.0f); }},
      {"llama.rope.scaling.attn_factor",
       [](GgufBytes& b) { b.AddFloat32("llama.rope.scaling.attn_factor", 0.5f); }},
      {"llama.rope.scale_linear",
       [](GgufBytes& b) { b.AddFloat32("llama.rope.scale_linear", 4.0f); }},
      {"llama.expert_count", [](GgufBytes& b) { b.AddUint32("llama.expert_count", 8); }},
      {"llama.attention.sliding_window",
       [](GgufBytes& b) { b.AddUint32("llama.attention.sliding_window", 8); }},
      {"llama.logit_scale", [](GgufBytes& b) { b.AddFloat32("llama.logit_scale", 2.0f); }},
      {"llama.rope.dimension_count",
       [](GgufBytes& b) { b.AddUint32("llama.rope.dimension_count", 8); }},
      {"llama.attention.value_length",
       [](GgufBytes& b) { b.AddUint32("llama.attention.value_length", 8); }},
      {"general.architecture", [](GgufBytes& b) {
         b.entries.erase(b.entries.begin());
         b.AddString("general.architecture", "qwen2moe");
       }}};
  for (const auto& [key, change] : unsupported) {
    const Status status = ParseGgufWith(change);
    EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kUnsupported) << key << status;
    EXPECT_NE(status.message().find(key), absl::string_view::npos) << status;
  }
}

TEST(GgufConfig, RefusesMissingAndMistypedEntries) {
  constexpr size_t kRequired[] = {0, 1, 2, 3, 4, 5, 7};
  for (const size_t index : kRequired) {
    const Status missing =
        ParseGgufWith([&](GgufBytes& b) { b.entries.erase(b.entries.begin() + index); });
    EXPECT_EQ(GetErrorInfo(missing).code, ErrorCode::kBadData) << index << missing;
    const Status mistyped = ParseGgufWith([&](GgufBytes& b) {
      const std::string key = KeyOf(b.entries[index]);
      b.entries.erase(b.entries.begin() + index);
      b.AddEntry(key, 7, Bytes<uint8_t>(1));
    });
    EXPECT_EQ(GetErrorInfo(mistyped).code, ErrorCode::kBadData) << index << mistyped;
  }
  const Status array = ParseGgufWith([](GgufBytes& b) {
    b.entries.erase(b.entries.begin() + 5);
    b.AddEntry("llama.attention.head_count", 9,
               Bytes<uint32_t>(4) + Bytes<uint64_t>(2) + Bytes<uint32_t>(4) + Bytes<uint32_t>(4));
  });
  EXPECT_EQ(GetErrorInfo(array).code, ErrorCode::kBadData) << array;
  EXPECT_FALSE(ParseGgufWith([](GgufBytes& b) { b.tensors.clear(); }).ok());
}

TEST(GgufConfig, RefusesAbsurdSizes) {
  for (const size_t index : {1, 2, 3, 4, 5, 6}) {
    for (const uint64_t value : {uint64_t{0}, uint64_t{1} << 60, ~uint64_t{0}}) {
      const Status status = ParseGgufWith([&](GgufBytes& b) {
        const std::string key = KeyOf(b.entries[index]);
        b.entries.erase(b.entries.begin() + static_cast<int64_t>(index));
        b.AddEntry(key, 10, Bytes(value));
      });
      EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kBadData) << index << " " << value << status;
    }
  }
}

}  // namespace
}  // namespace qft
