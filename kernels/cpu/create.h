// How tests ask for one variant of the CPU engine; everything else uses CreateCpuEngine.
#pragma once

#include "kernels/ops.h"

namespace qft {

// `variant` is "plain", "avx2" or "avx512"; with "-own" appended integer matmuls never go to
// oneDNN. nullptr for any other name, and when the processor lacks the instruction set.
Engine* CreateCpuEngineFor(const char* variant, int threads);

}  // namespace qft
