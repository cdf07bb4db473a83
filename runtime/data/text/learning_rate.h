// Learning rates over the steps of a run.
#pragma once

#include <cstdint>

#include "base/status.h"

namespace qft {

enum class ScheduleKind { kConstant, kLinear, kCosine, kWarmupStableDecay };

struct LearningRateSchedule {
  ScheduleKind kind = ScheduleKind::kConstant;
  double peak = 0;           // > 0
  double minimum_share = 0;  // of the peak, 0 .. 1
  int64_t steps = 1;         // >= 1
  int64_t warmup_steps = 0;  // the rate rises linearly and is the peak at the last of them
  int64_t decay_steps = 0;   // kWarmupStableDecay; 0: a tenth of the steps, at least one
};

// The rate of `step`, from 0. Linear and cosine reach the minimum at the last step, and so does
// kWarmupStableDecay. kOutOfRange: a value outside of its range, step not below steps, phases that
// do not fit into the run.
StatusOr<double> LearningRate(const LearningRateSchedule& schedule, int64_t step);

}  // namespace qft
