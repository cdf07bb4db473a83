// A copy of a session's states in host memory, made beside training: the states as they were when
// it was started, bit for bit, whatever updates follow.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/status.h"
#include "kernels/ops.h"

namespace qft {

// Engine memory that belongs to a tensor's states; tensor < 0: to no single tensor's.
struct StateRange {
  int tensor = -1;
  const void* data = nullptr;
  size_t bytes = 0;
};

class Snapshot {
 public:
  // Allocates `bytes` of host memory; 0: none, and no snapshot can be started. Where there is not
  // as much, capacity() stays 0.
  Snapshot(Engine& engine, int64_t bytes);
  // No reader is left. Waits for copies that are under way.
  ~Snapshot();
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  int64_t capacity() const { return capacity_; }
  // From Start to Release.
  bool in_use() const { return in_use_.load(std::memory_order_acquire); }

  // Starts copying, in the order given, ranges of a tensor side by side: those first that will be
  // overwritten first. Errors: BUSY; INTERNAL (too little memory was planned).
  Status Start(const std::vector<StateRange>& ranges);
  // To be called before what overwrites the tensor's states, or any: that happens after their copy.
  void BeforeOverwrite(int tensor);
  void BeforeOverwriteAll();
  // Whether nothing has announced an overwrite of the tensor since Start.
  bool untouched(int tensor) const;

  // For the one who reads the copy, on any thread. The copy of ranges[i], once it is whole.
  StatusOr<const char*> Read(size_t range) const;
  // When all is copied the memory is free for the next snapshot.
  Status Release();

 private:
  struct Copied {
    const char* data = nullptr;
    uint64_t ticket = 0;
  };

  Engine& engine_;
  void* memory_ = nullptr;
  int64_t capacity_ = 0;
  std::atomic<bool> in_use_{false};
  std::vector<Copied> copied_;     // by range; not changed while in use
  std::vector<uint64_t> tickets_;  // by tensor, to be waited for before an overwrite; 0: none
  uint64_t last_ticket_ = 0;
};

}  // namespace qft
