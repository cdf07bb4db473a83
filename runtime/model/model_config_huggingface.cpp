#include <algorithm>

#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "runtime/model/json_fields.h"
#include "runtime/model/model_config_rope.h"

namespace qft {
namespace {

using nlohmann::json;

// -1 is how older configurations write "none".
Status ReadToken(const json& root, const char* key, std::optional<int64_t>* out) {
  int64_t token;
  QFT_RETURN_IF_ERROR(ReadInteger(root, key, -1, &token));
  if (token != -1) *out = token;
  return absl::OkStatus();
}

Status ReadEosTokens(const json& root, std::vector<int64_t>* out) {
  const json* value = FindField(root, "eos_token_id");
  if (value != nullptr && value->is_array()) {
    for (const json& element : *value) {
      QFT_ASSIGN_OR_RETURN(const int64_t token, ToInteger("eos_token_id", element));
      out->push_back(token);
    }
    return absl::OkStatus();
  }
  std::optional<int64_t> token;
  QFT_RETURN_IF_ERROR(ReadToken(root, "eos_token_id", &token));
  if (token.has_value()) out->push_back(*token);
  return absl::OkStatus();
}

bool IsOf(const json& architectures, const Family& family) {
  return architectures == json::array({family.architecture}) ||
         (family.alias != nullptr && architectures == json::array({family.alias}));
}

StatusOr<const Family*> ReadFamily(const json& root) {
  const json* architectures = FindField(root, "architectures");
  if (architectures == nullptr) return BadData("architectures is missing");
  std::vector<const char*> known;
  for (const Family* family : Families()) {
    known.push_back(family->architecture);
    if (!IsOf(*architectures, *family)) continue;
    const json* type = FindField(root, "model_type");
    if (type != nullptr && *type != family->model_type) {
      return Unsupported("model_type is ", Shown(*type), "; only ", family->model_type,
                         " is supported with ", family->architecture);
    }
    return family;
  }
  return Unsupported("architectures is ", Shown(*architectures), "; supported are ",
                     absl::StrJoin(known, ", "));
}

// Settings that change the model's function, each with the one value that libqft computes. (JSON
// compares numbers by value: 1 equals 1.0.)
struct FixedSetting {
  const char* key;
  json value;
};

const std::vector<FixedSetting>& FixedSettings() {
  static const auto* const settings = new std::vector<FixedSetting>{
      {"hidden_act", "silu"},         {"pretraining_tp", 1},
      {"attention_dropout", 0},       {"partial_rotary_factor", 1},
      {"rope_interleaved", false},    {"is_decoder", false},
      {"is_encoder_decoder", false},  {"add_cross_attention", false},
      {"tie_encoder_decoder", false}, {"pruned_heads", json::object()},
      {"chunk_size_feed_forward", 0}};
  return *settings;
}

Status CheckFixedSettings(const json& root) {
  for (const auto& [key, supported] : FixedSettings()) {
    const json* value = FindField(root, key);
    if (value != nullptr && *value != supported) {
      return Unsupported(key, " is ", Shown(*value), "; only ", supported.dump(), " is supported");
    }
  }
  if (const json* value = FindField(root, "quantization_config"); value != nullptr) {
    return Unsupported("quantization_config is ", Shown(*value), "; it is not supported");
  }
  return absl::OkStatus();
}

// Keys that this file and model_config_rope.cpp read.
constexpr std::string_view kReadKeys[] = {"architectures",
                                          "model_type",
                                          "_name_or_path",
                                          "vocab_size",
                                          "hidden_size",
                                          "intermediate_size",
                                          "num_hidden_layers",
                                          "num_attention_heads",
                                          "num_key_value_heads",
                                          "head_dim",
                                          "max_position_embeddings",
                                          "max_sequence_length",
                                          "rms_norm_eps",
                                          "rope_theta",
                                          "rope_scaling",
                                          "rope_parameters",
                                          "tie_word_embeddings",
                                          "attention_bias",
                                          "mlp_bias",
                                          "sliding_window",
                                          "use_sliding_window",
                                          "max_window_layers",
                                          "layer_types",
                                          "bos_token_id",
                                          "eos_token_id",
                                          "pad_token_id"};

// Keys that change neither the model's function nor its tensors: notes of the program that wrote
// the file, how weights were made, how text is generated, what other heads would be for.
constexpr std::string_view kHarmlessKeys[] = {"transformers_version",
                                              "torch_dtype",
                                              "dtype",
                                              "use_cache",
                                              "initializer_range",
                                              "name_or_path",
                                              "is_llama_config",
                                              "transformers.js_config",
                                              "attn_implementation",
                                              "gradient_checkpointing",
                                              "model_max_length",
                                              "tokenizer_class",
                                              "tokenizer_model_max_length",
                                              "unk_token_id",
                                              "sep_token_id",
                                              "decoder_start_token_id",
                                              "return_dict",
                                              "output_hidden_states",
                                              "output_attentions",
                                              "torchscript",
                                              "use_bfloat16",
                                              "tf_legacy_loss",
                                              "finetuning_task",
                                              "task_specific_params",
                                              "problem_type",
                                              "id2label",
                                              "label2id",
                                              "num_labels",
                                              "prefix",
                                              "max_length",
                                              "max_new_tokens",
                                              "min_length",
                                              "do_sample",
                                              "early_stopping",
                                              "num_beams",
                                              "num_beam_groups",
                                              "diversity_penalty",
                                              "temperature",
                                              "top_k",
                                              "top_p",
                                              "typical_p",
                                              "repetition_penalty",
                                              "length_penalty",
                                              "no_repeat_ngram_size",
                                              "encoder_no_repeat_ngram_size",
                                              "bad_words_ids",
                                              "num_return_sequences",
                                              "output_scores",
                                              "return_dict_in_generate",
                                              "forced_bos_token_id",
                                              "forced_eos_token_id",
                                              "remove_invalid_values",
                                              "exponential_decay_length_penalty",
                                              "suppress_tokens",
                                              "begin_suppress_tokens",
                                              "unsloth_fixed",
                                              "unsloth_version"};

bool IsAmong(std::string_view key, std::span<const std::string_view> keys) {
  return std::find(keys.begin(), keys.end(), key) != keys.end();
}

// A key that is not understood may change the function.
Status CheckKeys(const json& root, const Family& family) {
  for (const auto& [key, value] : root.items()) {
    const bool fixed =
        std::any_of(FixedSettings().begin(), FixedSettings().end(),
                    [&name = key](const FixedSetting& setting) { return name == setting.key; });
    if (value.is_null() || fixed || IsAmong(key, kReadKeys) || IsAmong(key, kHarmlessKeys) ||
        IsAmong(key, family.keys.names)) {
      continue;
    }
    return Unsupported(absl::CHexEscape(key.substr(0, 100)), " is ", Shown(value),
                       "; what it does to a ", family.architecture,
                       " is not known. If it changes nothing, take it out of the file");
  }
  return absl::OkStatus();
}

Status ReadBias(const json& root, const char* key, Bias bias, const Family& family, bool* out) {
  bool set;
  QFT_RETURN_IF_ERROR(ReadBoolean(root, key, false, &set));
  *out = bias == Bias::kAlways || (bias == Bias::kByKey && set);
  if (!set || *out) return absl::OkStatus();
  return Unsupported(key, " is true; ", family.architecture, " has no such biases");
}

Status ReadBiases(const json& root, ModelConfig* config) {
  const Family& family = *config->family;
  QFT_RETURN_IF_ERROR(ReadBias(root, "attention_bias", family.qkv_bias, family, &config->qkv_bias));
  // Where q, k and v always have biases the key is not asked.
  if (family.qkv_bias == Bias::kByKey) {
    QFT_RETURN_IF_ERROR(ReadBias(root, "attention_bias", family.o_bias, family, &config->o_bias));
  }
  return ReadBias(root, "mlp_bias", family.mlp_bias, family, &config->mlp_bias);
}

// Whether the model has a window at all.
StatusOr<bool> HasWindow(const json& root, const ModelConfig& config) {
  const Family& family = *config.family;
  bool used;
  QFT_RETURN_IF_ERROR(ReadBoolean(root, "use_sliding_window", false, &used));
  if (family.window != Window::kBySwitch) {
    const json* window = FindField(root, "sliding_window");
    if (used) return Unsupported("use_sliding_window is true; ", family.architecture, " has none");
    if (window != nullptr && family.window == Window::kNever) {
      return Unsupported("sliding_window is ", Shown(*window), "; ", family.architecture,
                         " has none");
    }
    // null is no window; a file without the key has the family's.
    const bool assumed = !root.contains("sliding_window") && family.sliding_window > 0;
    return window != nullptr || assumed;
  }
  if (!used) return false;
  int64_t first;  // layer with a window
  QFT_RETURN_IF_ERROR(ReadInteger(root, "max_window_layers", std::nullopt, &first));
  if (first > 0 && first < config.layers) {
    return Unsupported("max_window_layers is ", first, ": the first of ", config.layers,
                       " layers would have no window. Only one kind of layer is supported");
  }
  return first <= 0;
}

// One window for all layers.
Status ReadWindow(const json& root, ModelConfig* config) {
  QFT_ASSIGN_OR_RETURN(const bool has_window, HasWindow(root, *config));
  if (has_window) {
    std::optional<int64_t> assumed;
    if (config->family->sliding_window > 0) assumed = config->family->sliding_window;
    QFT_RETURN_IF_ERROR(ReadInteger(root, "sliding_window", assumed, &config->sliding_window));
    if (config->sliding_window < 1) {
      return BadData("sliding_window is ", config->sliding_window);
    }
  }
  const char* const layer = has_window ? "sliding_attention" : "full_attention";
  if (const json* types = FindField(root, "layer_types"); types != nullptr) {
    for (const json& type : *types) {
      if (type != layer) return Unsupported("layer_types has ", Shown(type), " beside ", layer);
    }
  }
  return absl::OkStatus();
}

Status ReadSizes(const json& root, ModelConfig* config) {
  QFT_RETURN_IF_ERROR(ReadInteger(root, "vocab_size", std::nullopt, &config->vocab_size));
  QFT_RETURN_IF_ERROR(ReadInteger(root, "hidden_size", std::nullopt, &config->hidden_size));
  QFT_RETURN_IF_ERROR(
      ReadInteger(root, "intermediate_size", std::nullopt, &config->intermediate_size));
  QFT_RETURN_IF_ERROR(ReadInteger(root, "num_hidden_layers", std::nullopt, &config->layers));
  QFT_RETURN_IF_ERROR(ReadInteger(root, "num_attention_heads", std::nullopt, &config->heads));
  // null says as many as there are heads; a file without the key has the family's number.
  const bool assumed = !root.contains("num_key_value_heads") && config->family->kv_heads > 0;
  QFT_RETURN_IF_ERROR(ReadInteger(root, "num_key_value_heads",
                                  assumed ? config->family->kv_heads : config->heads,
                                  &config->kv_heads));
  // Early conversions of LLaMA 1 call it so.
  const char* const longest = FindField(root, "max_position_embeddings") == nullptr &&
                                      FindField(root, "max_sequence_length") != nullptr
                                  ? "max_sequence_length"
                                  : "max_position_embeddings";
  QFT_RETURN_IF_ERROR(ReadInteger(root, longest, std::nullopt, &config->max_position));
  if (config->heads < 1) return BadData("num_attention_heads is ", config->heads);
  std::optional<int64_t> head_dim;
  if (config->family->head_dim > 0) {
    head_dim = config->family->head_dim;
  } else if (config->hidden_size % config->heads == 0) {
    head_dim = config->hidden_size / config->heads;
  } else if (FindField(root, "head_dim") == nullptr) {
    return BadData("hidden_size ", config->hidden_size, " is no multiple of num_attention_heads ",
                   config->heads, ", and head_dim is missing");
  }
  return ReadInteger(root, "head_dim", head_dim, &config->head_dim);
}

Status ReadTokens(const json& root, ModelConfig* config) {
  QFT_RETURN_IF_ERROR(ReadToken(root, "bos_token_id", &config->bos_token));
  QFT_RETURN_IF_ERROR(ReadEosTokens(root, &config->eos_tokens));
  return ReadToken(root, "pad_token_id", &config->pad_token);
}

StatusOr<ModelConfig> ParseRoot(const json& root) {
  if (!root.is_object()) return BadData("no JSON object");
  ModelConfig config;
  QFT_ASSIGN_OR_RETURN(config.family, ReadFamily(root));
  const Family& family = *config.family;
  QFT_RETURN_IF_ERROR(CheckFixedSettings(root));
  QFT_RETURN_IF_ERROR(CheckKeys(root, family));
  if (const json* name = FindField(root, "_name_or_path"); name != nullptr && name->is_string()) {
    config.name = name->get_ref<const std::string&>();
  }
  QFT_RETURN_IF_ERROR(ReadSizes(root, &config));
  QFT_RETURN_IF_ERROR(ReadBiases(root, &config));
  QFT_RETURN_IF_ERROR(ReadWindow(root, &config));
  config.qk_norm = family.qk_norm;
  QFT_RETURN_IF_ERROR(ReadNumber(root, "rms_norm_eps", &config.rms_norm_epsilon));
  QFT_RETURN_IF_ERROR(ReadRope(root, &config));
  QFT_RETURN_IF_ERROR(
      ReadBoolean(root, "tie_word_embeddings", family.tie_embeddings, &config.tie_embeddings));
  QFT_RETURN_IF_ERROR(ReadTokens(root, &config));
  if (family.keys.read != nullptr) QFT_RETURN_IF_ERROR(family.keys.read(root, &config));
  QFT_RETURN_IF_ERROR(CheckModelConfig(config));
  return config;
}

}  // namespace

StatusOr<ModelConfig> ParseHuggingFaceConfig(std::string_view text, const std::string& what) {
  QFT_ASSIGN_OR_RETURN(const json root, ParseJson(text, what));
  StatusOr<ModelConfig> config = ParseRoot(root);
  if (!config.ok()) return Annotate(config.status(), what);
  return config;
}

}  // namespace qft
