#include "bindings/cli/training.h"

#include <algorithm>

#include "bindings/cli/interrupt.h"
#include "bindings/cli/text.h"

namespace qft::cli {
namespace {

using nlohmann::json;

constexpr int64_t kMostSkippedInARow = 20;
constexpr int64_t kWarmupDivisor = 50;
// The first step also faults its memory in; those after it are measured.
constexpr int64_t kStepsBeforeMeasuring = 1;
constexpr int64_t kStepsMeasured = 3;
constexpr int kBlobVersion = 1;

std::string ToHex(const std::string& bytes) {
  std::string hex;
  for (const char c : bytes) hex += Format("%02x", static_cast<unsigned char>(c));
  return hex;
}

std::string FromHex(const std::string& hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    char* end = nullptr;
    const std::string digits = hex.substr(i, 2);
    bytes += static_cast<char>(strtoul(digits.c_str(), &end, 16));
    if (*end != '\0') throw Failure("the checkpoint's data position is damaged");
  }
  return bytes;
}

double Share(int64_t part, int64_t whole) {
  return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0;
}

int64_t StepOf(const Session& session) {
  qft_session_metrics metrics = Sized<qft_session_metrics>();
  Call(qft_session_get_metrics, session.get(), &metrics);
  return metrics.step;
}

}  // namespace

std::string RunState::ToBlob(const Dataset& dataset) const {
  size_t needed = 0;
  Call(qft_dataset_get_cursor, dataset.get(), nullptr, size_t{0}, &needed);
  std::string cursor(needed, '\0');
  Call(qft_dataset_get_cursor, dataset.get(), cursor.data(), cursor.size(), &needed);
  json blob = {{"version", kBlobVersion},
               {"cursor", ToHex(cursor)},
               {"step", step},
               {"tokens", tokens},
               {"skipped", skipped},
               {"seconds", seconds},
               {"data_seconds", data_seconds}};
  if (loss_before) blob["loss_before"] = *loss_before;
  return Dump(blob, -1);
}

RunState RunState::FromBlob(const Checkpoint& checkpoint, const Dataset& dataset) {
  const void* data = nullptr;
  size_t length = 0;
  Call(qft_checkpoint_get_blob, checkpoint.get(), &data, &length);
  const char* text = static_cast<const char*>(data);
  const json blob = json::parse(text, text + length, nullptr, false);
  if (!blob.is_object() || blob.value("version", 0) != kBlobVersion) {
    throw Failure("the checkpoint was not saved by this version of `qft finetune`");
  }
  try {
    RunState state;
    state.step = blob.at("step");
    state.tokens = blob.at("tokens");
    state.skipped = blob.at("skipped");
    state.seconds = blob.at("seconds");
    state.data_seconds = blob.value("data_seconds", 0.0);
    if (blob.contains("loss_before")) state.loss_before = blob.at("loss_before").get<double>();
    const std::string cursor = FromHex(blob.at("cursor"));
    Call(qft_dataset_set_cursor, dataset.get(), cursor.data(), cursor.size());
    return state;
  } catch (const json::exception&) {
    throw Failure("what `qft finetune` kept in the checkpoint is damaged");
  }
}

const char* Name(StopReason reason) {
  switch (reason) {
    case StopReason::kDone:
      return "done";
    case StopReason::kTime:
      return "time limit";
    case StopReason::kInterrupted:
      return "interrupted";
  }
  return "";
}

json StateBytes(const Session& session) {
  qft_session_metrics metrics = Sized<qft_session_metrics>();
  Call(qft_session_get_metrics, session.get(), &metrics);
  return {{"weights", metrics.weight_bytes},
          {"critical", metrics.critical_bytes},
          {"residual", metrics.residual_bytes},
          {"momentum", metrics.momentum_bytes},
          {"gradients", metrics.gradient_bytes}};
}

Training::Training(const FinetuneOptions& options, const RunFolder& folder, const Session& session,
                   const Dataset& dataset, int64_t steps, const RunState& state)
    : options_(options),
      folder_(folder),
      session_(session),
      dataset_(dataset),
      steps_(steps),
      state_(state),
      metrics_(folder.metrics()),
      state_bytes_(StateBytes(session)),
      session_step_(StepOf(session)),
      saved_session_step_(session_step_) {}

