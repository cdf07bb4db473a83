// Host memory between a store and an engine: units are read ahead into a ring of it, in their
// order, and written back from there by a thread of its own.
#pragma once

#include <array>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/status.h"
#include "kernels/ops.h"
#include "offload/store.h"
#include "runtime/state/ring_space.h"

namespace qft {

// Ranges of a store that are read and written together, in whole pages; 0 bytes: no such piece.
struct StoredUnit {
  std::array<int64_t, 3> offset{};
  std::array<int64_t, 3> bytes{};
};

// All by one thread.
class NvmeStaging {
 public:
  // Allocates `bytes` and registers a ring in them, a page less, for it begins at one. Errors:
  // OUT_OF_MEMORY; the store's; of the thread's start.
  static StatusOr<std::unique_ptr<NvmeStaging>> Open(Engine& engine, Store& store, int64_t bytes);
  ~NvmeStaging();
  NvmeStaging(const NvmeStaging&) = delete;
  NvmeStaging& operator=(const NvmeStaging&) = delete;

  // Units will be needed in this order. Of an earlier order nothing is read any more. INTERNAL
  // where the ring has no room for one of them.
  Status Begin(std::vector<StoredUnit> order);
  // Whether WaitReady would return at once.
  bool Ready(size_t unit);
  // Until the unit's bytes stand at At(unit, piece); the units before it have been given back or
  // are ready.
  Status WaitReady(size_t unit);
  // nullptr where there is no such piece.
  char* At(size_t unit, int piece) const;
  // Copies to At(unit, ..) have been started, the last with this ticket of lane kStore: writes
  // follow them. In the units' order.
  void GiveBack(size_t unit, uint64_t ticket);
  // Until all units given back have been written.
  Status Settle();

 private:
  struct Staged {
    int64_t place = -1;  // in the ring; -1: not there yet
    std::array<uint64_t, 3> reads{};
  };
  struct Writing {
    StoredUnit unit;
    int64_t place = 0;
    uint64_t copied = 0;
    std::array<uint64_t, 3> writes{};
  };

  NvmeStaging(Engine& engine, Store& store, int64_t bytes)
      : engine_(engine), store_(store), bytes_(bytes), space_(bytes - kStoreAlignment) {}
  char* Pages() const;  // the ring
  void ReadAhead();
  bool OnItsWayBack(const StoredUnit& unit) const;
  void Loop();
  Status WriteNext(std::unique_lock<std::mutex>& lock);

  Engine& engine_;
  Store& store_;
  const int64_t bytes_;
  // Made beforehand: told where there is no memory.
  const Status no_memory_ =
      MakeError(ErrorCode::kOutOfMemory, "no memory to write momentum back with");
  char* memory_ = nullptr;
  std::vector<StoredUnit> order_;
  std::vector<Staged> staged_;  // by unit
  size_t read_ = 0;             // so many units' reads have been started
  size_t given_back_ = 0;

  std::mutex mutex_;
  std::condition_variable changed_;
  RingSpace space_;              // from here on under the mutex
  std::deque<Writing> copying_;  // to host memory
  std::deque<Writing> writing_;  // to the store
  bool stopping_ = false;
  Status status_;
  std::thread thread_;
};

}  // namespace qft
