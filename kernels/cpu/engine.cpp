#include "kernels/cpu/engine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/system.h"

namespace qft::QFT_ISA {

namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{2} << 20;
// From here on memory comes from the kernel, already zero and in huge pages where there are any.
constexpr size_t kMappedBytes = size_t{4} << 20;

#define QFT_STRING(x) QFT_STRING_INNER(x)
#define QFT_STRING_INNER(x) #x

size_t MappedSize(size_t bytes) {
  return (bytes + kHugePage - 1) / kHugePage * kHugePage;
}

void* AllocateAligned(size_t bytes) {
  void* data = nullptr;
  return ::posix_memalign(&data, kAlignment, bytes > 0 ? bytes : 1) == 0 ? data : nullptr;
}

}  // namespace

Engine* MakeEngine(int threads, bool integer_onednn) {
  return new CpuEngine(threads, integer_onednn);
}

CpuEngine::CpuEngine(int threads, bool integer_onednn)
    : pool_(threads, PrepareOneDnnThread),
      integer_onednn_(integer_onednn),
      workers_(new Worker[static_cast<size_t>(threads)]) {
  try {
    for (int i = 0; i < threads; ++i) workers_[i].onednn = OneDnn::Create();
  } catch (...) {
    FreeWorkers();
    throw;
  }
  ::snprintf(description_, sizeof(description_), "%s, integer matmuls: %s, %d thread%s",
             QFT_STRING(QFT_ISA), integer_onednn ? "onednn" : "own", threads,
             threads == 1 ? "" : "s");
}

CpuEngine::~CpuEngine() {
  FreeWorkers();
}

void CpuEngine::FreeWorkers() {
  for (int i = 0; i < pool_.threads(); ++i) {
    ::free(workers_[i].scratch);
    delete workers_[i].onednn;
  }
  delete[] workers_;
}

void* CpuEngine::Allocate(size_t bytes) {
  if (bytes < kMappedBytes) {
    void* data = AllocateAligned(bytes);
    if (data != nullptr) ::memset(data, 0, bytes);
    return data;
  }
  if (bytes > SIZE_MAX - kHugePage) return nullptr;
  const size_t size = MappedSize(bytes);
  void* data = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data == MAP_FAILED) return nullptr;
  ::madvise(data, size, MADV_HUGEPAGE);  // a hint: without huge pages it is only slower
  return data;
}

void CpuEngine::Free(void* data, size_t bytes) {
  if (data == nullptr) return;
  if (bytes < kMappedBytes) {
    ::free(data);
  } else {
    ::munmap(data, MappedSize(bytes));
  }
}

void CpuEngine::CopyToEngine(void* destination, const void* host, size_t bytes) {
  if (bytes > 0) ::memcpy(destination, host, bytes);
}

void CpuEngine::CopyToHost(void* host, const void* source, size_t bytes) {
  if (bytes > 0) ::memcpy(host, source, bytes);
}

void CpuEngine::Fill(void* destination, int value, size_t bytes) {
  if (bytes > 0) ::memset(destination, value, bytes);
}

void* CpuEngine::AllocateHost(size_t bytes) {
  void* data = Allocate(bytes);
  if (data != nullptr) host_bytes_ += static_cast<int64_t>(bytes);
  return data;
}
void CpuEngine::FreeHost(void* data, size_t bytes) {
  if (data != nullptr) host_bytes_ -= static_cast<int64_t>(bytes);
  Free(data, bytes);
}
// All lanes are one thread's.
uint64_t CpuEngine::StartCopies(CopyLane /*lane*/, const Copy* copies, int64_t count) {
  try {
    for (int64_t i = 0; i < count; ++i) {
      copies_.Start(copies[i].to, copies[i].from, copies[i].bytes);
    }
  } catch (...) {
    copies_.Wait(copies_.started());  // there is no ticket to wait for them with
    throw;
  }
  return copies_.started();
}
// Operations run on the thread that calls them, so that it is this thread that waits.
void CpuEngine::OrderAfterCopies(CopyLane /*lane*/, uint64_t ticket) {
  copies_.Wait(ticket);
}
const char* CpuEngine::WaitForCopies(CopyLane /*lane*/, uint64_t ticket) {
  copies_.Wait(ticket);
  return nullptr;
}

int64_t CpuEngine::AvailableMemory() const {
  return AvailableHostMemory();
}
int64_t CpuEngine::OccupiedMemory() const {
  return 0;
}
int64_t CpuEngine::ReservedMemory() const {
  return 0;
}
// Workers have scratch of their own, a few megabytes.
size_t CpuEngine::ScratchBytes(const ScratchShape& /*shape*/) const {
  return 0;
}
void CpuEngine::UseScratch(void* /*memory*/, size_t /*bytes*/) {}
DType CpuEngine::ActivationType() const {
  return DType::kF32;
}
int64_t CpuEngine::TokenMultiple() const {
  return 1;
}
const char* CpuEngine::Synchronize() {
  return error_.load(std::memory_order_acquire);
}
const char* CpuEngine::Name() const {
  return "cpu";
}
const char* CpuEngine::Description() const {
  return description_;
}
DeviceReport CpuEngine::Report() const {
  return {ResidentMemory(), TotalHostMemory(), 0, host_bytes_};
}

void CpuEngine::Fail(const char* message) {
  const char* none = nullptr;
  error_.compare_exchange_strong(none, message, std::memory_order_acq_rel);
}

char* CpuEngine::WorkerScratch(int worker, size_t bytes) {
  Worker& own = workers_[worker];
  if (bytes > own.scratch_bytes) {
    ::free(own.scratch);
    own.scratch = static_cast<char*>(AllocateAligned(bytes));
    own.scratch_bytes = own.scratch != nullptr ? bytes : 0;
    if (own.scratch == nullptr) Fail("out of memory for a worker's scratch of the cpu engine");
  }
  return own.scratch;
}

bool CpuEngine::SupportsDType(DType dtype) {
  if (dtype == DType::kF32 || dtype == DType::kI8) return true;
  Fail(dtype == DType::kBF16 ? "bf16 operands are not supported by the cpu engine"
                             : "the cpu engine supports operands of kF32 and kI8 only");
  return false;
}

}  // namespace qft::QFT_ISA
