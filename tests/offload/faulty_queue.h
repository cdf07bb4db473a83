// A queue that does wrong what the test says, over either backend.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>

#include "offload/request_queue.h"

namespace qft {

enum class FaultKind {
  kNone,
  kSlow,         // answers 20 ms late
  kShort,        // moves some of several pages, not to the end of one
  kInterrupted,  // EINTR
  kAgain,        // EAGAIN
  kError,        // `error`
  kNothing,      // answers that no byte was moved
  kNoAnswer,     // is lost
  kFlipped,      // moves all bytes, one bit of them wrong
  kHangs,        // the call that submits never returns
  kNoMemory,     // the call that submits throws std::bad_alloc
};

struct Fault {
  FaultKind kind = FaultKind::kNone;
  bool write = false;  // whom it hits: writes, or reads
  int64_t nth = 1;     // of those, counted from Arm
  bool for_ever = false;
  int error = 0;
};

// Shared by the queues of a store and the test.
class Faults {
 public:
  Faults();
  ~Faults();

  // From now on; one fault at a time.
  void Arm(const Fault& fault);
  // The most requests that one queue had in flight at once.
  int MostInFlight() const;
  // Queues whose thread hangs.
  int Hanging() const;

  WrapQueue Wrap();

  struct State;

 private:
  std::shared_ptr<State> state_;
};

}  // namespace qft
