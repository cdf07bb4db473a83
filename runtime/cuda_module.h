// Loading libqft_cuda.so, which is found beside the library.
#pragma once

#include <memory>

#include "base/status.h"
#include "kernels/ops.h"

namespace qft {

// The CUDA engine on `device`. Errors: kUnsupported, with what is missing.
StatusOr<std::unique_ptr<Engine>> MakeCudaEngine(int device);

}  // namespace qft
