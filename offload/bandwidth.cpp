#include "offload/bandwidth.h"

#include <array>
#include <thread>

#include "base/worker_thread.h"
#include "offload/transfer_memory.h"

namespace qft {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kTransferBytes = kMeasuredMultiple;
constexpr int64_t kTransfers = 4;  // under way at once, of each kind
constexpr int64_t kMemoryBytes = kTransfers * kTransferBytes;

struct Range {
  int64_t offset;
  int64_t bytes;
};

// Keeps transfers under way until `end`, then waits for them.
Status Stream(Store& store, bool write, std::byte* memory, const Range& range,
              Clock::time_point end) {
  std::array<uint64_t, kTransfers> tickets{};
  Status status;
  const int64_t transfers = range.bytes / kTransferBytes;
  for (int64_t i = 0; Clock::now() < end && status.ok(); ++i) {
    const int64_t place = i % kTransfers;
    uint64_t& ticket = tickets[static_cast<size_t>(place)];
    if (ticket > 0) status.Update(store.Wait(ticket));
    std::byte* const data = memory + place * kTransferBytes;
    const int64_t offset = range.offset + i % transfers * kTransferBytes;
    ticket = write ? store.StartWrite(data, kTransferBytes, offset)
                   : store.StartRead(data, kTransferBytes, offset);
  }
  for (const uint64_t ticket : tickets) {
    if (ticket > 0) status.Update(store.Wait(ticket));
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
  std::thread writer = StartWorker([&] {
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
  TransferMemory memory(store, 2 * kMemoryBytes);
  FillRandomly(memory.data(), 2 * kMemoryBytes);
  memory.Lend();
  return Measure(store, memory.data(), bytes, traffic, seconds);
}

StatusOr<double> TryFolders(StoreOptions options) {
  options.bytes = 256 << 20;
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<Store> store, Store::Open(options));
  QFT_ASSIGN_OR_RETURN(const Bandwidths both,
                       MeasureBandwidths(*store, options.bytes, Traffic::kBoth, 1));
  return both.read + both.write;
}

}  // namespace qft
