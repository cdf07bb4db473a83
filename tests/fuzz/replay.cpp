// Runs the inputs of a corpus through a fuzzer's function, for builds without libFuzzer.
//   fuzz_NAME FOLDER
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/fuzz.h"

// The inputs are small: what takes more memory believes a number in one. Of the sanitizer's own
// memory there is more, so that there each allocation is limited instead.
// NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming)
extern "C" const char* __asan_default_options() {
  return "max_allocation_size_mb=64";
}

static void LimitMemory() {
#ifndef __SANITIZE_ADDRESS__
  constexpr rlimit kLimit = {256 << 20, 256 << 20};
  qft::Require(setrlimit(RLIMIT_DATA, &kLimit) == 0, "memory can be limited");
#endif
}

int main(int argc, char** argv) {
  if (argc != 2) {
    std::cerr << "usage: " << argv[0] << " FOLDER\n";
    return 2;
  }
  LimitMemory();
  std::vector<std::filesystem::path> inputs;
  for (const auto& entry : std::filesystem::directory_iterator(argv[1])) {
    inputs.push_back(entry.path());
  }
  std::sort(inputs.begin(), inputs.end());
  for (const std::filesystem::path& input : inputs) {
    std::cout << input.filename().string() << std::endl;  // flushed: the last one is the finding
    std::ifstream in(input, std::ios::binary);
    const std::vector<char> bytes(std::istreambuf_iterator<char>(in), {});
    LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  }
  return inputs.empty() ? 1 : 0;
}
