// Events: of saves beside training. Every function may be called while another thread waits.
#include "runtime/c_api/event_handle.h"

#include <algorithm>
#include <chrono>

#include "runtime/c_api/boundary.h"

using qft::EventObject;
using qft::Status;

namespace {

// Longer than any save; no clock overflows.
constexpr int64_t kLongestWait = int64_t{1000} * 3600 * 24 * 365;

}  // namespace

extern "C" {

qft_status qft_session_step_async(qft_session* session, const qft_step_options* options,
                                  const qft_batch* batches, int64_t count, const qft_stream*,
                                  qft_event** event, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::handle_internal::Find(qft::HandleKind::kSession, session).status());
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("options", options));
    if (count != 0) QFT_RETURN_IF_ERROR(qft::RequireNotNull("batches", batches));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("event", event));
    return qft::Unsupported("steps in the background are not in this version: qft_session_step");
  });
}

qft_status qft_event_poll(const qft_event* event, int32_t* done, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("done", done));
    QFT_ASSIGN_OR_RETURN(const auto object, qft::FindHandle<EventObject>(event));
    *done = object->save->done() ? 1 : 0;
    return absl::OkStatus();
  });
}

qft_status qft_event_wait(const qft_event* event, int64_t timeout_ms, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, qft::FindHandle<EventObject>(event));
    if (timeout_ms < 0) {
      return qft::MakeError(qft::ErrorCode::kOutOfRange,
                            absl::StrCat("timeout_ms is ", timeout_ms));
    }
    return object->save->Wait(std::chrono::milliseconds(std::min(timeout_ms, kLongestWait)));
  });
}

qft_status qft_event_cancel(qft_event* event, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, qft::FindHandle<EventObject>(event));
    object->save->Cancel();
    return absl::OkStatus();
  });
}

void qft_event_destroy(qft_event* event) {
  qft::RemoveHandle<EventObject>(event);
}

}  // extern "C"
