#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string>

#include "runtime/model/model_config.h"

namespace qft {
namespace {

constexpr char kArchitectureKey[] = "general.architecture";
constexpr char kPrefix[] = "llama.";
constexpr double kDefaultRopeTheta = 10000;
constexpr int64_t kNoToken = 0xffffffff;

const GgufValue* Find(const GgufMetadata& metadata, std::string_view key) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? nullptr : &found->second;
}

// GGUF stores fp32 where config.json has a decimal number: 9.99999975e-06 was written as 1e-05.
// The shortest decimal that gives the same fp32 value makes both equal.
double ShortestDecimal(double value) {
  const float narrow = static_cast<float>(value);
  if (static_cast<double>(narrow) != value || !std::isfinite(narrow)) return value;
  char text[64];
  const std::to_chars_result end = std::to_chars(text, text + sizeof(text), narrow);
  double decimal = value;
  std::from_chars(text, end.ptr, decimal);
  return decimal;
}

Status ReadInteger(const GgufMetadata& metadata, const std::string& key,
                   std::optional<int64_t> fallback, int64_t* out) {
  const GgufValue* value = Find(metadata, key);
  if (value == nullptr && !fallback.has_value()) return BadData(key, " is missing");
  const std::optional<int64_t> integer = value == nullptr ? fallback : value->Integer();
  if (!integer.has_value() || (value != nullptr && value->is_array)) {
    return BadData(key, " is no single integer");
  }
  *out = *integer;
  return absl::OkStatus();
}

Status ReadNumber(const GgufMetadata& metadata, const std::string& key,
                  std::optional<double> fallback, double* out) {
  const GgufValue* value = Find(metadata, key);
  if (value == nullptr && !fallback.has_value()) return BadData(key, " is missing");
  const std::optional<double> number = value == nullptr ? fallback : value->Number();
  if (!number.has_value() || (value != nullptr && value->is_array)) {
    return BadData(key, " is no single number");
  }
  *out = ShortestDecimal(*number);
  return absl::OkStatus();
}

Status ReadToken(const GgufMetadata& metadata, const std::string& key,
                 std::optional<int64_t>* out) {
  int64_t token;
  QFT_RETURN_IF_ERROR(ReadInteger(metadata, key, -1, &token));
  if (token != -1 && token != kNoToken) *out = token;
  return absl::OkStatus();
}

// Keys that say something about the model's function and are understood, without the prefix.
bool IsKnownKey(std::string_view key) {
  static constexpr std::string_view kKnown[] = {
      "vocab_size",
      "context_length",
      "embedding_length",
      "block_count",
      "feed_forward_length",
      "attention.head_count",
      "attention.head_count_kv",
      "attention.key_length",
      "attention.value_length",
      "attention.layer_norm_rms_epsilon",
      "rope.dimension_count",
      "rope.freq_base",
      "rope.scaling.type",
      "rope.scaling.factor",
      "rope.scale_linear",
      "expert_count",
      "expert_used_count",
  };
  return std::find(std::begin(kKnown), std::end(kKnown), key) != std::end(kKnown);
}

Status CheckFixedSettings(const GgufMetadata& metadata) {
  const std::string_view prefix = kPrefix;
  for (const auto& [key, value] : metadata) {
    if (key.starts_with(prefix) && !IsKnownKey(std::string_view(key).substr(prefix.size()))) {
      return Unsupported("metadata ", key, " is not supported");
    }
  }
  if (const GgufValue* type = Find(metadata, "llama.rope.scaling.type"); type != nullptr) {
    const std::string* text = type->String();
    if (text == nullptr || *text != "none") {
      return Unsupported("llama.rope.scaling.type is not none, the only supported one");
    }
  }
  for (const char* key : {"llama.rope.scaling.factor", "llama.rope.scale_linear"}) {
    double factor;
    QFT_RETURN_IF_ERROR(ReadNumber(metadata, key, 1, &factor));
    if (factor != 0 && factor != 1) {
      return Unsupported(key, " is ", factor, "; scaled rotary embeddings are not supported");
    }
  }
  for (const char* key : {"llama.expert_count", "llama.expert_used_count"}) {
    int64_t experts;
    QFT_RETURN_IF_ERROR(ReadInteger(metadata, key, 0, &experts));
    if (experts != 0) return Unsupported(key, " is ", experts, "; experts are not supported");
  }
  return absl::OkStatus();
}

Status ReadHeadDim(const GgufMetadata& metadata, ModelConfig* config) {
  if (config->heads < 1 || config->hidden_size % config->heads != 0) {
    return BadData("llama.embedding_length ", config->hidden_size,
                   " is no multiple of llama.attention.head_count ", config->heads);
  }
  QFT_RETURN_IF_ERROR(ReadInteger(metadata, "llama.attention.key_length",
                                  config->hidden_size / config->heads, &config->head_dim));
  for (const char* key : {"llama.attention.value_length", "llama.rope.dimension_count"}) {
    int64_t other;
    QFT_RETURN_IF_ERROR(ReadInteger(metadata, key, config->head_dim, &other));
    if (other != config->head_dim) {
      return Unsupported(key, " is ", other, "; only the head dimension, here ", config->head_dim,
                         ", is supported");
    }
  }
  return absl::OkStatus();
}

StatusOr<int64_t> EmbeddingRows(const TensorSource& tensors) {
  const TensorInfo* embedding = tensors.Find("token_embd.weight");
  if (embedding == nullptr) return BadData("tensor token_embd.weight is missing");
  return embedding->Rows();
}

Status ReadSizes(const GgufFile& file, ModelConfig* config) {
  const GgufMetadata& metadata = file.metadata;
  QFT_ASSIGN_OR_RETURN(const int64_t rows, EmbeddingRows(*file.tensors));
  QFT_RETURN_IF_ERROR(ReadInteger(metadata, "llama.vocab_size", rows, &config->vocab_size));
  QFT_RETURN_IF_ERROR(
      ReadInteger(metadata, "llama.context_length", std::nullopt, &config->max_position));
  QFT_RETURN_IF_ERROR(
      ReadInteger(metadata, "llama.embedding_length", std::nullopt, &config->hidden_size));
  QFT_RETURN_IF_ERROR(
      ReadInteger(metadata, "llama.feed_forward_length", std::nullopt, &config->intermediate_size));
  QFT_RETURN_IF_ERROR(ReadInteger(metadata, "llama.block_count", std::nullopt, &config->layers));
  QFT_RETURN_IF_ERROR(
      ReadInteger(metadata, "llama.attention.head_count", std::nullopt, &config->heads));
  QFT_RETURN_IF_ERROR(
      ReadInteger(metadata, "llama.attention.head_count_kv", config->heads, &config->kv_heads));
  return ReadHeadDim(metadata, config);
}

Status CheckArchitecture(const GgufMetadata& metadata) {
  const GgufValue* architecture = Find(metadata, kArchitectureKey);
  const std::string* text = architecture == nullptr ? nullptr : architecture->String();
  if (text == nullptr) return BadData(kArchitectureKey, " is missing");
  if (*text == "llama") return absl::OkStatus();
  return Unsupported(kArchitectureKey, " is ", CheckTensorName(*text).ok() ? *text : "unreadable",
                     "; only llama is supported");
}

StatusOr<ModelConfig> ParseFile(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata;
  QFT_RETURN_IF_ERROR(CheckArchitecture(metadata));
  QFT_RETURN_IF_ERROR(CheckFixedSettings(metadata));
  ModelConfig config;
  if (const GgufValue* name = Find(metadata, "general.name"); name != nullptr) {
    if (const std::string* text = name->String(); text != nullptr) config.name = *text;
  }
  QFT_RETURN_IF_ERROR(ReadSizes(file, &config));
  QFT_RETURN_IF_ERROR(ReadNumber(metadata, "llama.attention.layer_norm_rms_epsilon", std::nullopt,
                                 &config.rms_norm_epsilon));
  QFT_RETURN_IF_ERROR(
      ReadNumber(metadata, "llama.rope.freq_base", kDefaultRopeTheta, &config.rope_theta));
  config.tie_embeddings = file.tensors->Find("output.weight") == nullptr;
  QFT_RETURN_IF_ERROR(ReadToken(metadata, "tokenizer.ggml.bos_token_id", &config.bos_token));
  QFT_RETURN_IF_ERROR(ReadToken(metadata, "tokenizer.ggml.padding_token_id", &config.pad_token));
  std::optional<int64_t> eos;
  QFT_RETURN_IF_ERROR(ReadToken(metadata, "tokenizer.ggml.eos_token_id", &eos));
  if (eos.has_value()) config.eos_tokens.push_back(*eos);
  QFT_RETURN_IF_ERROR(CheckModelConfig(config));
  return config;
}

}  // namespace

StatusOr<ModelConfig> ParseGgufConfig(const GgufFile& file, const std::string& what) {
  StatusOr<ModelConfig> config = ParseFile(file);
  if (!config.ok()) return Annotate(config.status(), what);
  return config;
}

}  // namespace qft
