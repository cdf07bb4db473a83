#include "base/system.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <string>

namespace qft {
namespace {

// The number in a file that holds just that; -1 otherwise ("max", no such file).
int64_t ReadNumber(const char* path) {
  std::ifstream file(path);
  int64_t value = -1;
  return file >> value ? value : -1;
}

// A line of a file of "Name: number kB", in bytes; 0 where there is none.
int64_t ReadKilobytes(const char* path, const std::string& name) {
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    if (line.compare(0, name.size(), name) == 0) {
      return std::strtoll(line.c_str() + name.size(), nullptr, 10) * 1024;
    }
  }
  return 0;
}

}  // namespace

int64_t AvailableHostMemory() {
  int64_t available = ReadKilobytes("/proc/meminfo", "MemAvailable:");
  const int64_t limit = ReadNumber("/sys/fs/cgroup/memory.max");
  const int64_t used = ReadNumber("/sys/fs/cgroup/memory.current");
  if (limit > 0 && used >= 0) available = std::min(available, std::max<int64_t>(limit - used, 1));
  return available;
}

int64_t ResidentMemory() {
  return ReadKilobytes("/proc/self/status", "VmRSS:");
}

int64_t TotalHostMemory() {
  return ReadKilobytes("/proc/meminfo", "MemTotal:");
}

}  // namespace qft
