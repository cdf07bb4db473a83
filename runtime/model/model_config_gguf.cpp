#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <string>

#include "absl/strings/str_join.h"
#include "runtime/model/llama_tensors.h"
#include "runtime/model/model_config.h"

namespace qft {
namespace {

constexpr char kArchitectureKey[] = "general.architecture";
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

// The keys of one architecture, which all begin with its name.
class GgufFields {
 public:
  GgufFields(const GgufMetadata& metadata, const std::string& architecture)
      : metadata_(metadata), prefix_(architecture + ".") {}

  const std::string& prefix() const { return prefix_; }
  std::string Key(std::string_view key) const { return absl::StrCat(prefix_, std::string(key)); }
  const GgufValue* Value(std::string_view key) const { return Find(metadata_, Key(key)); }

  Status Integer(std::string_view key, std::optional<int64_t> fallback, int64_t* out) const {
    const GgufValue* value = Value(key);
    if (value == nullptr && !fallback.has_value()) return BadData(Key(key), " is missing");
    const std::optional<int64_t> integer = value == nullptr ? fallback : value->Integer();
    if (!integer.has_value() || (value != nullptr && value->is_array)) {
      return BadData(Key(key), " is no single integer");
    }
    *out = *integer;
    return absl::OkStatus();
  }
  Status Number(std::string_view key, std::optional<double> fallback, double* out) const {
    const GgufValue* value = Value(key);
    if (value == nullptr && !fallback.has_value()) return BadData(Key(key), " is missing");
    const std::optional<double> number = value == nullptr ? fallback : value->Number();
    if (!number.has_value() || (value != nullptr && value->is_array)) {
      return BadData(Key(key), " is no single number");
    }
    *out = ShortestDecimal(*number);
    return absl::OkStatus();
  }
  // A number that libqft computes with few values only, of which the first is the default.
  Status Fixed(std::string_view key, std::initializer_list<double> supported,
               const char* what) const {
    double number;
    QFT_RETURN_IF_ERROR(Number(key, *supported.begin(), &number));
    if (std::find(supported.begin(), supported.end(), number) != supported.end()) {
      return absl::OkStatus();
    }
    return Unsupported(Key(key), " is ", number, "; ", what, " not supported");
  }

