// The time on the device by kernel, of a program that knows nothing of it: a library that the CUDA
// driver loads where CUDA_INJECTION64_PATH names it. Prints at exit, to the file QFT_KERNEL_TIMES
// or else to stderr: milliseconds, launches and the kernel's name, longest first.
#include <cupti.h>
#include <cxxabi.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <string>
#include <vector>

namespace {

constexpr size_t kBufferBytes = size_t{8} << 20;

struct Total {
  double milliseconds = 0;
  int64_t launches = 0;
};

std::mutex mutex;
std::map<std::string, Total> totals;

std::string Demangled(const char* name) {
  int status = 0;
  char* text = abi::__cxa_demangle(name, nullptr, nullptr, &status);
  std::string result = status == 0 ? text : name;
  std::free(text);
  return result;
}

void Count(const std::string& name, uint64_t start, uint64_t end) {
  const std::lock_guard<std::mutex> lock(mutex);
  Total& total = totals[name];
  total.milliseconds += 1e-6 * static_cast<double>(end - start);
  ++total.launches;
}

void CountRecord(const CUpti_Activity* record) {
  switch (record->kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
      // Every version of the record begins alike up to its name.
      const auto* kernel = reinterpret_cast<const CUpti_ActivityKernel9*>(record);
      return Count(Demangled(kernel->name), kernel->start, kernel->end);
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
      const auto* copy = reinterpret_cast<const CUpti_ActivityMemcpy5*>(record);
      return Count("copy of kind " + std::to_string(copy->copyKind), copy->start, copy->end);
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
      const auto* fill = reinterpret_cast<const CUpti_ActivityMemset4*>(record);
      return Count("fill", fill->start, fill->end);
    }
    default:
      return;
  }
}

void CUPTIAPI Provide(uint8_t** buffer, size_t* bytes, size_t* most_records) {
  *buffer = static_cast<uint8_t*>(std::aligned_alloc(64, kBufferBytes));
  *bytes = *buffer == nullptr ? 0 : kBufferBytes;
  *most_records = 0;
}

void CUPTIAPI Consume(CUcontext /*context*/, uint32_t /*stream*/, uint8_t* buffer, size_t /*bytes*/,
                      size_t valid) {
  CUpti_Activity* record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) CountRecord(record);
  std::free(buffer);
}

void Print() {
  cuptiActivityFlushAll(1);
  const char* path = std::getenv("QFT_KERNEL_TIMES");
  FILE* out = path == nullptr ? stderr : std::fopen(path, "w");
  if (out == nullptr) return;
  const std::lock_guard<std::mutex> lock(mutex);
  std::vector<std::pair<std::string, Total>> order(totals.begin(), totals.end());
  std::sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return a.second.milliseconds > b.second.milliseconds;
  });
  for (const auto& [name, total] : order) {
    std::fprintf(out, "%12.3f ms %8lld  %s\n", total.milliseconds,
                 static_cast<long long>(total.launches), name.c_str());
  }
  if (path != nullptr) std::fclose(out);
}

}  // namespace

extern "C" __attribute__((visibility("default"))) int InitializeInjection() {
  if (cuptiActivityRegisterCallbacks(Provide, Consume) != CUPTI_SUCCESS) return 0;
  for (const CUpti_ActivityKind kind : {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                        CUPTI_ACTIVITY_KIND_MEMCPY, CUPTI_ACTIVITY_KIND_MEMSET}) {
    if (cuptiActivityEnable(kind) != CUPTI_SUCCESS) return 0;
  }
  std::atexit(Print);
  return 1;
}
