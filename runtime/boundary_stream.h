// The residual stream between blocks, while micro-batches wait their turn: in engine memory, or in
// host memory, from where it passes through a ring of engine memory in the order of a schedule.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "kernels/ops.h"
#include "runtime/schedule.h"
#include "runtime/state/state_home.h"

namespace qft {

// How an item of a schedule uses a boundary.
enum class BoundaryUse { kNone, kRead, kWrite, kScratch };

class BoundaryStream {
 public:
  // Matrices of the ring, where boundaries live elsewhere.
  static constexpr int64_t kRing = 8;

  // matrices: [block 0 .. blocks][slot], or, where there is a home, the ring, all of one shape.
  BoundaryStream(Engine& engine, StateHome* home, std::vector<Matrix> matrices, int blocks,
                 int64_t slots);
  ~BoundaryStream();
  BoundaryStream(const BoundaryStream&) = delete;
  BoundaryStream& operator=(const BoundaryStream&) = delete;

  // The items that follow, in their order; rows: of each slot's micro-batch.
  void Begin(const std::vector<ScheduleItem>& schedule, std::vector<int64_t> rows);
  // Around each item's operations.
  void Enter();
  void Leave();
  // A boundary that the entered item uses, with the micro-batch's rows.
  Matrix At(int index, int micro_batch) const;

 private:
  struct Visit {
    int index;
    int micro_batch;
    BoundaryUse use;
    int64_t after;  // the visit before that writes what this one reads; -1: none
  };
  using Visits = std::array<Visit, 2>;

  Visits VisitsOf(const ScheduleItem& item) const;
  void BringAhead();
  const Matrix& InRing(int64_t visit) const {
    return matrices_[static_cast<size_t>(visit % kRing)];
  }
  char* HomeOf(const Visit& visit) const;
  size_t BytesOf(const Visit& visit) const;

  Engine& engine_;
  StateHome* home_;
  std::vector<Matrix> matrices_;
  int blocks_;
  int64_t slots_;
  std::vector<int64_t> rows_;
  std::vector<int64_t> ends_;  // by item: visits up to its end
  std::vector<Visit> visits_;
  size_t item_ = 0;
  int64_t brought_ = 0;  // visits that have their place in the ring, or had it
  int64_t left_ = 0;
  std::array<uint64_t, kRing> loaded_{};
  std::array<uint64_t, kRing> stored_{};
};

}  // namespace qft
