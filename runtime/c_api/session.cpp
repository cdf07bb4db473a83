#include <string>

#include "runtime/c_api/boundary.h"
#include "runtime/c_api/config_handle.h"
#include "runtime/c_api/session_handle.h"
#include "runtime/checkpoint.h"

using qft::BatchView;
using qft::Exclusive;
using qft::SessionObject;
using qft::Status;
using qft::StatusOr;

namespace qft {

constexpr int64_t kMostBatches = 1 << 20;

StatusOr<std::vector<BatchView>> ReadBatches(const qft_batch* batches, int64_t count) {
  QFT_ASSIGN_OR_RETURN(const std::vector<qft_batch> structs,
                       ReadStructs("batches", batches, count, kMostBatches));
  std::vector<BatchView> views;
  views.reserve(structs.size());
  for (const qft_batch& batch : structs) {
    views.push_back(
        {batch.tokens, batch.token_ids, batch.targets, batch.loss_weights, batch.document_ids});
  }
  return views;
}

}  // namespace qft

namespace {

StatusOr<qft::StepOptions> ReadOptions(const qft_step_options* options) {
  QFT_ASSIGN_OR_RETURN(const qft_step_options in, qft::ReadStruct("options", options));
  if (in.group_count < 0 || in.group_count > 1000000) {
    return qft::MakeError(qft::ErrorCode::kOutOfRange,
                          absl::StrCat("group_count is ", in.group_count));
  }
  qft::StepOptions out;
  out.learning_rate = in.learning_rate;
  out.loss_normalizer = in.loss_normalizer;
  if (in.group_count > 0) {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("group_factors", in.group_factors));
    out.group_factors.assign(in.group_factors, in.group_factors + in.group_count);
  }
  return out;
}

qft_step_result ResultOf(const qft::StepResult& in) {
  qft_step_result out{};
  out.struct_size = sizeof(out);
  out.step = in.step;
  out.tokens = in.tokens;
  out.loss = in.loss;
  out.loss_weight = in.loss_weight;
  out.gradient_norm = in.gradient_norm;
  out.clip_factor = in.clip_factor;
  out.learning_rate = in.learning_rate;
  out.codes_changed = in.codes_changed;
  out.codes_total = in.codes_total;
  out.codes_saturated = in.codes_saturated;
  out.rows_grown = in.rows_grown;
  out.skipped = in.skipped ? 1 : 0;
  out.seconds = in.seconds;
  out.updates_lost = in.updates_lost;
  out.rounding_walk = in.rounding_walk;
  return out;
}

Status EndStep(SessionObject& object, qft_step_result* result) {
  QFT_ASSIGN_OR_RETURN(const qft::StepResult ended, object.get().EndStep());
  object.step = ended.step;
  if (result == nullptr) return absl::OkStatus();
  return qft::WriteStruct("result", result, ResultOf(ended));
}

Status CheckResult(const qft_step_result* result) {
  return result == nullptr ? absl::OkStatus() : qft::CheckOutStruct("result", result);
}

qft::LogSink MakeLog(qft_log_callback callback, void* user) {
  if (callback == nullptr) return nullptr;
  return [callback, user](int level, const std::string& message) {
    callback(user, level, message.data(), message.size());
  };
}

// Calls destroy_user when the last holder goes, also when opening fails.
std::shared_ptr<void> OwnUser(const qft_session_options& options) {
  const auto destroy = options.destroy_user;
  if (destroy == nullptr) return nullptr;
  return std::shared_ptr<void>(options.user, [destroy](void* user) { destroy(user); });
}

}  // namespace

extern "C" {

qft_status qft_session_open(const qft_model* model, const qft_config* config,
                            const qft_session_options* options, qft_session** session,
                            qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    qft_session_options in{};
    if (options != nullptr) {
      QFT_ASSIGN_OR_RETURN(in, qft::ReadStruct("options", options));
    }
    auto object = std::make_shared<SessionObject>();
    object->user = OwnUser(in);
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("session", session));
    QFT_ASSIGN_OR_RETURN(const auto model_object, qft::Shared<qft::ModelObject>::Lock(model));
    QFT_ASSIGN_OR_RETURN(const auto settings, qft::Shared<qft::SessionConfig>::Lock(config));
    QFT_ASSIGN_OR_RETURN(object->session, qft::Session::Open(model_object->model, *settings,
                                                             MakeLog(in.log, in.user)));
    *session = qft::AddHandle(std::move(object));
    return absl::OkStatus();
  });
}

void qft_session_destroy(qft_session* session) {
  qft::Guard(nullptr, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(auto object, qft::FindHandle<SessionObject>(session));
    const qft::Session& kept = object->get();
    qft::BackgroundSave::KeepInCallback(kept, std::move(object));
    return absl::OkStatus();
  });
  qft::RemoveHandle<SessionObject>(session);
}

qft_status qft_session_check_learning_rate(const qft_session* session, double learning_rate,
                                           qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, qft::Shared<SessionObject>::Lock(session));
    return object->session->CheckLearningRate(learning_rate);
  });
}

qft_status qft_session_begin_step(qft_session* session, const qft_step_options* options,
                                  qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_ASSIGN_OR_RETURN(const qft::StepOptions in, ReadOptions(options));
    return object->get().BeginStep(in);
  });
}

qft_status qft_session_accumulate(qft_session* session, const qft_batch* batches, int64_t count,
                                  qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_ASSIGN_OR_RETURN(const std::vector<BatchView> views, qft::ReadBatches(batches, count));
    return object->get().Accumulate(views);
  });
}

qft_status qft_session_end_step(qft_session* session, qft_step_result* result, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_RETURN_IF_ERROR(CheckResult(result));
    return EndStep(*object, result);
  });
}

