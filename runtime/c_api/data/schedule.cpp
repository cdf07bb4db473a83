#include "runtime/data/text/learning_rate.h"

#include "include/qft_data.h"
#include "runtime/c_api/boundary.h"
#include "runtime/c_api/struct_size.h"

using qft::ScheduleKind;
using qft::Status;
using qft::StatusOr;

namespace {

StatusOr<ScheduleKind> KindOf(int32_t kind) {
  switch (kind) {
    case QFT_SCHEDULE_CONSTANT:
      return ScheduleKind::kConstant;
    case QFT_SCHEDULE_LINEAR:
      return ScheduleKind::kLinear;
    case QFT_SCHEDULE_COSINE:
      return ScheduleKind::kCosine;
    case QFT_SCHEDULE_WSD:
      return ScheduleKind::kWarmupStableDecay;
    default:
      return qft::MakeError(
          qft::ErrorCode::kOutOfRange,
          absl::StrCat("the schedule's kind is ", kind, ", must be a QFT_SCHEDULE_*"));
  }
}

}  // namespace

extern "C" {

qft_status qft_schedule_get(const qft_schedule* schedule, int64_t step, double* rate,
                            qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("rate", rate));
    QFT_ASSIGN_OR_RETURN(const qft_schedule in, qft::ReadStruct("schedule", schedule));
    qft::LearningRateSchedule out;
    QFT_ASSIGN_OR_RETURN(out.kind, KindOf(in.kind));
    out.peak = in.peak;
    out.minimum_share = in.minimum_share;
    out.steps = in.steps;
    out.warmup_steps = in.warmup_steps;
    out.decay_steps = in.decay_steps;
    QFT_ASSIGN_OR_RETURN(*rate, qft::LearningRate(out, step));
    return absl::OkStatus();
  });
}

}  // extern "C"
