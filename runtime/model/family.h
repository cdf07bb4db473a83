// The families of models that libqft computes: LLaMA and what differs from it in a few places. A
// new one is a row here, what its row says in block.cpp, and a row in bench/accuracy/families.py,
// which holds it against transformers.
#pragma once

#include <cstdint>

namespace qft {

enum class Family : int32_t { kLlama, kMistral };

struct FamilyTraits {
  Family family;
  const char* architecture;  // in config.json
  const char* model_type;    // in config.json
  bool sliding_window;       // a token sees at most so many, where config.json gives a number
};

inline constexpr FamilyTraits kFamilies[] = {
    {Family::kLlama, "LlamaForCausalLM", "llama", false},
    {Family::kMistral, "MistralForCausalLM", "mistral", true},
};

inline constexpr const FamilyTraits& TraitsOf(Family family) {
  return kFamilies[static_cast<int32_t>(family)];
}

}  // namespace qft
