// One step: checks, uploads, and what happens before and after its schedule is walked (step.cpp).
#include <algorithm>
#include <cmath>
#include <utility>

#include "runtime/session.h"
#include "runtime/step.h"
#include "runtime/update.h"

namespace qft {
namespace {

constexpr char kNoMemoryInStep[] = "memory ran out in the middle of a step";

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// The target of position t: what the caller says, or the next token of the same document.
int32_t TargetOf(const BatchView& batch, int64_t t) {
  if (batch.targets != nullptr) return batch.targets[t];
  if (t + 1 == batch.tokens) return -1;
  const bool same_document =
      batch.document_ids == nullptr || batch.document_ids[t] == batch.document_ids[t + 1];
  return same_document ? batch.token_ids[t + 1] : -1;
}

float LossWeightOf(const BatchView& batch, int64_t t) {
  if (TargetOf(batch, t) < 0) return 0;
  return batch.loss_weights == nullptr ? 1.0f : batch.loss_weights[t];
}

}  // namespace

Status Session::BeginStep(const StepOptions& options) {
  QFT_RETURN_IF_ERROR(CheckUsable());
  if (!plan_.train) return MakeError(ErrorCode::kState, "the session was opened with mode = infer");
  if (step_open_) return MakeError(ErrorCode::kState, "a step is open already");
  if (!(options.learning_rate >= 0) || options.learning_rate > 1) {
    return MakeError(ErrorCode::kOutOfRange,
                     absl::StrCat("learning rate ", options.learning_rate, " is not from 0 to 1"));
  }
  if (!(options.loss_normalizer >= 0) || !std::isfinite(options.loss_normalizer)) {
    return MakeError(ErrorCode::kOutOfRange, "loss_normalizer must be 0 or positive");
  }
  for (const double factor : options.group_factors) {
    if (!(factor >= 0) || !std::isfinite(factor)) {
      return MakeError(ErrorCode::kOutOfRange, "a group factor is negative or not finite");
    }
  }
  if (!options.group_factors.empty() && options.group_factors.size() != config_.groups.size()) {
    return MakeError(ErrorCode::kShape,
                     absl::StrCat(options.group_factors.size(), " group factors for ",
                                  config_.groups.size(), " groups"));
  }
  QFT_RETURN_IF_ERROR(CheckRates(options));
  if (late_.state == nullptr) QFT_RETURN_IF_ERROR(BeginMomentum());
  options_ = options;
  step_open_ = true;
  step_tokens_ = step_micro_batches_ = 0;
  step_loss_weight_ = 0;
  step_start_ = std::chrono::steady_clock::now();
  StepState state;
  state.step = step_;
  state.learning_rate = static_cast<float>(options.learning_rate);
  WriteStepState(state);
  return absl::OkStatus();
}

// What multiplies the weights' update, each tensor's factors included.
Status Session::CheckRates(const StepOptions& options) const {
  for (const TensorTraining& training : plan_.training) {
    double rate = options.learning_rate * training.learning_rate_factor;
    if (training.group >= 0 && !options.group_factors.empty()) {
      rate *= options.group_factors[training.group];
    }
    if (!(rate <= 1)) {
      return MakeError(ErrorCode::kOutOfRange,
                       absl::StrCat("learning rate ", options.learning_rate,
                                    " times its group's factors is ", rate, ", above 1"));
    }
  }
  return absl::OkStatus();
}

Status Session::CheckBatch(const BatchView& batch) const {
  const int64_t vocabulary = plan_.model->config().vocab_size;
  if (batch.tokens < 1 || batch.tokens > config_.micro_batch_tokens) {
    return MakeError(ErrorCode::kOutOfRange,
                     absl::StrCat("a batch of ", batch.tokens, " tokens, planned are 1 to ",
                                  config_.micro_batch_tokens));
  }
  if (batch.token_ids == nullptr) return InvalidArgument("token_ids is NULL");
  QFT_RETURN_IF_ERROR(CheckDocuments(batch));
  for (int64_t t = 0; t < batch.tokens; ++t) {
    const int64_t token = batch.token_ids[t];
    const int64_t target = TargetOf(batch, t);
    if (token < 0 || token >= vocabulary || target < -1 || target >= vocabulary) {
      return MakeError(ErrorCode::kOutOfRange,
                       absl::StrCat("token ", token, " with target ", target, " at position ", t,
                                    ", the vocabulary has ", vocabulary));
    }
    const float weight = LossWeightOf(batch, t);
    if (!(weight >= 0) || !std::isfinite(weight)) {
      return MakeError(ErrorCode::kOutOfRange,
                       absl::StrCat("loss weight ", weight, " at position ", t));
    }
  }
  return absl::OkStatus();
}

// Beyond the model's context dynamic scaling would be another function for every length.
Status Session::CheckDocuments(const BatchView& batch) const {
  const ModelConfig& config = plan_.model->config();
  if (config.rope_scaling.kind != RopeKind::kDynamic) return absl::OkStatus();
  int64_t length = 0;
  for (int64_t t = 0; t < batch.tokens; ++t) {
    const bool starts = batch.document_ids != nullptr && t > 0 &&
                        batch.document_ids[t] != batch.document_ids[t - 1];
    length = starts ? 1 : length + 1;
    if (length > config.max_position) {
      return Unsupported("a document of more than ", config.max_position,
                         " tokens, the context of a model with dynamic rotary scaling");
    }
  }
  return absl::OkStatus();
}

double Session::Upload(const BatchView& batch, int64_t token_offset, MicroBatch& slot) {
  const size_t tokens = static_cast<size_t>(batch.tokens);
  const size_t padded = static_cast<size_t>(PaddedTokens(batch.tokens, *engine_));
  std::vector<int32_t> ids(padded), targets(padded, -1), positions(padded), starts(padded);
  std::vector<float> weights(padded);
  std::copy_n(batch.token_ids, tokens, ids.begin());
  // Behind the end a document of its own that has no loss.
  std::fill(starts.begin() + batch.tokens, starts.end(), static_cast<int32_t>(tokens));
  double weight_sum = 0;
  int32_t start = 0;
  for (int64_t t = 0; t < batch.tokens; ++t) {
    if (t > 0 && batch.document_ids != nullptr &&
        batch.document_ids[t] != batch.document_ids[t - 1]) {
      start = static_cast<int32_t>(t);
    }
    starts[t] = FirstSeen(plan_.model->config(), start, static_cast<int32_t>(t));
    positions[t] = static_cast<int32_t>(t) - start;
    targets[t] = TargetOf(batch, t);
    weights[t] = LossWeightOf(batch, t);
    weight_sum += weights[t];
  }
  const size_t bytes = padded * sizeof(int32_t);
  engine_->CopyToEngine(slot.token_ids, ids.data(), bytes);
  engine_->CopyToEngine(slot.targets, targets.data(), bytes);
  engine_->CopyToEngine(slot.positions, positions.data(), bytes);
  engine_->CopyToEngine(slot.document_start, starts.data(), bytes);
  engine_->CopyToEngine(slot.loss_weights, weights.data(), bytes);
  slot.tokens = static_cast<int64_t>(padded);
  slot.token_offset = token_offset;
  return weight_sum;
}

Status Session::Accumulate(const std::vector<BatchView>& batches) {
  const PoisonOnException guard(*this, kNoMemoryInStep);
  QFT_RETURN_IF_ERROR(CheckUsable());
  if (!step_open_) return MakeError(ErrorCode::kState, "no step is open");
  const int64_t count = static_cast<int64_t>(batches.size());
  if (count < 1 || step_micro_batches_ + count > plan_.micro_batches) {
    return MakeError(ErrorCode::kOutOfRange,
                     absl::StrCat(step_micro_batches_ + count,
                                  " micro-batches in a step, planned are ", plan_.micro_batches));
  }
  if (step_micro_batches_ > 0 && (plan_.vertical || plan_.fused)) {
    return MakeError(ErrorCode::kState,
                     "this session takes all micro-batches of a step in one accumulate");
  }
  for (const BatchView& batch : batches) QFT_RETURN_IF_ERROR(CheckBatch(batch));
  if (plan_.vertical) {
    for (int64_t m = 0; m < count; ++m) {
      step_loss_weight_ += Upload(batches[m], step_tokens_, buffers_.micro_batches[m]);
      step_tokens_ += batches[m].tokens;
    }
    if (plan_.fused) SetGradientScale();
    Run(MakeSchedule(plan_.schedule_shape(count)), count);
    step_micro_batches_ += count;
  } else {
    for (const BatchView& batch : batches) {
      step_loss_weight_ += Upload(batch, step_tokens_, buffers_.micro_batches[0]);
      step_tokens_ += batch.tokens;
      if (plan_.fused) SetGradientScale();
      Run(MakeSchedule(plan_.schedule_shape(1)), 1);
      ++step_micro_batches_;
    }
  }
  QFT_RETURN_IF_ERROR(Synchronize());
  return FinishUpdates();
}

Status Session::FinishUpdates() {
  const PoisonOnException guard(*this, kNoMemoryInStep);
  QFT_RETURN_IF_ERROR(CheckUsable());
  if (late_.state == nullptr) return absl::OkStatus();
  if (late_.on_stack) Updater(*this, late_.state, late_.options).PopAll();
  late_.on_stack = false;
  QFT_RETURN_IF_ERROR(Synchronize());
  QFT_RETURN_IF_ERROR(FinishMomentum());
  CountUpdates(ReadStepState(late_.state));
  late_.state = nullptr;
  return step_open_ ? BeginMomentum() : absl::OkStatus();
}

void Session::CountUpdates(const StepState& state) {
  counted_.codes_changed += state.codes_changed;
  counted_.codes_saturated += state.codes_saturated;
  counted_.rows_grown += state.rows_grown;
  counted_.updates_lost += state.updates_lost;
  rounding_square_sum_ += static_cast<double>(state.rounding_square_sum) * 0x1p-24;
}

void Session::Run(const std::vector<ScheduleItem>& schedule, int64_t micro_batches) {
  std::vector<int64_t> rows;
  for (int64_t m = 0; m < std::min(micro_batches, plan_.slots()); ++m) {
    rows.push_back(buffers_.micro_batches[m].tokens);
  }
  boundaries_.Begin(schedule, std::move(rows));
  StepRunner(*this).Run(schedule, static_cast<int>(step_micro_batches_));
}

// The divisor of the gradients, and under `fused`, which clips before the norm is known, the factor
// that follows from the step before. Reads nothing from the engine: on a device that would wait its
// turn behind the copies of a snapshot.
void Session::SetGradientScale() {
  const double divisor =
      options_.loss_normalizer > 0 ? options_.loss_normalizer : std::max(step_loss_weight_, 1e-30);
  const auto scale = static_cast<float>(1.0 / divisor);
  engine_->CopyToEngine(&buffers_.workspace.step->gradient_scale, &scale, sizeof(scale));
  if (plan_.fused && previous_square_sum_ >= 0) {
    engine_->SetClipFactor(static_cast<float>(config_.clip_norm), previous_square_sum_,
                           buffers_.workspace.step);
  }
}

StatusOr<StepResult> Session::EndStep() {
  const PoisonOnException guard(*this, kNoMemoryInStep);
  QFT_RETURN_IF_ERROR(CheckUsable());
  if (!step_open_) return MakeError(ErrorCode::kState, "no step is open");
  if (step_micro_batches_ == 0) return MakeError(ErrorCode::kState, "nothing was accumulated");
  StepState* step = buffers_.workspace.step;
  if (!plan_.fused) {
    SetGradientScale();
    for (const StackEntry& entry : buffers_.stack.entries()) {
      engine_->AddSquareSum(entry.gradient, step);
    }
    engine_->SetClipFactor(static_cast<float>(config_.clip_norm), -1, step);
    if (!plan_.late_updates()) Updater(*this, step, options_).PopAll();
  }
  QFT_RETURN_IF_ERROR(Synchronize());
  const StepState state = ReadStepState(step);
  if (plan_.late_updates()) {
    late_ = {step, options_, true};
    std::swap(buffers_.workspace.step, buffers_.late_step);
  } else {
    buffers_.stack.Clear();
    QFT_RETURN_IF_ERROR(FinishMomentum());
    CountUpdates(state);
  }
  step_open_ = false;
  ++step_;
  const bool finite = std::isfinite(state.gradient_square_sum) && std::isfinite(state.loss_sum);
  if (finite) previous_square_sum_ = state.gradient_square_sum;
  if (plan_.fused && !finite) {
    Poison("the gradient was not finite and had been partly applied (gradients = fused)");
    return MakeError(ErrorCode::kNonFinite,
                     "the gradient was not finite and had been partly applied; restore the last "
                     "checkpoint in a new session");
  }
  if (state.skip_update != 0) {
    Log(kLogWarning, absl::StrCat("step ", step_, " skipped: its gradient is not finite"));
  }
  StepResult result = MakeResult(state);
  Measure(result);
  return result;
}

StepResult Session::MakeResult(const StepState& state) {
  StepResult result;
  result.step = static_cast<int64_t>(step_);
  result.tokens = step_tokens_;
  result.loss_weight = state.loss_weight;
  result.loss = state.loss_weight > 0 ? state.loss_sum / state.loss_weight : 0;
  result.gradient_norm = std::sqrt(state.gradient_square_sum);
  result.clip_factor = state.clip_factor;
  result.learning_rate = options_.learning_rate;
  result.codes_changed = counted_.codes_changed;
  result.codes_saturated = counted_.codes_saturated;
  result.rows_grown = counted_.rows_grown;
  result.skipped = state.skip_update != 0;
  for (int i = 0; i < plan_.model->table().size(); ++i) {
    if (plan_.trains(i) && buffers_.tensors[i].weight.dtype == DType::kI8) {
      const Weight& weight = buffers_.tensors[i].weight;
      result.codes_total += weight.rows * (weight.cols - weight.critical.count);
    }
  }
  result.updates_lost = counted_.updates_lost;
  if (result.codes_total > 0) {
    result.rounding_walk =
        std::sqrt(rounding_square_sum_ / static_cast<double>(result.codes_total));
  }
  result.seconds = SecondsSince(step_start_);
  counted_ = {};
  return result;
}

Status Session::AbandonStep() {
  QFT_RETURN_IF_ERROR(CheckUsable());
  if (!step_open_) return MakeError(ErrorCode::kState, "no step is open");
  if (plan_.fused && step_micro_batches_ > 0) {
    return MakeError(ErrorCode::kState, "gradients = fused: the update has happened already");
  }
  if (!late_.on_stack) buffers_.stack.Clear();
  step_open_ = false;
  return absl::OkStatus();
}

}  // namespace qft
