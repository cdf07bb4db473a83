// What a session measures of itself, against its plan.
#include <algorithm>
#include <cmath>
#include <new>

#include "runtime/plan_time.h"
#include "runtime/session.h"

namespace qft {

void Session::Measure(const StepResult& result) {
  if (log_ == nullptr) return;  // asking the driver takes time, and nobody would be told
  const DeviceReport now = engine_->Report();
  const bool first = most_.used_bytes == 0;
  most_.used_bytes = std::max(most_.used_bytes, now.used_bytes);
  most_.host_bytes = std::max(most_.host_bytes, now.host_bytes);
  if (first) return;
  timed_tokens_ += result.tokens;
  timed_seconds_ += result.seconds;
}

Session::~Session() {
  if (most_.used_bytes == 0) return;
  try {
    std::string text = absl::StrCat(
        "memory: ", Gigabytes(plan_.total_bytes + plan_.occupied_bytes), " planned and ",
        Gigabytes(most_.used_bytes), " measured; beside it in host memory ",
        Gigabytes(plan_.host_bytes()), " planned and ", Gigabytes(most_.host_bytes), " measured");
    if (timed_seconds_ > 0) {
      absl::StrAppend(
          &text, "; tokens/s: ", std::llround(static_cast<double>(timed_tokens_) / timed_seconds_),
          " measured");
      const StoreReport store =
          home_ == nullptr || home_->store() == nullptr ? StoreReport() : home_->store()->Report();
      const auto time = ExpectStepTime(plan_, engine_->BestSpeeds(),
                                       (store.preflight_read + store.preflight_write) / 2);
      if (time.has_value()) {
        const auto tokens = static_cast<double>(plan_.tokens * plan_.micro_batches);
        absl::StrAppend(&text, ", ", std::llround(tokens / time->seconds()), " expected of ",
                        static_cast<int64_t>(tokens), " tokens a step");
      }
    }
    Log(kLogInfo, text);
  } catch (const std::bad_alloc&) {
    // Nothing is said.
  }
}

}  // namespace qft
