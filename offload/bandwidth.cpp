#include "offload/bandwidth.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <new>
#include <random>
#include <thread>

namespace qft {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kTransferBytes = kMeasuredMultiple;
constexpr int64_t kTransfers = 4;  // under way at once, of each kind
constexpr int64_t kMemoryBytes = kTransfers * kTransferBytes;

struct FreeAligned {
  void operator()(std::byte* data) const {
    ::operator delete (data, std::align_val_t{kStoreAlignment});
  }
};
using AlignedBytes = std::unique_ptr<std::byte[], FreeAligned>;

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
      std::byte* const data = memory + i % kTransfers * kTransferBytes;
      const int64_t offset = range.offset + i % transfers * kTransferBytes;
      tickets.push_back(write ? store.StartWrite(data, kTransferBytes, offset)
                              : store.StartRead(data, kTransferBytes, offset));
      if (static_cast<int64_t>(tickets.size()) < kTransfers) continue;
    }
    status.Update(store.Wait(tickets.front()));
    tickets.pop_front();
  }
  return status;
}

Status Fill(Store& store, const std::byte* memory, int64_t bytes) {
  for (int64_t offset = 0; offset < bytes; offset += kTransferBytes) {
    QFT_RETURN_IF_ERROR(store.Wait(store.StartWrite(memory, kTransferBytes, offset)));
  }
  return absl::OkStatus();
}

StatusOr<Bandwidths> Measure(Store& store, std::byte* memory, int64_t bytes, Traffic traffic,
                             double seconds) {
  QFT_RETURN_IF_ERROR(store.Register(memory, 2 * kMemoryBytes));
  QFT_RETURN_IF_ERROR(Fill(store, memory, bytes));
  const StoreReport before = store.Report();
  const Clock::time_point start = Clock::now();
  const auto end =
      start + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  const bool both = traffic == Traffic::kBoth;
  const int64_t half = bytes / kTransferBytes / 2 * kTransferBytes;
  Status written;
  std::thread writer([&] {
    if (traffic == Traffic::kRead) return;
    written = Stream(store, true, memory, {both ? half : 0, both ? half : bytes}, end);
  });
  Status read;
  if (traffic != Traffic::kWrite) {
    read = Stream(store, false, memory + kMemoryBytes, {0, both ? half : bytes}, end);
  }
  writer.join();
  QFT_RETURN_IF_ERROR(read);
  QFT_RETURN_IF_ERROR(written);
  const double taken = std::chrono::duration<double>(Clock::now() - start).count();
  const StoreReport after = store.Report();
  return Bandwidths{static_cast<double>(after.bytes_read - before.bytes_read) / taken,
                    static_cast<double>(after.bytes_written - before.bytes_written) / taken};
}

}  // namespace

StatusOr<Bandwidths> MeasureBandwidths(Store& store, int64_t bytes, Traffic traffic,
                                       double seconds) {
  if (bytes < 2 * kTransferBytes || bytes % kTransferBytes != 0) {
    return InvalidArgument("a bandwidth is measured over a multiple of ", kTransferBytes,
                           " bytes, not ", bytes);
  }
  AlignedBytes memory(static_cast<std::byte*>(
      ::operator new (2 * kMemoryBytes, std::align_val_t{kStoreAlignment})));
  // Not what a disk compresses.
  std::minstd_rand random(1);
  std::generate_n(memory.get(), 2 * kMemoryBytes, [&] { return static_cast<std::byte>(random()); });
  StatusOr<Bandwidths> measured = Measure(store, memory.get(), bytes, traffic, seconds);
  // The disk may still write to its memory: where it does not answer, that is never freed.
  if (const Status closed = store.Close(); !closed.ok()) {
    (void)memory.release();
    return closed;
  }
  return measured;
}

StatusOr<double> TryFolders(StoreOptions options) {
  options.bytes = 256 << 20;
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, Store::Open(options));
  QFT_ASSIGN_OR_RETURN(const Bandwidths both,
                       MeasureBandwidths(*store, options.bytes, Traffic::kBoth, 1));
  return both.read + both.write;
}

}  // namespace qft
