// How long a step will take, and how much of it waits for momentum that lives elsewhere.
#pragma once

#include <optional>

#include "runtime/plan.h"

namespace qft {

struct StepTime {
  double compute_seconds = 0;
  double transfer_seconds = 0;  // in which momentum moves, beside it
  double waits_seconds = 0;     // what of that nothing hides
  // With so many tokens in a step, more micro-batches of the planned ones, waiting is at most
  // kHiddenShare of it; 0: momentum does not move.
  int64_t hidden_from_tokens = 0;

  double seconds() const { return compute_seconds + waits_seconds; }
};

inline constexpr double kHiddenShare = 0.05;

// nvme_bytes_per_second: read and written at once, together; 0: unknown. Nothing where speeds are
// unknown, where nothing trains, and of other arithmetic than integer.
std::optional<StepTime> ExpectStepTime(const Plan& plan, const Speeds& speeds,
                                       double nvme_bytes_per_second);

}  // namespace qft
