// Momentum that lives outside the engine's memory passes through a ring of engine memory: brought
// ahead of the updates that need it, taken back behind them, beside the other operations.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "kernels/ops.h"
#include "runtime/state/nvme_staging.h"
#include "runtime/state/ring_space.h"
#include "runtime/state/state_home.h"

namespace qft {

// What one update takes: the momentum of a quantised tensor, or of some of its rows.
struct MomentumUnit {
  Momentum home;
  int64_t rows = 0;
  int64_t cols = 0;
  int32_t critical_count = 0;

  // Codes, grid and critical values, each rounded up to whole pages.
  std::array<int64_t, 3> PieceBytes() const;
  int64_t bytes() const;
};

class MomentumStream {
 public:
  // home: nullptr where all momentum is in engine memory; then nothing passes. ring: engine memory,
  // with room for each unit. staging: host memory for a store, likewise; 0 bytes with host memory.
  MomentumStream(Engine& engine, StateHome* home, void* ring, int64_t ring_bytes,
                 int64_t staging_bytes);
  ~MomentumStream();
  MomentumStream(const MomentumStream&) = delete;
  MomentumStream& operator=(const MomentumStream&) = delete;

  // Errors of the memory that it needs.
  Status Open();
  // The units that updates will take, in this order; what was left of an earlier order is dropped.
  // The first error since Open.
  Status Begin(std::vector<MomentumUnit> order);
  // The next unit, in engine memory: operations may use it until Leave. Waits only for a store.
  Momentum Enter(const Momentum& home);
  void Leave(const Momentum& home);
  // All units are out of engine memory. The first error since Open: then what Enter gave may be
  // anything.
  Status Finish();
  // All units are at home.
  Status Settle();

 private:
  struct Brought {
    int64_t place = 0;  // in the ring
    uint64_t loaded = 0;
  };

  void BringAhead(bool wait);
  void Fail(Status status);
  const char* HostAt(size_t unit, int piece) const;

  Engine& engine_;
  StateHome* home_;
  char* ring_;
  int64_t ring_bytes_;
  int64_t staging_bytes_;
  RingSpace space_;
  std::unique_ptr<NvmeStaging> staging_;
  std::vector<MomentumUnit> order_;
  size_t next_ = 0;     // to be entered
  size_t brought_ = 0;  // so many of the order are, or were, in the ring
  std::deque<Brought> in_ring_;
  uint64_t last_load_ = 0;
  uint64_t last_store_ = 0;
  Status status_;
};

}  // namespace qft
