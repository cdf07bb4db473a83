#include "runtime/model/model_config.h"

#include "runtime/data/json.h"

namespace qft {
namespace {

constexpr double kMaxRopeTheta = 1e15;

struct SizeLimit {
  const char* what;
  int64_t ModelConfig::*member;
  int64_t limit;
};

// The product of any two of the sizes that meet in a tensor stays below 2^44.
constexpr SizeLimit kSizeLimits[] = {
    {"vocabulary", &ModelConfig::vocab_size, int64_t{1} << 24},
    {"hidden size", &ModelConfig::hidden_size, int64_t{1} << 18},
    {"intermediate size", &ModelConfig::intermediate_size, int64_t{1} << 20},
    {"number of layers", &ModelConfig::layers, int64_t{1} << 12},
    {"number of heads", &ModelConfig::heads, int64_t{1} << 12},
    {"number of key-value heads", &ModelConfig::kv_heads, int64_t{1} << 12},
    {"head dimension", &ModelConfig::head_dim, int64_t{1} << 10},
    {"context length", &ModelConfig::max_position, int64_t{1} << 30},
};

Status CheckToken(const char* what, int64_t token, int64_t vocab_size) {
  if (token >= 0 && token < vocab_size) return absl::OkStatus();
  return BadData("the ", what, " token ", token, " is not in the vocabulary of ", vocab_size);
}

}  // namespace

Status CheckModelConfig(const ModelConfig& config) {
  for (const SizeLimit& size : kSizeLimits) {
    const int64_t value = config.*size.member;
    if (value < 1 || value > size.limit) {
      return BadData("the ", size.what, " is ", value, ", not in 1 to ", size.limit);
    }
  }
  if (config.heads % config.kv_heads != 0) {
    return BadData(config.heads, " heads are no multiple of ", config.kv_heads, " key-value heads");
  }
  if (config.head_dim % 2 != 0) return BadData("the head dimension ", config.head_dim, " is odd");
  if (!(config.rms_norm_epsilon > 0 && config.rms_norm_epsilon < 1)) {
    return BadData("the norm's epsilon is ", config.rms_norm_epsilon, ", not in 0 to 1");
  }
  if (!(config.rope_theta > 0 && config.rope_theta <= kMaxRopeTheta)) {
    return BadData("the rotary base is ", config.rope_theta, ", not in 0 to ", kMaxRopeTheta);
  }
  if (config.bos_token.has_value()) {
    QFT_RETURN_IF_ERROR(CheckToken("bos", *config.bos_token, config.vocab_size));
  }
  if (config.pad_token.has_value()) {
    QFT_RETURN_IF_ERROR(CheckToken("pad", *config.pad_token, config.vocab_size));
  }
  for (const int64_t token : config.eos_tokens) {
    QFT_RETURN_IF_ERROR(CheckToken("eos", token, config.vocab_size));
  }
  return absl::OkStatus();
}

namespace {

nlohmann::ordered_json RopeJson(const RopeScaling& scaling) {
  nlohmann::ordered_json json;
  json["rope_type"] = kRopeKindNames[static_cast<int>(scaling.kind)];
  json["factor"] = scaling.factor;
  if (scaling.kind == RopeKind::kLinear || scaling.kind == RopeKind::kDynamic) return json;
  json["original_max_position_embeddings"] = scaling.original_max_position;
  if (scaling.kind == RopeKind::kLlama3) {
    json["low_freq_factor"] = scaling.low_frequency_factor;
    json["high_freq_factor"] = scaling.high_frequency_factor;
    return json;
  }
  json["beta_fast"] = scaling.beta_fast;
  json["beta_slow"] = scaling.beta_slow;
  json["truncate"] = scaling.truncate;
  if (scaling.attention_factor.has_value()) json["attention_factor"] = *scaling.attention_factor;
  if (scaling.mscale.has_value()) json["mscale"] = *scaling.mscale;
  if (scaling.mscale_all_dim.has_value()) json["mscale_all_dim"] = *scaling.mscale_all_dim;
  return json;
}

void WriteWindow(const ModelConfig& config, nlohmann::ordered_json* root) {
  if (config.family->window == Window::kNever) return;
  const bool used = config.sliding_window > 0;
  (*root)["sliding_window"] = nullptr;
  if (used) (*root)["sliding_window"] = config.sliding_window;
  if (config.family->window != Window::kBySwitch) return;
  (*root)["use_sliding_window"] = used;
  (*root)["max_window_layers"] = used ? 0 : config.layers;
}

}  // namespace

std::string ToHuggingFaceJson(const ModelConfig& config, std::string_view dtype) {
  nlohmann::ordered_json root;
  const Family& family = *config.family;
  root["architectures"] = {family.architecture};
  root["model_type"] = family.model_type;
  if (!config.name.empty()) root["_name_or_path"] = config.name;
  root["vocab_size"] = config.vocab_size;
  root["hidden_size"] = config.hidden_size;
  root["intermediate_size"] = config.intermediate_size;
  root["num_hidden_layers"] = config.layers;
  root["num_attention_heads"] = config.heads;
  root["num_key_value_heads"] = config.kv_heads;
  root["head_dim"] = config.head_dim;
  root["hidden_act"] = "silu";
  root["max_position_embeddings"] = config.max_position;
  root["rms_norm_eps"] = config.rms_norm_epsilon;
  root["rope_theta"] = config.rope_theta;
  if (config.rope_scaling.kind != RopeKind::kPlain) {
    root["rope_scaling"] = RopeJson(config.rope_scaling);
  }
  WriteWindow(config, &root);
  if (family.qkv_bias == Bias::kByKey) root["attention_bias"] = config.qkv_bias;
  if (family.mlp_bias == Bias::kByKey) root["mlp_bias"] = config.mlp_bias;
  root["tie_word_embeddings"] = config.tie_embeddings;
  root["bos_token_id"] = nullptr;
  root["eos_token_id"] = nullptr;
  root["pad_token_id"] = nullptr;
  if (config.bos_token.has_value()) root["bos_token_id"] = *config.bos_token;
  if (config.eos_tokens.size() == 1) root["eos_token_id"] = config.eos_tokens[0];
  if (config.eos_tokens.size() > 1) root["eos_token_id"] = config.eos_tokens;
  if (config.pad_token.has_value()) root["pad_token_id"] = *config.pad_token;
  root["torch_dtype"] = std::string(dtype);
  if (family.keys.write != nullptr) family.keys.write(config, &root);
  // A GGUF name need not be UTF-8; a strict dump would throw.
  return root.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace qft