qft_status qft_session_abandon_step(qft_session* session, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    return object->get().AbandonStep();
  });
}

qft_status qft_session_step(qft_session* session, const qft_step_options* options,
                            const qft_batch* batches, int64_t count, qft_step_result* result,
                            qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_ASSIGN_OR_RETURN(const qft::StepOptions in, ReadOptions(options));
    QFT_ASSIGN_OR_RETURN(const std::vector<BatchView> views, qft::ReadBatches(batches, count));
    QFT_RETURN_IF_ERROR(CheckResult(result));
    QFT_RETURN_IF_ERROR(object->get().BeginStep(in));
    Status accumulated = object->get().Accumulate(views);
    if (!accumulated.ok()) {
      object->get().AbandonStep().IgnoreError();  // poisoned or fused: the first error says more
      return accumulated;
    }
    return EndStep(*object, result);
  });
}

qft_status qft_session_evaluate(qft_session* session, const qft_batch* batches, int64_t count,
                                qft_eval_result* result, float* token_losses, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_RETURN_IF_ERROR(qft::CheckOutStruct("result", result));
    QFT_ASSIGN_OR_RETURN(const std::vector<BatchView> views, qft::ReadBatches(batches, count));
    QFT_ASSIGN_OR_RETURN(const qft::EvalResult evaluated,
                         object->get().Evaluate(views, token_losses));
    qft_eval_result out{};
    out.struct_size = sizeof(out);
    out.loss = evaluated.loss;
    out.loss_weight = evaluated.loss_weight;
    out.tokens = evaluated.tokens;
    return qft::WriteStruct("result", result, out);
  });
}

qft_status qft_session_forward(qft_session* session, const qft_batch* batch, int32_t what,
                               float* output, size_t capacity, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_ASSIGN_OR_RETURN(const std::vector<BatchView> views, qft::ReadBatches(batch, 1));
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("output", output));
    if (what != QFT_OUTPUT_LOGITS && what != QFT_OUTPUT_LOG_PROBABILITIES) {
      return qft::InvalidArgument("what is ", what, ", must be a QFT_OUTPUT_*");
    }
    const int64_t vocabulary = object->get().model().config().vocab_size;
    const int64_t tokens = views[0].tokens;
    if (tokens > 0 && capacity / static_cast<size_t>(vocabulary) < static_cast<size_t>(tokens)) {
      return qft::MakeError(qft::ErrorCode::kShape,
                            absl::StrCat("output has ", capacity, " elements, needed are ", tokens,
                                         " x ", vocabulary));
    }
    return object->get().Forward(views[0], what == QFT_OUTPUT_LOG_PROBABILITIES, output);
  });
}

qft_status qft_session_get_metrics(const qft_session* session, qft_session_metrics* metrics,
                                   qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const std::shared_ptr<SessionObject> object,
                         qft::FindHandle<SessionObject>(session));
    // The plan never changes after open, and the step is atomic: safe beside a running step.
    const qft::Plan& plan = object->session->plan();
    qft_session_metrics out{};
    out.struct_size = sizeof(out);
    out.step = object->step;
    for (int i = 0; i < plan.model->table().size(); ++i) {
      const int64_t elements = plan.model->table()[i].elements();
      out.parameters += elements;
      if (plan.trains(i)) out.parameters_trained += elements;
    }
    const auto bytes = [&](qft::Purpose purpose) { return plan.bytes[static_cast<int>(purpose)]; };
    out.weight_bytes = bytes(qft::Purpose::kWeights);
    out.critical_bytes = bytes(qft::Purpose::kCritical);
    out.momentum_bytes = bytes(qft::Purpose::kMomentum);
    out.gradient_bytes = bytes(qft::Purpose::kGradients);
    out.activation_bytes = bytes(qft::Purpose::kActivations);
    out.workspace_bytes = bytes(qft::Purpose::kWorkspace);
    out.total_bytes = plan.total_bytes;
    out.residual_bytes = bytes(qft::Purpose::kResidual);
    out.snapshot_bytes = plan.snapshot_bytes;
    return qft::WriteStruct("metrics", metrics, out);
  });
}

qft_status qft_session_get_critical_overlap(qft_session* session, double* share,
                                            qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_RETURN_IF_ERROR(qft::RequireNotNull("share", share));
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    QFT_ASSIGN_OR_RETURN(*share, object->get().CriticalOverlap());
    return absl::OkStatus();
  });
}

qft_status qft_session_get_device(const qft_session* session, qft_device_report* report,
                                  qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, qft::Shared<SessionObject>::Lock(session));
    const qft::DeviceReport device = object->session->engine().Report();
    qft_device_report out{};
    out.used_bytes = device.used_bytes;
    out.total_bytes = device.total_bytes;
    out.integer_operations_per_second = device.integer_peak;
    out.host_bytes = device.host_bytes;
    return qft::WriteStruct("report", report, out);
  });
}

qft_status qft_session_plan_json(const qft_session* session, char* buffer, size_t capacity,
                                 size_t* needed, qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, qft::Shared<SessionObject>::Lock(session));
    return qft::CopyOut(object->session->PlanJson(), buffer, capacity, needed);
  });
}

qft_status qft_session_state_hash(qft_session* session, char* buffer, size_t capacity,
                                  qft_error** error) {
  return qft::Guard(error, [&]() -> Status {
    QFT_ASSIGN_OR_RETURN(const auto object, Exclusive<SessionObject>::Lock(session));
    if (buffer == nullptr || capacity < 33) {
      return qft::InvalidArgument("buffer must have room for 33 bytes");
    }
    QFT_ASSIGN_OR_RETURN(const std::string hash, qft::StateHash(object->get()));
    size_t needed = 0;
    return qft::CopyOut(hash, buffer, capacity, &needed);
  });
}

}  // extern "C"