Training::~Training() {
  if (save_) qft_event_wait(save_.get(), INT64_MAX, nullptr);
}

qft_schedule Training::Schedule() const {
  qft_schedule schedule = Sized<qft_schedule>();
  schedule.kind = ScheduleKind(options_.schedule);
  schedule.peak = options_.learning_rate;
  schedule.minimum_share = options_.minimum_share;
  schedule.steps = steps_;
  schedule.warmup_steps = options_.warmup >= 0 ? options_.warmup : steps_ / kWarmupDivisor;
  return schedule;
}

StopReason Training::Run() {
  if (state_.step == 0 && !state_.loss_before) state_.loss_before = EvaluateNow();
  const qft_schedule schedule = Schedule();
  StopReason reason = StopReason::kDone;
  while (state_.step < steps_ && reason == StopReason::kDone) {
    if (Interrupted()) {
      reason = StopReason::kInterrupted;
    } else if (OutOfTime()) {
      reason = StopReason::kTime;
    } else {
      StepOnce(schedule);
    }
  }
  progress_.Clear();
  Save();
  EndSave();
  return reason;
}

void Training::StepOnce(const qft_schedule& schedule) {
  qft_step_options options = Sized<qft_step_options>();
  Call(qft_schedule_get, &schedule, state_.step, &options.learning_rate);
  std::vector<qft_batch> batches(static_cast<size_t>(options_.settings.micro_batches),
                                 Sized<qft_batch>());
  const int64_t count = static_cast<int64_t>(batches.size());
  const Clock::time_point start = Clock::now();
  Call(qft_dataset_next, dataset_.get(), batches.data(), count);
  const double data_seconds = std::chrono::duration<double>(Clock::now() - start).count();
  qft_step_result result = Sized<qft_step_result>();
  Call(qft_session_step, session_.get(), &options, batches.data(), count, &result);
  Record(result, data_seconds);
  const bool last = state_.step == steps_;
  if (options_.eval_every > 0 && state_.step % options_.eval_every == 0 && !last) EvaluateNow();
  if (options_.save_every > 0 && state_.step % options_.save_every == 0) Save();
}

void Training::Record(const qft_step_result& result, double data_seconds) {
  ++state_.step;
  session_step_ = result.step;
  state_.tokens += result.tokens;
  state_.seconds += result.seconds;
  state_.data_seconds += data_seconds;
  state_.skipped += result.skipped;
  metrics_.Append({{"type", "train"},
                   {"step", state_.step},
                   {"loss", result.loss},
                   {"learning_rate", result.learning_rate},
                   {"gradient_norm", result.gradient_norm},
                   {"clip_factor", result.clip_factor},
                   {"tokens", result.tokens},
                   {"tokens_per_second",
                    result.seconds > 0 ? static_cast<double>(result.tokens) / result.seconds : 0},
                   {"data_seconds", data_seconds},
                   {"codes_changed", Share(result.codes_changed, result.codes_total)},
                   {"codes_saturated", Share(result.codes_saturated, result.codes_total)},
                   {"rows_grown", result.rows_grown},
                   {"updates_lost", Share(result.updates_lost, result.codes_total)},
                   {"rounding_walk", result.rounding_walk},
                   {"skipped", result.skipped != 0},
                   {"state_bytes", state_bytes_}});
  TellEstimate(result);
  progress_.Update("step", state_.step, steps_, Details(result));
  CountSkipped(result.skipped != 0);
}

