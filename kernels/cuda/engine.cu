#include "kernels/cuda/engine.h"

#include <algorithm>
#include <cstdio>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/profile.h"
#include "kernels/cuda/sizes.h"

namespace qft::cuda {

CudaEngine::CudaEngine(int device) : device_(device) {
  cudaDeviceProp properties;
  if (!Check(cudaSetDevice(device), "choosing the device")) return;
  if (!Check(cudaGetDeviceProperties(&properties, device), "asking for the device")) return;
  if (!Check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "making a stream")) return;
  void* flag = nullptr;
  if (!Check(cudaHostAlloc(&flag, sizeof(int), cudaHostAllocMapped), "allocating a flag")) return;
  token_outside_ = static_cast<int*>(flag);
  *token_outside_ = 0;
  multiprocessors_ = properties.multiProcessorCount;
  architecture_ = std::min(10 * properties.major + properties.minor, QFT_CUDA_MOST);
  std::snprintf(description_, sizeof(description_), "%.80s, sm_%d, %d multiprocessors, %.1f GB",
                properties.name, architecture_, multiprocessors_,
                static_cast<double>(properties.totalGlobalMem) * 1e-9);
}

CudaEngine::~CudaEngine() {
  if (stream_ != nullptr) cudaStreamSynchronize(stream_);
  EndCopies();
  if (blas_ != nullptr) cublasDestroy(blas_);
  cudaFree(own_scratch_);
  if (token_outside_ != nullptr) cudaFreeHost(token_outside_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void* CudaEngine::Allocate(size_t bytes) {
  void* data = nullptr;
  cudaSetDevice(device_);
  if (cudaMalloc(&data, bytes > 0 ? bytes : 1) != cudaSuccess) {
    cudaGetLastError();  // running out of memory is an answer, not a state of the device
    return nullptr;
  }
  Check(cudaMemsetAsync(data, 0, bytes, stream_), "clearing memory");
  Check(cudaStreamSynchronize(stream_), "clearing memory");
  return data;
}

void CudaEngine::Free(void* data, size_t /*bytes*/) {
  if (data == nullptr) return;
  Check(cudaStreamSynchronize(stream_), "freeing memory");
  Check(cudaFree(data), "freeing memory");
}

void CudaEngine::CopyToEngine(void* destination, const void* host, size_t bytes) {
  if (bytes == 0) return;
  if (!Check(cudaMemcpyAsync(destination, host, bytes, cudaMemcpyDefault, stream_),
             "copying to the device")) {
    return;
  }
  // From pageable memory to the device the call has read everything when it returns; from or to
  // pinned memory not.
  cudaPointerAttributes attributes;
  if (cudaPointerGetAttributes(&attributes, host) != cudaSuccess) {
    cudaGetLastError();
  } else if (attributes.type == cudaMemoryTypeUnregistered) {
    return;
  }
  Check(cudaStreamSynchronize(stream_), "copying to the device");
}

void CudaEngine::CopyToHost(void* host, const void* source, size_t bytes) {
  if (bytes == 0) return;
  if (!Check(cudaMemcpyAsync(host, source, bytes, cudaMemcpyDefault, stream_),
             "copying to the host")) {
    return;
  }
  Check(cudaStreamSynchronize(stream_), "copying to the host");
}

void CudaEngine::Fill(void* destination, int value, size_t bytes) {
  if (bytes > 0) Check(cudaMemsetAsync(destination, value, bytes, stream_), "filling memory");
}

int64_t CudaEngine::AvailableMemory() const {
  size_t available = 0;
  size_t total = 0;
  if (cudaMemGetInfo(&available, &total) != cudaSuccess) return 0;
  return std::max<int64_t>(static_cast<int64_t>(available) - kDriverBytes, 0);
}

int64_t CudaEngine::OccupiedMemory() const {
  return Report().used_bytes;
}

int64_t CudaEngine::ReservedMemory() const {
  return kDriverBytes;
}

size_t CudaEngine::ScratchBytes(const ScratchShape& shape) const {
  return cuda::ScratchBytes(shape, multiprocessors_);
}

void CudaEngine::UseScratch(void* memory, size_t bytes) {
  Check(cudaStreamSynchronize(stream_), "changing scratch memory");
  Check(cudaFree(own_scratch_), "freeing scratch memory");
  own_scratch_ = nullptr;
  scratch_ = memory;
  scratch_bytes_ = memory == nullptr ? 0 : bytes;
}

DType CudaEngine::ActivationType() const {
  return kActivationType;
}

int64_t CudaEngine::TokenMultiple() const {
  return kTokenMultiple;
}

const char* CudaEngine::Synchronize() {
  if (stream_ != nullptr) Check(cudaStreamSynchronize(stream_), "waiting for the device");
  if (token_outside_ != nullptr && *token_outside_ != 0) {
    Fail("embedding: token outside the table");
  }
  return error_[0] != 0 ? error_ : nullptr;
}

const char* CudaEngine::Name() const {
  return "cuda";
}

const char* CudaEngine::Description() const {
  return description_;
}

// The driver's own count, which has in it what other programs use and the context's fixed cost.
DeviceReport CudaEngine::Report() const {
  size_t available = 0;
  size_t total = 0;
  DeviceReport report;
  report.host_bytes = host_bytes_;
  if (cudaMemGetInfo(&available, &total) != cudaSuccess) return report;
  report.used_bytes = static_cast<int64_t>(total - available);
  report.total_bytes = static_cast<int64_t>(total);
  // Multiply-adds a clock and multiprocessor, dense, from the architectures' white papers.
  const double per_clock = architecture_ == 80 ? 2048 : architecture_ >= 90 ? 4096 : 1024;
  int kilohertz = 0;
  cudaDeviceGetAttribute(&kilohertz, cudaDevAttrClockRate, device_);
  report.integer_peak = 2.0 * per_clock * multiprocessors_ * 1e3 * kilohertz;
  return report;
}

// Of a device that no profile knows nothing is expected.
Speeds CudaEngine::BestSpeeds() const {
  cudaDeviceProp properties;
  if (cudaGetDeviceProperties(&properties, device_) != cudaSuccess) return {};
  const DeviceProfile* profile = FindProfileOfDevice(properties.name);
  return profile == nullptr ? Speeds() : SpeedsOf(*profile);
}

void CudaEngine::Fail(const char* message) {
  if (error_[0] == 0) std::snprintf(error_, sizeof(error_), "%s", message);
}

bool CudaEngine::Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return true;
  char message[256];
  std::snprintf(message, sizeof(message), "CUDA error while %s: %s (%s)", what,
                cudaGetErrorString(error), cudaGetErrorName(error));
  Fail(message);
  return false;
}

void* CudaEngine::Scratch(size_t bytes) {
  if (bytes <= scratch_bytes_) return scratch_;
  // Earlier ops may still use what is given back: cudaFree waits for them.
  Check(cudaFree(own_scratch_), "freeing scratch memory");
  own_scratch_ = scratch_ = nullptr;
  scratch_bytes_ = 0;
  if (!Check(cudaMalloc(&own_scratch_, bytes), "allocating scratch memory")) return nullptr;
  scratch_ = own_scratch_;
  scratch_bytes_ = bytes;
  return scratch_;
}

bool CudaEngine::SupportsDType(DType dtype) {
  if (dtype == DType::kI8 || dtype == DType::kF32) return true;
  Fail(dtype == DType::kBF16 ? "bf16 operands are not supported by the cuda engine"
                             : "this type of operand is not supported by the cuda engine");
  return false;
}

}  // namespace qft::cuda
