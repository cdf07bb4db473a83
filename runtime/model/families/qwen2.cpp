#include "runtime/model/family.h"

namespace qft {

// Qwen 1.5, 2 and 2.5.
const Family kQwen2 = {
    .architecture = "Qwen2ForCausalLM",
    .model_type = "qwen2",
    .gguf_architecture = "qwen2",
    .qkv_bias = Bias::kAlways,
    .window = Window::kBySwitch,
    .kv_heads = 32,
};

}  // namespace qft
