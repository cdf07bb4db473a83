#include "base/system.h"

#include <algorithm>
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

int64_t MemAvailable() {
  std::ifstream file("/proc/meminfo");
  std::string key;
  int64_t kilobytes = 0;
  std::string unit;
  while (file >> key >> kilobytes) {
    std::getline(file, unit);
    if (key == "MemAvailable:") return kilobytes * 1024;
  }
  return 0;
}

}  // namespace

int64_t AvailableHostMemory() {
  int64_t available = MemAvailable();
  const int64_t limit = ReadNumber("/sys/fs/cgroup/memory.max");
  const int64_t used = ReadNumber("/sys/fs/cgroup/memory.current");
  if (limit > 0 && used >= 0) available = std::min(available, std::max<int64_t>(limit - used, 1));
  return available;
}

}  // namespace qft
