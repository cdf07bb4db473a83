// Bandwidth of the offload store, checksums included, through its whole address space in order;
// both at once read the first half and write the second:
//   bench_store read|write|both SECONDS BYTES BLOCK_BYTES DEPTH auto|io_uring|threads FOLDER...
// Prints JSON: bytes a second, of a processor's checksums too, and seconds of processor time a GB.
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/hash.h"
#include "offload/bandwidth.h"
#include "offload/store.h"

namespace {

using qft::Status;
using qft::Store;

constexpr size_t kMemoryBytes = 64 << 20;

struct Arguments {
  qft::Traffic traffic = qft::Traffic::kBoth;
  double seconds = 0;
  qft::StoreOptions options;
};

double CpuSeconds() {
  struct rusage usage {};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

// By processor time, while the store is idle.
double ChecksumRate() {
  std::vector<std::byte> memory(kMemoryBytes);
  std::minstd_rand random(1);
  std::generate(memory.begin(), memory.end(), [&] { return static_cast<std::byte>(random()); });
  const double start = CpuSeconds();
  uint64_t sum = 0;
  for (size_t at = 0; at < kMemoryBytes; at += qft::kStoreAlignment) {
    sum += qft::Hash64(memory.data() + at, qft::kStoreAlignment);
  }
  return sum != 0 ? kMemoryBytes / (CpuSeconds() - start) : 0;
}

Status Measure(const Arguments& arguments) {
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, Store::Open(arguments.options));
  const double rate = ChecksumRate();
  const double cpu = CpuSeconds();
  QFT_ASSIGN_OR_RETURN(const qft::Bandwidths measured,
                       qft::MeasureBandwidths(*store, arguments.options.bytes, arguments.traffic,
                                              arguments.seconds));
  const qft::StoreReport report = store->Report();
  const auto moved = static_cast<double>(report.bytes_read + report.bytes_written);
  std::printf(
      "{\"read\": %.0f, \"write\": %.0f, \"checksums\": %.0f, \"cpu_seconds_per_gb\": %.3f, "
      "\"store\": \"%s\"}\n",
      measured.read, measured.write, rate, (CpuSeconds() - cpu) / moved * 1e9,
      report.description.c_str());
  return absl::OkStatus();
}

bool Parse(int count, char** words, Arguments& arguments) {
  if (count < 8) return false;
  const std::map<std::string, qft::Traffic> modes = {{"read", qft::Traffic::kRead},
                                                     {"write", qft::Traffic::kWrite},
                                                     {"both", qft::Traffic::kBoth}};
  const auto mode = modes.find(words[1]);
  if (mode == modes.end()) return false;
  arguments.traffic = mode->second;
  arguments.seconds = std::atof(words[2]);
  qft::StoreOptions& options = arguments.options;
  options.bytes = std::atoll(words[3]) / qft::kMeasuredMultiple * qft::kMeasuredMultiple;
  options.block_bytes = std::atoll(words[4]);
  options.depth = std::atoi(words[5]);
  const std::string backend = words[6];
  if (backend == "io_uring") options.backend = qft::StoreBackend::kIoUring;
  if (backend == "threads") options.backend = qft::StoreBackend::kThreads;
  options.folders.assign(words + 7, words + count);
  return true;
}

}  // namespace

int main(int count, char** words) {
  Arguments arguments;
  if (!Parse(count, words, arguments)) {
    std::fprintf(stderr,
                 "bench_store read|write|both SECONDS BYTES BLOCK_BYTES DEPTH BACKEND FOLDER...\n");
    return 2;
  }
  const Status status = Measure(arguments);
  if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
