#include "kernels/cuda/module.h"

#include <cuda_runtime.h>

#include <cstdio>
#include <memory>
#include <new>

#include "kernels/cuda/engine.h"

namespace qft {
namespace {

// The kernels are compiled for these and what comes after.
constexpr int kOldestArchitecture = 80;

Engine* Create(int device, char* message, size_t size) {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess && count == 0) error = cudaErrorNoDevice;
  if (error != cudaSuccess) {
    std::snprintf(message, size, "no usable CUDA device: %s; is the NVIDIA driver loaded?",
                  cudaGetErrorString(error));
    return nullptr;
  }
  if (device >= count) {
    std::snprintf(message, size, "there is no CUDA device %d, only %d", device, count);
    return nullptr;
  }
  int major = 0;
  int minor = 0;
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device);
  if (10 * major + minor < kOldestArchitecture) {
    std::snprintf(message, size,
                  "CUDA device %d has compute capability %d.%d; 8.0 (Ampere) or later is needed",
                  device, major, minor);
    return nullptr;
  }
  std::unique_ptr<Engine> engine(new (std::nothrow) cuda::CudaEngine(device));
  const char* problem = engine == nullptr ? "out of host memory" : engine->Synchronize();
  if (problem == nullptr) return engine.release();
  std::snprintf(message, size, "%s", problem);
  return nullptr;
}

}  // namespace
}  // namespace qft

extern "C" __attribute__((visibility("default"))) const qft::CudaModule* qft_cuda_module() {
  static constexpr qft::CudaModule kModule{QFT_CUDA_BUILD_ID, &qft::Create};
  return &kModule;
}