 private:
  const GgufMetadata& metadata_;
  std::string prefix_;
};

Status ReadToken(const GgufMetadata& metadata, const std::string& name,
                 std::optional<int64_t>* out) {
  int64_t token;
  QFT_RETURN_IF_ERROR(GgufFields(metadata, "tokenizer.ggml").Integer(name, -1, &token));
  if (token != -1 && token != kNoToken) *out = token;
  return absl::OkStatus();
}

// Keys that say something about the model's function and are understood, without the prefix.
constexpr std::string_view kKnownKeys[] = {
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
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.finetuned",  // says only how the model came to be
    "rope.scale_linear",
    "expert_count",
    "expert_used_count",
};

Status CheckFixedSettings(const GgufMetadata& metadata, const GgufFields& fields) {
  for (const auto& [key, value] : metadata) {
    if (!key.starts_with(fields.prefix())) continue;
    const std::string_view name = std::string_view(key).substr(fields.prefix().size());
    if (std::find(std::begin(kKnownKeys), std::end(kKnownKeys), name) == std::end(kKnownKeys)) {
      return Unsupported("metadata ", key, " is not supported");
    }
  }
  for (const char* key : {"expert_count", "expert_used_count"}) {
    QFT_RETURN_IF_ERROR(fields.Fixed(key, {0}, "experts are"));
  }
  return fields.Fixed("rope.scale_linear", {1, 0}, "rotary scaling of this form is");
}

// A model with every tensor that any of the families has, for their names.
LlamaTensors AllTensors() {
  ModelConfig config;
  config.layers = 1;
  config.qkv_bias = config.o_bias = config.mlp_bias = config.qk_norm = true;
  return MakeLlamaTensors(config);
}

void FindBiases(const TensorSource& stored, ModelConfig* config) {
  const LlamaTensors tensors = AllTensors();
  const LlamaBlockTensors& block = tensors.blocks[0];
  const auto has = [&](const LinearTensors& linear, Bias bias) {
    return bias == Bias::kAlways ||
           (bias == Bias::kByKey && stored.Find(tensors.table[linear.bias].gguf_name) != nullptr);
  };
  const Family& family = *config->family;
  config->qkv_bias = has(block.q, family.qkv_bias);
  config->o_bias = has(block.o, family.o_bias);
  config->mlp_bias = has(block.gate, family.mlp_bias);
}

Status ReadHeadDim(const GgufFields& fields, ModelConfig* config) {
  if (config->heads < 1) return BadData(fields.Key("attention.head_count"), " is not positive");
  std::optional<int64_t> head_dim;
  if (config->hidden_size % config->heads == 0) head_dim = config->hidden_size / config->heads;
  QFT_RETURN_IF_ERROR(fields.Integer("attention.key_length", head_dim, &config->head_dim));
  for (const char* key : {"attention.value_length", "rope.dimension_count"}) {
    int64_t other;
    QFT_RETURN_IF_ERROR(fields.Integer(key, config->head_dim, &other));
    if (other != config->head_dim) {
      return Unsupported(fields.Key(key), " is ", other, "; only the head dimension, here ",
                         config->head_dim, ", is supported");
    }
  }
  return absl::OkStatus();
}

Status ReadSizes(const GgufFields& fields, const TensorSource& stored, ModelConfig* config) {
  const LlamaTensors tensors = AllTensors();
  const std::string& embedding_name = tensors.table[tensors.embedding].gguf_name;
  const TensorInfo* embedding = stored.Find(embedding_name);
  if (embedding == nullptr) return BadData("tensor ", embedding_name, " is missing");
  config->tie_embeddings = stored.Find(tensors.table[tensors.head].gguf_name) == nullptr;
  QFT_RETURN_IF_ERROR(fields.Integer("vocab_size", embedding->Rows(), &config->vocab_size));
  const std::pair<const char*, int64_t*> sizes[] = {
      {"context_length", &config->max_position},
      {"embedding_length", &config->hidden_size},
      {"feed_forward_length", &config->intermediate_size},
      {"block_count", &config->layers},
      {"attention.head_count", &config->heads}};
  for (const auto& [key, size] : sizes) {
    QFT_RETURN_IF_ERROR(fields.Integer(key, std::nullopt, size));
  }
  QFT_RETURN_IF_ERROR(fields.Integer("attention.head_count_kv", config->heads, &config->kv_heads));
  return ReadHeadDim(fields, config);
}

Status ReadFactor(const GgufFields& fields, RopeScaling* scaling) {
  constexpr char kKey[] = "rope.scaling.factor";
  QFT_RETURN_IF_ERROR(fields.Number(kKey, std::nullopt, &scaling->factor));
  if (std::isfinite(scaling->factor) && scaling->factor >= 1) return absl::OkStatus();
  return BadData(fields.Key(kKey), " is ", scaling->factor, ", must be at least 1");
}

Status ReadYarn(const GgufFields& fields, RopeScaling* scaling) {
  constexpr char kKey[] = "rope.scaling.original_context_length";
  scaling->kind = RopeKind::kYarn;
  QFT_RETURN_IF_ERROR(ReadFactor(fields, scaling));
  QFT_RETURN_IF_ERROR(fields.Integer(kKey, std::nullopt, &scaling->original_max_position));
  if (scaling->original_max_position >= 1) return absl::OkStatus();
  return BadData(fields.Key(kKey), " is ", scaling->original_max_position);
}

// The frequencies of llama3's scaling divide those without by `factors`. GGUF does not tell its
// settings: they are those whose frequencies these are.
Status FindLlama3(const std::vector<float>& factors, ModelConfig* config) {
  constexpr double kTolerance = 1e-4;
  const std::vector<float> plain = InverseFrequencies({}, config->rope_theta, config->head_dim);
  RopeScaling scaling;
  scaling.kind = RopeKind::kLlama3;
  scaling.factor = *std::max_element(factors.begin(), factors.end());
  for (int64_t context = 16; context <= int64_t{1} << 20; context *= 2) {
    scaling.original_max_position = context;
    const std::vector<float> scaled =
        InverseFrequencies(scaling, config->rope_theta, config->head_dim);
    bool equal = true;
    for (size_t i = 0; i < factors.size(); ++i) {
      equal &= std::fabs(scaled[i] * factors[i] - plain[i]) <= kTolerance * plain[i];
    }
    if (!equal) continue;
    config->rope_scaling = scaling;
    return absl::OkStatus();
  }
  return Unsupported("tensor ", kRopeFactors,
                     " holds factors that are not those of llama3's rotary scaling with "
                     "low_freq_factor 1 and high_freq_factor 4");
}

Status ReadRopeFactors(const TensorSource& stored, ModelConfig* config) {
  const TensorInfo* info = stored.Find(kRopeFactors);
  if (info == nullptr) return absl::OkStatus();
  if (config->rope_scaling.kind != RopeKind::kPlain) {
    return Unsupported("tensor ", kRopeFactors, " beside another kind of rotary scaling");
  }
  if (info->shape != std::vector<int64_t>{config->head_dim / 2}) {
    return MakeError(ErrorCode::kShape,
                     absl::StrCat("tensor ", kRopeFactors, " has the shape ", info->ShapeText(),
                                  ", not half the head dimension of ", config->head_dim));
  }
  std::vector<float> factors(static_cast<size_t>(info->Cols()));
  QFT_RETURN_IF_ERROR(stored.ReadRows(kRopeFactors, 0, 1, factors.data()));
  const bool none = std::all_of(factors.begin(), factors.end(), [](float f) { return f == 1; });
  return none ? absl::OkStatus() : FindLlama3(factors, config);
}

Status ReadRopeScaling(const GgufFields& fields, const TensorSource& stored, ModelConfig* config) {
  QFT_RETURN_IF_ERROR(
      fields.Fixed("rope.scaling.attn_factor", {1}, "another magnitude of rotary embeddings is"));
  const GgufValue* type = fields.Value("rope.scaling.type");
  const std::string none = "none";
  const std::string* text = type == nullptr ? &none : type->String();
  if (text == nullptr) return BadData(fields.Key("rope.scaling.type"), " is no text");
  if (*text == "yarn") {
    QFT_RETURN_IF_ERROR(ReadYarn(fields, &config->rope_scaling));
  } else if (*text == "linear") {
    config->rope_scaling.kind = RopeKind::kLinear;
    QFT_RETURN_IF_ERROR(ReadFactor(fields, &config->rope_scaling));
  } else if (*text == none) {
    QFT_RETURN_IF_ERROR(
        fields.Fixed("rope.scaling.factor", {1, 0}, "a factor without rope.scaling.type is"));
  } else {
    return Unsupported(fields.Key("rope.scaling.type"), " is none of none, linear and yarn");
  }
  return ReadRopeFactors(stored, config);
}

StatusOr<const Family*> ReadFamily(const GgufMetadata& metadata) {
  const GgufValue* architecture = Find(metadata, kArchitectureKey);
  const std::string* text = architecture == nullptr ? nullptr : architecture->String();
  if (text == nullptr) return BadData(kArchitectureKey, " is missing");
  std::vector<const char*> known;
  for (const Family* family : Families()) {
    if (family->gguf_architecture == nullptr) continue;
    if (*text == family->gguf_architecture) return family;
    known.push_back(family->gguf_architecture);
  }
  return Unsupported(kArchitectureKey, " is ", CheckTensorName(*text).ok() ? *text : "unreadable",
                     "; supported are ", absl::StrJoin(known, ", "));
}

StatusOr<ModelConfig> ParseFile(const GgufFile& file) {
  const GgufMetadata& metadata = file.metadata;
  ModelConfig config;
  QFT_ASSIGN_OR_RETURN(config.family, ReadFamily(metadata));
  const GgufFields fields(metadata, config.family->gguf_architecture);
  QFT_RETURN_IF_ERROR(CheckFixedSettings(metadata, fields));
  if (const GgufValue* name = Find(metadata, "general.name"); name != nullptr) {
    if (const std::string* text = name->String(); text != nullptr) config.name = *text;
  }
  QFT_RETURN_IF_ERROR(ReadSizes(fields, *file.tensors, &config));
  FindBiases(*file.tensors, &config);
  config.qk_norm = config.family->qk_norm;
  QFT_RETURN_IF_ERROR(
      fields.Number("attention.layer_norm_rms_epsilon", std::nullopt, &config.rms_norm_epsilon));
  QFT_RETURN_IF_ERROR(fields.Number("rope.freq_base", kDefaultRopeTheta, &config.rope_theta));
  QFT_RETURN_IF_ERROR(ReadToken(metadata, "bos_token_id", &config.bos_token));
  QFT_RETURN_IF_ERROR(ReadToken(metadata, "padding_token_id", &config.pad_token));
  std::optional<int64_t> eos;
  QFT_RETURN_IF_ERROR(ReadToken(metadata, "eos_token_id", &eos));
  if (eos.has_value()) config.eos_tokens.push_back(*eos);
  QFT_RETURN_IF_ERROR(CheckModelConfig(config));
  QFT_RETURN_IF_ERROR(ReadRopeScaling(fields, *file.tensors, &config));
  return config;
}

}  // namespace

StatusOr<ModelConfig> ParseGgufConfig(const GgufFile& file, const std::string& what) {
  StatusOr<ModelConfig> config = ParseFile(file);
  if (!config.ok()) return Annotate(config.status(), what);
  return config;
}

}  // namespace qft
