#include "runtime/model/family.h"

namespace qft {

// LLaMA 1 to 3, and what was trained from scratch in the same form: TinyLlama, Yi, SmolLM2.
const Family kLlama = {
    .architecture = "LlamaForCausalLM",
    .model_type = "llama",
    .alias = "LLaMAForCausalLM",  // early conversions of LLaMA 1
    .gguf_architecture = "llama",
    .gguf_interleaves = true,
    .qkv_bias = Bias::kByKey,
    .o_bias = Bias::kByKey,
    .mlp_bias = Bias::kByKey,
};

}  // namespace qft