void Training::TellEstimate(const qft_step_result& result) {
  if (steps_measured_++ < kStepsBeforeMeasuring) return;
  if (steps_measured_ > kStepsBeforeMeasuring + kStepsMeasured) return;
  measured_seconds_ += result.seconds;
  if (steps_measured_ < kStepsBeforeMeasuring + kStepsMeasured || state_.step >= steps_) return;
  const double step_seconds = measured_seconds_ / static_cast<double>(kStepsMeasured);
  const int64_t left = steps_ - state_.step;
  const int64_t evaluations = 1 + (options_.eval_every > 0 ? (left - 1) / options_.eval_every : 0);
  const double seconds = static_cast<double>(left) * step_seconds +
                         static_cast<double>(evaluations) * evaluation_seconds_;
  std::string line = Format("estimate about %s left: %lld steps of %.3g s",
                            Duration(seconds).c_str(), static_cast<long long>(left), step_seconds);
  if (evaluation_seconds_ > 0) {
    line += Format(", %lld evaluations of %.3g s", static_cast<long long>(evaluations),
                   evaluation_seconds_);
  }
  progress_.Print(line);
}

void Training::CountSkipped(bool skipped) {
  skipped_in_a_row_ = skipped ? skipped_in_a_row_ + 1 : 0;
  if (skipped) {
    progress_.Print(Format("qft: step %lld skipped: its gradient is not finite",
                           static_cast<long long>(state_.step)));
  }
  if (skipped_in_a_row_ >= kMostSkippedInARow) {
    throw Failure(
        Format("%lld steps in a row had a gradient that is not finite; try a lower "
               "--learning-rate, or look for damaged data",
               static_cast<long long>(skipped_in_a_row_)));
  }
}

std::string Training::Details(const qft_step_result& result) const {
  const double speed = state_.TokensPerSecond();
  const double per_step = Share(state_.tokens, state_.step);
  const double left = speed > 0 ? static_cast<double>(steps_ - state_.step) * per_step / speed : -1;
  double epoch = 0;
  Call(qft_dataset_get_epoch, dataset_.get(), &epoch);
  return Format("loss %.4f  lr %.2g  %.0f tok/s  epoch %.2f  left %s", result.loss,
                result.learning_rate, speed, epoch, Duration(left).c_str());
}

std::optional<double> Training::EvaluateNow() {
  const int64_t batches = GetInfo(dataset_).batches_held_out;
  if (batches == 0) return std::nullopt;
  const auto evaluation = Evaluate(session_, batches, HeldOut(dataset_), &progress_);
  if (!evaluation) return std::nullopt;
  evaluation_seconds_ = evaluation->seconds;
  double overlap = 0;
  Call(qft_session_get_critical_overlap, session_.get(), &overlap);
  metrics_.Append({{"type", "eval"},
                   {"step", state_.step},
                   {"loss", evaluation->loss},
                   {"tokens", evaluation->tokens},
                   {"critical_overlap", overlap},
                   {"seconds", evaluation->seconds}});
  progress_.Print(Format("step %lld: held-out loss %.4f", static_cast<long long>(state_.step),
                         evaluation->loss));
  return evaluation->loss;
}

void Training::Save() {
  EndSave();
  if (session_step_ == saved_session_step_) return;
  const std::string folder = folder_.checkpoints().string();
  const std::string blob = state_.ToBlob(dataset_);
  save_ = Make<Event>(qft_session_save_begin, session_.get(), folder.data(), folder.size(),
                      blob.data(), blob.size(), int64_t{0});
  saved_session_step_ = session_step_;
  int32_t done = 0;
  Call(qft_event_poll, save_.get(), &done);
  if (done != 0) EndSave();
}

void Training::EndSave() {
  const Event save = std::move(save_);
  if (!save) return;
  Await(save);
  if (options_.keep == 0) return;
  const std::string folder = folder_.checkpoints().string();
  qft_prune_options prune = Sized<qft_prune_options>();
  prune.keep = options_.keep;
  prune.keep_every = options_.keep_every;
  Call(qft_checkpoint_prune, folder.data(), folder.size(), &prune, nullptr);
}

bool Training::OutOfTime() const {
  if (options_.max_minutes <= 0) return false;
  const double elapsed = std::chrono::duration<double>(Clock::now() - start_).count();
  const double step_seconds =
      state_.step > 0 ? state_.seconds / static_cast<double>(state_.step) : 0;
  return elapsed + step_seconds + evaluation_seconds_ > options_.max_minutes * 60;
}

}  // namespace qft::cli
