#include "runtime/data/text/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace qft {
namespace {

template <typename... Args>
Status OutOfRange(const Args&... args) {
  return MakeError(ErrorCode::kOutOfRange, absl::StrCat(args...));
}

int64_t DecaySteps(const LearningRateSchedule& schedule) {
  if (schedule.kind != ScheduleKind::kWarmupStableDecay) return 0;
  if (schedule.decay_steps > 0) return schedule.decay_steps;
  const int64_t room = schedule.steps - schedule.warmup_steps;
  return std::min(std::max<int64_t>(schedule.steps / 10, 1), room);
}

Status Check(const LearningRateSchedule& schedule, int64_t step) {
  if (!(schedule.peak > 0) || !std::isfinite(schedule.peak)) {
    return OutOfRange("the schedule's peak is ", schedule.peak, ", must be positive");
  }
  if (!(schedule.minimum_share >= 0 && schedule.minimum_share <= 1)) {
    return OutOfRange("minimum_share is ", schedule.minimum_share, ", must be 0 to 1");
  }
  if (schedule.steps < 1) return OutOfRange("steps is ", schedule.steps, ", must be at least 1");
  if (schedule.warmup_steps < 0 || schedule.warmup_steps > schedule.steps) {
    return OutOfRange("warmup_steps is ", schedule.warmup_steps, ", must be 0 to steps, ",
                      schedule.steps);
  }
  if (schedule.decay_steps < 0 || DecaySteps(schedule) > schedule.steps - schedule.warmup_steps) {
    return OutOfRange("decay_steps is ", schedule.decay_steps, ", must be 0 to ",
                      schedule.steps - schedule.warmup_steps);
  }
  if (step < 0 || step >= schedule.steps) {
    return OutOfRange("step ", step, " of a run of ", schedule.steps);
  }
  return absl::OkStatus();
}

// How far the fall from the peak to the minimum has come at `step`, 0 to 1. It starts after
// `last_peak`, the last step at the peak, and ends with the run.
double Progress(const LearningRateSchedule& schedule, int64_t step, int64_t last_peak) {
  if (step <= last_peak) return 0;
  return static_cast<double>(step - last_peak) /
         static_cast<double>(schedule.steps - 1 - last_peak);
}

}  // namespace

StatusOr<double> LearningRate(const LearningRateSchedule& schedule, int64_t step) {
  QFT_RETURN_IF_ERROR(Check(schedule, step));
  if (step < schedule.warmup_steps) {
    return schedule.peak *
           (static_cast<double>(step + 1) / static_cast<double>(schedule.warmup_steps));
  }
  const int64_t warm = std::max<int64_t>(schedule.warmup_steps - 1, 0);
  double fall = 0;
  switch (schedule.kind) {
    case ScheduleKind::kConstant:
      break;
    case ScheduleKind::kLinear:
      fall = Progress(schedule, step, warm);
      break;
    case ScheduleKind::kCosine:
      fall = 0.5 * (1 - std::cos(std::numbers::pi * Progress(schedule, step, warm)));
      break;
    case ScheduleKind::kWarmupStableDecay:
      fall = Progress(schedule, step, schedule.steps - DecaySteps(schedule) - 1);
      break;
  }
  return schedule.peak * (1 - fall * (1 - schedule.minimum_share));
}

}  // namespace qft
