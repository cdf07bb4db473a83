#include "bindings/cli/generation_options.h"

namespace qft::cli {

void AddGenerationOptions(GenerationOptions* o, OptionTable* t) {
  t->Add("Answer", "max-tokens", o->max_tokens, "Most new tokens")->check(CLI::PositiveNumber);
  t->Add("Answer", "temperature", o->temperature, "0: always the likeliest token")
      ->check(CLI::NonNegativeNumber);
  t->Add("Answer", "top-k", o->top_k, "Choose among so many likeliest tokens; 0: all")
      ->check(CLI::NonNegativeNumber);
  t->Add("Answer", "top-p", o->top_p, "Choose among the likeliest that sum up to it; 0: all")
      ->check(CLI::Range(0.0, 1.0));
  t->Add("Answer", "seed", o->seed, "Of the choice")->check(CLI::NonNegativeNumber);
}

qft_generate_options ToLibrary(const GenerationOptions& o) {
  qft_generate_options options = Sized<qft_generate_options>();
  options.maximum_tokens = o.max_tokens;
  options.temperature = o.temperature;
  options.top_k = o.top_k;
  options.top_p = o.top_p;
  options.seed = static_cast<uint64_t>(o.seed);
  return options;
}

}  // namespace qft::cli
