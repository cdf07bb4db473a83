// Copies to the host beside the operations, in a stream of their own.
#include "kernels/cuda/engine.h"

namespace qft::cuda {

void* CudaEngine::AllocateHost(size_t bytes) {
  void* data = nullptr;
  cudaSetDevice(device_);
  if (cudaHostAlloc(&data, bytes > 0 ? bytes : 1, cudaHostAllocDefault) == cudaSuccess) return data;
  cudaGetLastError();  // running out of memory is an answer, not a state of the device
  return nullptr;
}

void CudaEngine::FreeHost(void* data, size_t /*bytes*/) {
  if (data == nullptr) return;
  if (copy_stream_ != nullptr) Check(cudaStreamSynchronize(copy_stream_), "freeing host memory");
  Check(cudaFreeHost(data), "freeing host memory");
}

bool CudaEngine::PrepareCopies() {
  if (copy_stream_ != nullptr) return copied_[kCopyEvents - 1] != nullptr;
  constexpr unsigned kFlags = cudaEventDisableTiming | cudaEventBlockingSync;
  cudaSetDevice(device_);
  bool made = Check(cudaStreamCreateWithFlags(&copy_stream_, cudaStreamNonBlocking),
                    "making a stream for copies") &&
              Check(cudaEventCreateWithFlags(&operations_done_, kFlags), "making an event");
  for (uint64_t i = 0; made && i < kCopyEvents; ++i) {
    made = Check(cudaEventCreateWithFlags(&copied_[i], kFlags), "making an event");
  }
  return made;
}

void CudaEngine::EndCopies() {
  if (copy_stream_ != nullptr) cudaStreamSynchronize(copy_stream_);
  for (cudaEvent_t event : copied_) {
    if (event != nullptr) cudaEventDestroy(event);
  }
  if (operations_done_ != nullptr) cudaEventDestroy(operations_done_);
  if (copy_stream_ != nullptr) cudaStreamDestroy(copy_stream_);
}

uint64_t CudaEngine::StartCopies(const HostCopy* copies, int64_t count) {
  const uint64_t ticket = ++last_ticket_;
  if (!PrepareCopies()) return ticket;
  constexpr char kWhat[] = "copying beside the operations";
  bool started = Check(cudaEventRecord(operations_done_, stream_), kWhat) &&
                 Check(cudaStreamWaitEvent(copy_stream_, operations_done_, 0), kWhat);
  for (int64_t i = 0; started && i < count; ++i) {
    if (copies[i].bytes == 0) continue;
    started = Check(cudaMemcpyAsync(copies[i].host, copies[i].source, copies[i].bytes,
                                    cudaMemcpyDeviceToHost, copy_stream_),
                    kWhat);
  }
  Check(cudaEventRecord(EventOf(ticket), copy_stream_), kWhat);
  return ticket;
}

void CudaEngine::OrderAfterCopies(uint64_t ticket) {
  if (ticket == 0 || EventOf(ticket) == nullptr) return;
  Check(cudaStreamWaitEvent(stream_, EventOf(ticket), 0), "waiting for copies");
}

// Touches nothing of the engine that its own thread changes: an error is the caller's to tell.
const char* CudaEngine::WaitForCopies(uint64_t ticket) {
  if (ticket == 0) return nullptr;
  if (EventOf(ticket) == nullptr) return "CUDA events could not be made";
  cudaSetDevice(device_);
  const cudaError_t error = cudaEventSynchronize(EventOf(ticket));
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace qft::cuda
