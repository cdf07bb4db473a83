#include "runtime/model/family.h"
#include "runtime/model/json_fields.h"
#include "runtime/model/model_config.h"

namespace qft {
namespace {

constexpr char kLayers[] = "no_rope_layers";  // 1: the layer rotates, 0: it does not
constexpr char kInterval[] = "no_rope_layer_interval";
constexpr std::string_view kKeys[] = {kLayers, kInterval};
constexpr int64_t kUsualInterval = 4;

Status ReadList(const nlohmann::json& list, ModelConfig* config) {
  if (!list.is_array() || static_cast<int64_t>(list.size()) != config->layers) {
    return BadData(kLayers, " is no list of num_hidden_layers, ", config->layers, ", numbers");
  }
  for (int64_t layer = 0; layer < config->layers; ++layer) {
    QFT_ASSIGN_OR_RETURN(const int64_t rotates,
                         ToInteger(kLayers, list[static_cast<size_t>(layer)]));
    if (rotates != 0 && rotates != 1) return BadData(kLayers, " holds ", rotates);
    if (rotates == 0) config->unrotated_layers.push_back(layer);
  }
  return absl::OkStatus();
}

// Where there is no list the last of each `interval` layers does not rotate.
Status Read(const nlohmann::json& root, ModelConfig* config) {
  int64_t interval;
  QFT_RETURN_IF_ERROR(ReadInteger(root, kInterval, kUsualInterval, &interval));
  if (interval < 1) return BadData(kInterval, " is ", interval);
  if (const nlohmann::json* list = FindField(root, kLayers)) return ReadList(*list, config);
  for (int64_t layer = interval - 1; layer < config->layers; layer += interval) {
    config->unrotated_layers.push_back(layer);
  }
  return absl::OkStatus();
}

void Write(const ModelConfig& config, nlohmann::ordered_json* root) {
  std::vector<int> list(static_cast<size_t>(config.layers), 1);
  for (const int64_t layer : config.unrotated_layers) list[static_cast<size_t>(layer)] = 0;
  (*root)[kLayers] = list;
}

}  // namespace

// LLaMA with layers whose queries and keys know no positions (NoPE).
const Family kSmolLm3 = {
    .architecture = "SmolLM3ForCausalLM",
    .model_type = "smollm3",
    .qkv_bias = Bias::kByKey,
    .o_bias = Bias::kByKey,
    .mlp_bias = Bias::kByKey,
    .rope_theta = 2000000,
    .kv_heads = 4,
    .tie_embeddings = true,
    .keys = {kKeys, Read, Write},
};

}  // namespace qft
