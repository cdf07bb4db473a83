// How an answer is made: what generate and chat share.
#pragma once

#include <cstdint>

#include "bindings/cli/handles.h"
#include "bindings/cli/options.h"

namespace qft::cli {

struct GenerationOptions {
  int64_t max_tokens = 128;
  double temperature = 0;
  int64_t top_k = 0;
  double top_p = 0;
  int64_t seed = 0;
};

void AddGenerationOptions(GenerationOptions* options, OptionTable* table);
qft_generate_options ToLibrary(const GenerationOptions& options);

}  // namespace qft::cli
