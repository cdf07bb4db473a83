#include "offload/preflight.h"

#include <algorithm>
#include <cstring>
#include <deque>

#include "offload/transfer_memory.h"

namespace qft {
namespace {

constexpr int64_t kBytesPerFile = 4 << 20;  // of a transfer
constexpr size_t kTransfers = 2;            // under way at once
constexpr double kSeconds = 0.1;            // of writing, and of reading

class Preflight {
 public:
  Preflight(Store& store, int64_t bytes, int files)
      : store_(store),
        chunk_(std::min(bytes, kBytesPerFile * files)),
        chunks_(bytes / chunk_),
        memory_(store, static_cast<int64_t>(kTransfers + 1) * chunk_) {
    FillRandomly(Content(), chunk_);
  }

  Status Run() {
    memory_.Lend();
    QFT_RETURN_IF_ERROR(Write());
    QFT_RETURN_IF_ERROR(ReadAndCompare());
    memory_.TakeBack();
    return absl::OkStatus();
  }

 private:
  // Puts the same content into chunk after chunk.
  Status Write() {
    std::deque<uint64_t> tickets;
    for (; written_ < chunks_ && store_.Report().seconds_writing < kSeconds; ++written_) {
      tickets.push_back(store_.StartWrite(Content(), chunk_, written_ * chunk_));
      if (tickets.size() < kTransfers) continue;
      QFT_RETURN_IF_ERROR(store_.Wait(tickets.front()));
      tickets.pop_front();
    }
    for (const uint64_t ticket : tickets) QFT_RETURN_IF_ERROR(store_.Wait(ticket));
    return absl::OkStatus();
  }

  Status ReadAndCompare() {
    std::deque<uint64_t> tickets;
    int64_t read = 0;
    for (int64_t compared = 0; compared < written_; ++compared) {
      for (; read < std::min<int64_t>(written_, compared + kTransfers); ++read) {
        tickets.push_back(store_.StartRead(BufferOf(read), chunk_, read * chunk_));
      }
      QFT_RETURN_IF_ERROR(store_.Wait(tickets.front()));
      tickets.pop_front();
      if (std::memcmp(BufferOf(compared), Content(), static_cast<size_t>(chunk_)) != 0) {
        return Corrupt("preflight: what is read at offset ", compared * chunk_,
                       " of the store isn't what was written there");
      }
      if (store_.Report().seconds_reading > kSeconds) written_ = read;
    }
    return absl::OkStatus();
  }

  std::byte* Content() const { return memory_.data(); }
  std::byte* BufferOf(int64_t chunk) const {
    return memory_.data() + (1 + chunk % static_cast<int64_t>(kTransfers)) * chunk_;
  }

  Store& store_;
  const int64_t chunk_;
  const int64_t chunks_;
  TransferMemory memory_;  // the content, and buffers to read into
  int64_t written_ = 0;
};

}  // namespace

StatusOr<Bandwidths> RunPreflight(Store& store, int64_t bytes, int files) {
  QFT_RETURN_IF_ERROR(Preflight(store, bytes, files).Run());
  const StoreReport report = store.Report();
  return Bandwidths{static_cast<double>(report.bytes_read) / report.seconds_reading,
                    static_cast<double>(report.bytes_written) / report.seconds_writing};
}

}  // namespace qft
