#include "runtime/model/family.h"

namespace qft {

// GGUF calls it llama.
const Family kMistral = {
    .architecture = "MistralForCausalLM",
    .model_type = "mistral",
    .window = Window::kByNumber,
    .kv_heads = 8,
    .sliding_window = 4096,
};

}  // namespace qft
