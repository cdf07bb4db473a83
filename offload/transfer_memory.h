// Memory that transfers of a store use, freed only where the store has let go of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <random>

#include "offload/store.h"

namespace qft {

class TransferMemory {
 public:
  // Page-aligned. Throws std::bad_alloc.
  TransferMemory(Store& store, int64_t bytes)
      : store_(store),
        data_(new (std::align_val_t{kStoreAlignment}) std::byte[static_cast<size_t>(bytes)]) {}
  // Of memory that is lent the store is closed. A disk that then still does not answer may write to
  // it as long as the process lives.
  ~TransferMemory() {
    if (lent_ && !store_.Close().ok()) (void)data_.release();
  }
  TransferMemory(const TransferMemory&) = delete;
  TransferMemory& operator=(const TransferMemory&) = delete;

  std::byte* data() const { return data_.get(); }
  // Before the first transfer, and once all of them have been waited for with success.
  void Lend() { lent_ = true; }
  void TakeBack() { lent_ = false; }

 private:
  struct FreeAligned {
    void operator()(std::byte* memory) const {
      ::operator delete[](memory, std::align_val_t{kStoreAlignment});
    }
  };

  Store& store_;
  std::unique_ptr<std::byte[], FreeAligned> data_;
  bool lent_ = false;
};

// Content for trials, which no disk compresses. A multiple of 8 bytes.
inline void FillRandomly(std::byte* memory, int64_t bytes) {
  std::mt19937_64 random(1);
  for (int64_t at = 0; at < bytes; at += static_cast<int64_t>(sizeof(uint64_t))) {
    const uint64_t word = random();
    std::memcpy(memory + at, &word, sizeof(word));
  }
}

}  // namespace qft
