#include "kernels/cpu/create.h"

#include <cpuid.h>

#include <string_view>
#include <thread>

#include "kernels/cpu/onednn.h"

namespace qft {

// Defined by engine.cpp, once an instruction set.
namespace plain {
Engine* MakeEngine(int threads, bool integer_onednn);
}
namespace avx2 {
Engine* MakeEngine(int threads, bool integer_onednn);
}
namespace avx512 {
Engine* MakeEngine(int threads, bool integer_onednn);
}

namespace {

// Not every compiler's __builtin_cpu_supports knows this one.
bool HasF16c() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
}

bool HasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && HasF16c();
}

bool HasAvx512() {
  return HasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}

int ThreadCount(int threads) {
  if (threads > 0) return threads;
  const unsigned processors = std::thread::hardware_concurrency();
  return processors > 0 ? static_cast<int>(processors) : 1;
}

}  // namespace

Engine* CreateCpuEngineFor(const char* variant, int threads) {
  constexpr std::string_view kOwn = "-own";
  std::string_view isa = variant;
  const bool own = isa.ends_with(kOwn);
  if (own) isa.remove_suffix(kOwn.size());
  const bool integer_onednn = !own && OneDnnIntegerIsExact();
  const int count = ThreadCount(threads);
  if (isa == "plain") return plain::MakeEngine(count, integer_onednn);
  if (isa == "avx2" && HasAvx2()) return avx2::MakeEngine(count, integer_onednn);
  if (isa == "avx512" && HasAvx512()) return avx512::MakeEngine(count, integer_onednn);
  return nullptr;
}

Engine* CreateCpuEngine(int threads) {
  const char* const isa = HasAvx512() ? "avx512" : HasAvx2() ? "avx2" : "plain";
  return CreateCpuEngineFor(isa, threads);
}

}  // namespace qft
