// Bandwidth of the offload store, checksums included, through its whole address space in order;
// both at once read the first half and write the second:
//   bench_store read|write|both SECONDS BYTES BLOCK_BYTES DEPTH auto|io_uring|threads FOLDER...
// Prints JSON: bytes a second, of a processor's checksums too, and seconds of processor time a GB.
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/hash.h"
#include "offload/store.h"

namespace {

using qft::Status;
using qft::StatusOr;
using qft::Store;
using Clock = std::chrono::steady_clock;

constexpr int64_t kTransferBytes = 16 << 20;
constexpr size_t kTransfers = 4;  // under way at once, of each kind
constexpr size_t kMemoryBytes = kTransfers * kTransferBytes;

struct Arguments {
  std::string mode;
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

struct Range {
  int64_t offset;
  int64_t bytes;
};

// Keeps transfers under way until `end`, then waits for them.
Status Stream(Store& store, bool write, std::byte* memory, const Range& range,
              Clock::time_point end) {
  std::deque<uint64_t> tickets;
  Status status;
  const int64_t transfers = range.bytes / kTransferBytes;
  for (int64_t i = 0; Clock::now() < end || !tickets.empty(); ++i) {
    if (Clock::now() < end) {
      std::byte* const data = memory + i % static_cast<int64_t>(kTransfers) * kTransferBytes;
      const int64_t offset = range.offset + i % transfers * kTransferBytes;
      tickets.push_back(write ? store.StartWrite(data, kTransferBytes, offset)
                              : store.StartRead(data, kTransferBytes, offset));
      if (tickets.size() < kTransfers) continue;
    }
    status.Update(store.Wait(tickets.front()));
    tickets.pop_front();
  }
  return status;
}

Status Fill(Store& store, std::byte* memory, int64_t bytes) {
  for (int64_t offset = 0; offset < bytes; offset += kTransferBytes) {
    QFT_RETURN_IF_ERROR(store.Wait(store.StartWrite(memory, kTransferBytes, offset)));
  }
  return absl::OkStatus();
}

// By processor time, while the store is idle.
double ChecksumRate(const std::byte* memory) {
  const double start = CpuSeconds();
  uint64_t sum = 0;
  for (size_t at = 0; at < kMemoryBytes; at += qft::kStoreAlignment) {
    sum += qft::Hash64(memory + at, qft::kStoreAlignment);
  }
  return sum != 0 ? kMemoryBytes / (CpuSeconds() - start) : 0;
}

Status Measure(const Arguments& arguments, std::byte* memory) {
  const int64_t bytes = arguments.options.bytes;
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, Store::Open(arguments.options));
  QFT_RETURN_IF_ERROR(store->Register(memory, 2 * kMemoryBytes));
  QFT_RETURN_IF_ERROR(Fill(*store, memory, bytes));
  const qft::StoreReport before = store->Report();
  const double cpu = CpuSeconds();
  const Clock::time_point start = Clock::now();
  const auto end = start + std::chrono::duration_cast<Clock::duration>(
                               std::chrono::duration<double>(arguments.seconds));
  const bool both = arguments.mode == "both";
  const int64_t half = bytes / kTransferBytes / 2 * kTransferBytes;
  const Range read_range{0, both ? half : bytes};
  const Range written_range{both ? half : 0, both ? half : bytes};
  Status written;
  std::thread writer([&] {
    if (arguments.mode != "read") written = Stream(*store, true, memory, written_range, end);
  });
  Status read;
  if (arguments.mode != "write") {
    read = Stream(*store, false, memory + kMemoryBytes, read_range, end);
  }
  writer.join();
  read.Update(written);
  QFT_RETURN_IF_ERROR(read);
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const qft::StoreReport report = store->Report();
  const auto moved_in = static_cast<double>(report.bytes_read - before.bytes_read);
  const auto moved_out = static_cast<double>(report.bytes_written - before.bytes_written);
  const double cpu_seconds_per_gb = (CpuSeconds() - cpu) / (moved_in + moved_out) * 1e9;
  std::printf(
      "{\"read\": %.0f, \"write\": %.0f, \"checksums\": %.0f, \"cpu_seconds_per_gb\": %.3f, "
      "\"store\": \"%s\"}\n",
      moved_in / seconds, moved_out / seconds, ChecksumRate(memory), cpu_seconds_per_gb,
      report.description.c_str());
  return store->Close();
}

bool Parse(int count, char** words, Arguments& arguments) {
  if (count < 8) return false;
  arguments.mode = words[1];
  arguments.seconds = std::atof(words[2]);
  qft::StoreOptions& options = arguments.options;
  options.bytes = std::atoll(words[3]) / kTransferBytes * kTransferBytes;
  options.block_bytes = std::atoll(words[4]);
  options.depth = std::atoi(words[5]);
  const std::string backend = words[6];
  if (backend == "io_uring") options.backend = qft::StoreBackend::kIoUring;
  if (backend == "threads") options.backend = qft::StoreBackend::kThreads;
  options.folders.assign(words + 7, words + count);
  return arguments.mode == "read" || arguments.mode == "write" || arguments.mode == "both";
}

}  // namespace

int main(int count, char** words) {
  Arguments arguments;
  if (!Parse(count, words, arguments)) {
    std::fprintf(stderr,
                 "bench_store read|write|both SECONDS BYTES BLOCK_BYTES DEPTH BACKEND FOLDER...\n");
    return 2;
  }
  constexpr std::align_val_t kAlignment{qft::kStoreAlignment};
  auto* const memory = new (kAlignment) std::byte[2 * kMemoryBytes];
  std::minstd_rand random(1);
  std::generate_n(memory, 2 * kMemoryBytes, [&] { return static_cast<std::byte>(random()); });
  const Status status = Measure(arguments, memory);
  if (status.ok()) ::operator delete[](memory, kAlignment);
  if (!status.ok()) std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
