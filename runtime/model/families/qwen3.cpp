#include "runtime/model/family.h"

namespace qft {

const Family kQwen3 = {
    .architecture = "Qwen3ForCausalLM",
    .model_type = "qwen3",
    .gguf_architecture = "qwen3",
    .qkv_bias = Bias::kByKey,
    .o_bias = Bias::kByKey,
    .qk_norm = true,
    .window = Window::kBySwitch,
    .kv_heads = 32,
    .head_dim = 128,
};

}  // namespace qft
