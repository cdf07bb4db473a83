// What libqft_cuda.so exports: one C function that gives this table. No STL or Abseil type and no
// exception crosses; the engine does, as the abstract class of kernels/ops.h, so that build_id,
// made of its sources, must match.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/ops.h"

namespace qft {

struct CudaModule {
  const char* build_id;
  // An engine on the device, or nullptr with a message of why not in `message` [size].
  Engine* (*create)(int device, char* message, size_t size);
};

inline constexpr char kCudaModuleSymbol[] = "qft_cuda_module";
using CudaModuleFunction = const CudaModule*();

}  // namespace qft
