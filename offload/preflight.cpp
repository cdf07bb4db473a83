#include "offload/preflight.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <memory>
#include <new>
#include <random>

namespace qft {
namespace {

constexpr int64_t kBytesPerFile = 4 << 20;  // of a transfer
constexpr size_t kTransfers = 2;            // under way at once
constexpr double kSeconds = 0.1;            // of writing, and of reading

struct FreeAligned {
  void operator()(std::byte* memory) const {
    ::operator delete[](memory, std::align_val_t{kStoreAlignment});
  }
};
using AlignedBytes = std::unique_ptr<std::byte[], FreeAligned>;

AlignedBytes AllocateAligned(int64_t bytes) {
  return AlignedBytes(new (std::align_val_t{kStoreAlignment})
                          std::byte[static_cast<size_t>(bytes)]);
}

AlignedBytes RandomBytes(int64_t bytes) {
  AlignedBytes memory = AllocateAligned(bytes);
  std::mt19937_64 random(1);
  for (int64_t at = 0; at < bytes; at += static_cast<int64_t>(sizeof(uint64_t))) {
    const uint64_t word = random();
    std::memcpy(memory.get() + at, &word, sizeof(word));
  }
  return memory;
}

class Preflight {
 public:
  Preflight(Store& store, int64_t bytes, int files)
      : store_(store),
        chunk_(std::min(bytes, kBytesPerFile * files)),
        chunks_(bytes / chunk_),
        content_(RandomBytes(chunk_)) {
    for (AlignedBytes& buffer : buffers_) buffer = AllocateAligned(chunk_);
  }

  // Puts the same content into chunk after chunk.
  Status Write() {
    std::deque<uint64_t> tickets;
    for (; written_ < chunks_ && store_.Report().seconds_writing < kSeconds; ++written_) {
      tickets.push_back(store_.StartWrite(content_.get(), chunk_, written_ * chunk_));
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
      if (std::memcmp(BufferOf(compared), content_.get(), static_cast<size_t>(chunk_)) != 0) {
        return Corrupt("preflight: what is read at offset ", compared * chunk_,
                       " of the store isn't what was written there");
      }
      if (store_.Report().seconds_reading > kSeconds) written_ = read;
    }
    return absl::OkStatus();
  }

 private:
  std::byte* BufferOf(int64_t chunk) const {
    return buffers_[static_cast<size_t>(chunk) % kTransfers].get();
  }

  Store& store_;
  const int64_t chunk_;
  const int64_t chunks_;
  const AlignedBytes content_;
  AlignedBytes buffers_[kTransfers];
  int64_t written_ = 0;
};

}  // namespace

StatusOr<Bandwidths> RunPreflight(Store& store, int64_t bytes, int files) {
  auto preflight = std::make_unique<Preflight>(store, bytes, files);
  Status status = preflight->Write();
  if (status.ok()) status = preflight->ReadAndCompare();
  if (!status.ok()) {
    // The disk may still write to its memory: where it does not answer, that is never freed.
    if (!store.Close().ok()) (void)preflight.release();
    return status;
  }
  const StoreReport report = store.Report();
  return Bandwidths{static_cast<double>(report.bytes_read) / report.seconds_reading,
                    static_cast<double>(report.bytes_written) / report.seconds_writing};
}

}  // namespace qft
