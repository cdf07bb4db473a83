// Events are part of the interface from the start, but no work runs in the background yet: every
// function checks its arguments and says so. No event is ever made.
#include "runtime/c_api/boundary.h"
#include "runtime/c_api/handle.h"

namespace {

qft::Status NoEvents(const qft_event* event) {
  QFT_RETURN_IF_ERROR(qft::RequireNotNull("event", event));
  return qft::Unsupported("events are not in this version");
}

}  // namespace

extern "C" {

qft_status qft_session_step_async(qft_session* session, const qft_step_options* options,
                                  const qft_batch* batches, int64_t count, const qft_stream*,
                                  qft_event** event, qft_error** error) {
  return qft::Guard(error, [&]() -> qft::Status {
    QFT_RETURN_IF_ERROR(qft::handle_internal::Find(qft::HandleKind::kSession, session).status());
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("options", options));
    if (count != 0) QFT_RETURN_IF_ERROR(qft::RequireNotNull("batches", batches));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("event", event));
    return qft::Unsupported("steps in the background are not in this version: qft_session_step");
  });
}

qft_status qft_event_poll(const qft_event* event, int32_t* done, qft_error** error) {
  return qft::Guard(error, [&]() -> qft::Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("done", done));
    return NoEvents(event);
  });
}

qft_status qft_event_wait(const qft_event* event, int64_t, qft_error** error) {
  return qft::Guard(error, [&] { return NoEvents(event); });
}

qft_status qft_event_cancel(qft_event* event, qft_error** error) {
  return qft::Guard(error, [&] { return NoEvents(event); });
}

void qft_event_destroy(qft_event*) {}

}  // extern "C"
