#include "runtime/model/model_config.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>
#include <vector>

#include "tests/runtime/model/sample_config.h"

namespace qft {
namespace {

using nlohmann::json;

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

}  // namespace
}  // namespace qft
