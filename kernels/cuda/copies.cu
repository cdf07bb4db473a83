// Copies beside the operations, in streams of their own.
#include "kernels/cuda/engine.h"

namespace qft::cuda {

void* CudaEngine::AllocateHost(size_t bytes) {
  void* data = nullptr;
  cudaSetDevice(device_);
  if (cudaHostAlloc(&data, bytes > 0 ? bytes : 1, cudaHostAllocDefault) == cudaSuccess) {
    host_bytes_ += static_cast<int64_t>(bytes);
    return data;
  }
  cudaGetLastError();  // running out of memory is an answer, not a state of the device
  return nullptr;
}

void CudaEngine::FreeHost(void* data, size_t bytes) {
  if (data == nullptr) return;
  host_bytes_ -= static_cast<int64_t>(bytes);
  for (const CopyStream& lane : lanes_) {
    if (lane.stream != nullptr) Check(cudaStreamSynchronize(lane.stream), "freeing host memory");
  }
  Check(cudaFreeHost(data), "freeing host memory");
}

bool CudaEngine::PrepareLane(CopyStream& lane) {
  if (lane.stream != nullptr) return lane.copied[kCopyEvents - 1] != nullptr;
  constexpr unsigned kFlags = cudaEventDisableTiming | cudaEventBlockingSync;
  cudaSetDevice(device_);
  bool made = Check(cudaStreamCreateWithFlags(&lane.stream, cudaStreamNonBlocking),
                    "making a stream for copies") &&
              Check(cudaEventCreateWithFlags(&lane.operations_done, kFlags), "making an event");
  for (uint64_t i = 0; made && i < kCopyEvents; ++i) {
    made = Check(cudaEventCreateWithFlags(&lane.copied[i], kFlags), "making an event");
  }
  return made;
}

void CudaEngine::EndCopies() {
  for (const CopyStream& lane : lanes_) {
    if (lane.stream != nullptr) cudaStreamSynchronize(lane.stream);
    for (cudaEvent_t event : lane.copied) {
      if (event != nullptr) cudaEventDestroy(event);
    }
    if (lane.operations_done != nullptr) cudaEventDestroy(lane.operations_done);
    if (lane.stream != nullptr) cudaStreamDestroy(lane.stream);
  }
}

uint64_t CudaEngine::StartCopies(CopyLane which, const Copy* copies, int64_t count) {
  CopyStream& lane = Lane(which);
  const uint64_t ticket = ++lane.last_ticket;
  if (!PrepareLane(lane)) return ticket;
  constexpr char kWhat[] = "copying beside the operations";
  bool started = Check(cudaEventRecord(lane.operations_done, stream_), kWhat) &&
                 Check(cudaStreamWaitEvent(lane.stream, lane.operations_done, 0), kWhat);
  const uint64_t stored = Lane(CopyLane::kStore).last_ticket;
  if (started && which == CopyLane::kLoad && stored > 0) {
    started = Check(cudaStreamWaitEvent(lane.stream, EventOf(CopyLane::kStore, stored), 0), kWhat);
  }
  for (int64_t i = 0; started && i < count; ++i) {
    if (copies[i].bytes == 0) continue;
    started = Check(cudaMemcpyAsync(copies[i].to, copies[i].from, copies[i].bytes,
                                    cudaMemcpyDefault, lane.stream),
                    kWhat);
  }
  Check(cudaEventRecord(EventOf(which, ticket), lane.stream), kWhat);
  return ticket;
}

void CudaEngine::OrderAfterCopies(CopyLane lane, uint64_t ticket) {
  if (ticket == 0 || EventOf(lane, ticket) == nullptr) return;
  Check(cudaStreamWaitEvent(stream_, EventOf(lane, ticket), 0), "waiting for copies");
}

// Touches nothing of the engine that its own thread changes: an error is the caller's to tell.
const char* CudaEngine::WaitForCopies(CopyLane lane, uint64_t ticket) {
  if (ticket == 0) return nullptr;
  if (EventOf(lane, ticket) == nullptr) return "CUDA events could not be made";
  cudaSetDevice(device_);
  const cudaError_t error = cudaEventSynchronize(EventOf(lane, ticket));
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace qft::cuda
