#include "runtime/session.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_split.h"
#include "runtime/cuda_module.h"
#include "runtime/step.h"

namespace qft {
namespace {

constexpr int64_t kLoadRows = 1024;
constexpr char kNoMemoryInStep[] = "memory ran out in the middle of a step";

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

StatusOr<std::unique_ptr<Engine>> MakeEngine(const SessionConfig& config) {
  if (config.engine == EngineChoice::kCuda) {
    return MakeCudaEngine(static_cast<int>(config.device));
  }
  return std::unique_ptr<Engine>(CreateCpuEngine(static_cast<int>(config.threads)));
}

// The target of position t: what the caller says, or the next token of the same document.
int32_t TargetOf(const BatchView& batch, int64_t t) {
  if (batch.targets != nullptr) return batch.targets[t];
  if (t + 1 == batch.tokens) return -1;
  const bool same_document =
      batch.document_ids == nullptr || batch.document_ids[t] == batch.document_ids[t + 1];
  return same_document ? batch.token_ids[t + 1] : -1;
}

// nullptr where momentum lives in the engine's memory.
StatusOr<std::unique_ptr<StateHome>> OpenHome(const Plan& plan, const SessionConfig& config,
                                              Engine& engine, StoreOptions store) {
  if (plan.momentum_tier == Tier::kDevice) return nullptr;
  store.folders = absl::StrSplit(config.nvme_folders, ':', absl::SkipEmpty());
  store.backend = config.nvme_backend;
  return StateHome::Open(engine, plan.momentum_tier, plan.home_bytes, std::move(store));
}

// A store that has not all it could have is slower than it need be.
int LogLevelOf(const StoreReport& report, StoreBackend wanted) {
  const bool fell_back = wanted == StoreBackend::kAuto && report.backend == StoreBackend::kThreads;
  return fell_back || !report.direct ? kLogWarning : kLogInfo;
}

float LossWeightOf(const BatchView& batch, int64_t t) {
  if (TargetOf(batch, t) < 0) return 0;
  return batch.loss_weights == nullptr ? 1.0f : batch.loss_weights[t];
}

}  // namespace

StatusOr<std::unique_ptr<Session>> Session::Open(std::shared_ptr<const Model> model,
                                                 const SessionConfig& config, LogSink log,
                                                 StoreOptions store) {
  QFT_ASSIGN_OR_RETURN(std::unique_ptr<Engine> engine, MakeEngine(config));
  QFT_ASSIGN_OR_RETURN(Plan plan, MakePlan(std::move(model), config, *engine));
  QFT_ASSIGN_OR_RETURN(std::unique_ptr<StateHome> home,
                       OpenHome(plan, config, *engine, std::move(store)));
  std::unique_ptr<StateHome> boundary_home;
  if (plan.boundary_tier != Tier::kDevice) {
    QFT_ASSIGN_OR_RETURN(boundary_home,
                         StateHome::Open(*engine, plan.boundary_tier, plan.boundary_bytes, {}));
  }
  std::unique_ptr<Session> session(new Session(std::move(plan), config, std::move(engine),
                                               std::move(home), std::move(boundary_home),
                                               std::move(log)));
  if (!session->arena_.status().ok()) {
    return Annotate(session->arena_.status(),
                    absl::StrCat("the plan is ", session->plan_.total_bytes, " bytes"));
  }
  if (session->snapshot_.capacity() < session->plan_.snapshot_bytes) {
    return MakeError(ErrorCode::kOutOfMemory,
                     absl::StrCat("no memory for ", session->plan_.snapshot_bytes,
                                  " bytes of a snapshot (snapshot = host)"));
  }
  QFT_RETURN_IF_ERROR(session->momentum_.Open());
  session->MakeKeys();
  QFT_RETURN_IF_ERROR(session->LoadWeights());
  session->LogPlan();
  return session;
}

Session::Session(Plan plan, SessionConfig config, std::unique_ptr<Engine> engine,
                 std::unique_ptr<StateHome> home, std::unique_ptr<StateHome> boundary_home,
                 LogSink log)
    : plan_(std::move(plan)),
      config_(std::move(config)),
      engine_(std::move(engine)),
      log_(std::move(log)),
      arena_(engine_.get(), plan_.total_bytes),
      home_(std::move(home)),
      boundary_home_(std::move(boundary_home)),
      home_arena_(home_ == nullptr ? nullptr : home_->base(), plan_.home_bytes, kStoreAlignment),
      buffers_(AllocateSession(plan_, *engine_, arena_, home_arena_)),
      snapshot_(*engine_, plan_.snapshot_bytes),
      momentum_(*engine_, home_.get(), buffers_.staging, plan_.staging_bytes, plan_.staging_bytes),
      boundaries_(*engine_, boundary_home_.get(), buffers_.boundaries,
                  static_cast<int>(plan_.model->tensors().blocks.size()), plan_.slots()) {
  engine_->UseScratch(buffers_.engine_scratch, buffers_.engine_scratch_bytes);
}

void Session::Log(int level, const std::string& message) const {
  if (log_ != nullptr) log_(level, message);
}

std::string Session::PlanJson() const {
  nlohmann::ordered_json json = PlanToJson(plan_, *engine_);
  if (home_ != nullptr && home_->store() != nullptr) json["momentum_store"] = home_->Describe();
  return json.dump();
}

void Session::LogPlan() const {
  Log(kLogInfo, PlanJson());
  if (home_ != nullptr && home_->store() != nullptr) {
    Log(LogLevelOf(home_->store()->Report(), config_.nvme_backend),
        "momentum: " + home_->Describe());
  }
  if (config_.gradients == GradientMode::kAuto && plan_.fused) {
    Log(kLogWarning,
        "gradients = fused, since a whole gradient stack does not fit: clipped by the norm of the "
        "step "
        "before");
  }
  if (config_.preset == Preset::kPaper) {
    Log(kLogWarning,
        "preset = paper: updates below half a grid step are lost; updates_lost counts them");
  }
  const int64_t lacking = plan_.recomputed + plan_.regated + plan_.renewed;
  if (config_.recompute == Recompute::kAuto && lacking > 0) {
    Log(kLogInfo, absl::StrCat("activations do not fit: of ", plan_.model->config().layers,
                               " blocks ", plan_.recomputed, " are recomputed, ", plan_.regated,
                               " make gate, up and the inputs of their matmuls again, ",
                               plan_.renewed, " the inputs"));
  }
}

void Session::MakeKeys() {
  const uint64_t seed = static_cast<uint64_t>(config_.seed);
  const LlamaTensors& tensors = plan_.model->tensors();
  keys_.clear();
  head_keys_.clear();
  for (const TensorSpec& spec : tensors.table) keys_.push_back(MakeTensorKeys(seed, spec.name));
  const int64_t chunks = llama().vocabulary_chunks();
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    head_keys_.push_back(MakeHeadChunkKeys(seed, tensors.table[tensors.head].name, chunk));
  }
}

Llama Session::llama() {
  Llama llama;
  llama.engine = engine_.get();
  llama.config = &plan_.model->config();
  llama.tensors = &plan_.model->tensors();
  llama.states = &buffers_.tensors;
  llama.keys = &keys_;
  llama.head_keys = &head_keys_;
  llama.workspace = &buffers_.workspace;
  llama.integer = plan_.integer;
  llama.critical_columns = buffers_.critical_columns;
  llama.critical_count = plan_.critical_count;
  return llama;
}

// Twice where there are critical features: which they are takes a forward pass, and what they hold
// must not have been rounded before.
Status Session::LoadWeights() {
  LoadFrequencies();
  if (plan_.critical_count > 0) {
    std::vector<TensorState> plain = buffers_.tensors;
    for (TensorState& state : plain) state.weight.critical = {};
    QFT_RETURN_IF_ERROR(EncodeWeights(plain));
    QFT_RETURN_IF_ERROR(Calibrate(plain));
  }
  return EncodeWeights(buffers_.tensors);
}

Status Session::EncodeWeights(const std::vector<TensorState>& states) {
  const TensorTable& table = plan_.model->table();
  std::vector<float> values;
  for (int i = 0; i < table.size(); ++i) {
    const TensorSpec& spec = table[i];
    const Weight& weight = states[i].weight;
    for (int64_t row = 0; row < spec.rows; row += kLoadRows) {
      const int64_t rows = std::min(kLoadRows, spec.rows - row);
      values.resize(static_cast<size_t>(rows * spec.cols));
      QFT_RETURN_IF_ERROR(plan_.model->source().ReadRows(spec.name, row, rows, values.data()));
      engine_->EncodeWeight(values.data(), WeightRows(weight, row, rows));
    }
  }
  return Synchronize();
}

void Session::LoadFrequencies() {
  const ModelConfig& config = plan_.model->config();
  const std::vector<float> frequency =
      InverseFrequencies(config.rope_scaling, config.rope_theta, config.head_dim);
  engine_->CopyToEngine(buffers_.workspace.inverse_frequency, frequency.data(),
                        frequency.size() * sizeof(float));
}

Status Session::Synchronize() {
  const char* message = engine_->Synchronize();
  if (message == nullptr) return absl::OkStatus();
  poisoned_ = message;
  return MakeError(ErrorCode::kExecution, message);
}

Status Session::CheckUsable() const {
  if (poisoned_ == nullptr) return absl::OkStatus();
  return MakeError(ErrorCode::kPoisoned,
                   absl::StrCat("the session can't go on: ", poisoned_,
                                "; open a new one and restore the last checkpoint"));
}

Status Session::CheckLearningRate(double learning_rate) const {
  if (!(learning_rate >= 0) || learning_rate > 1) {
    return MakeError(ErrorCode::kOutOfRange,
                     absl::StrCat("learning rate ", learning_rate, " is not from 0 to 1"));
  }
  if (config_.rounding != Rounding::kNearest || !plan_.int8_states || learning_rate == 0) {
    return absl::OkStatus();
  }
  // Who asks for the published recipe gets it, with what it loses counted in every step's result.
  if (config_.preset == Preset::kPaper) return absl::OkStatus();
  std::vector<float> grids;
  for (int i = 0; i < plan_.model->table().size(); ++i) {
    const Weight& weight = buffers_.tensors[i].weight;
    if (!plan_.trains(i) || weight.dtype != DType::kI8) continue;
    const size_t begin = grids.size();
    auto factor = static_cast<float>(plan_.training[i].learning_rate_factor);
    if (factor == 0) continue;
    if (weight.residual != nullptr) factor *= kResidualSteps;
    grids.resize(begin + static_cast<size_t>(weight.rows));
    engine_->CopyToHost(grids.data() + begin, weight.grid, weight.rows * sizeof(float));
    for (size_t row = begin; row < grids.size(); ++row) grids[row] /= factor;
  }
  if (grids.empty()) return absl::OkStatus();
  const size_t percentile = grids.size() / 100;
  std::nth_element(grids.begin(), grids.begin() + static_cast<ptrdiff_t>(percentile), grids.end());
  const double needed = 0.5 * grids[percentile];
  if (learning_rate > needed) return absl::OkStatus();
  return MakeError(ErrorCode::kOutOfRange,
                   absl::StrCat("learning rate ", learning_rate,
                                " can't move the weights: rounding = nearest loses every update "
                                "below half a step of the weights, which is over ",
                                needed, " in 99 % of the rows; use rounding = stochastic"));
}

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
  if (home_ != nullptr) {
    QFT_RETURN_IF_ERROR(
        RequireMoved(momentum_.Begin(MomentumUnits(plan_, buffers_.tensors, UpdateOrder(plan_)))));
  }
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
  return Synchronize();
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
    StepRunner(*this).UpdateAll();
  }
  buffers_.stack.Clear();
  QFT_RETURN_IF_ERROR(Synchronize());
  QFT_RETURN_IF_ERROR(FinishMomentum());
  const StepState state = ReadStepState();
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
  rounding_square_sum_ += static_cast<double>(state.rounding_square_sum) * 0x1p-24;
  if (state.skip_update != 0) {
    Log(kLogWarning, absl::StrCat("step ", step_, " skipped: its gradient is not finite"));
  }
  return MakeResult(state);
}

StepResult Session::MakeResult(const StepState& state) const {
  StepResult result;
  result.step = static_cast<int64_t>(step_);
  result.tokens = step_tokens_;
  result.loss_weight = state.loss_weight;
  result.loss = state.loss_weight > 0 ? state.loss_sum / state.loss_weight : 0;
  result.gradient_norm = std::sqrt(state.gradient_square_sum);
  result.clip_factor = state.clip_factor;
  result.learning_rate = options_.learning_rate;
  result.codes_changed = state.codes_changed;
  result.codes_saturated = state.codes_saturated;
  result.rows_grown = state.rows_grown;
  result.skipped = state.skip_update != 0;
  for (int i = 0; i < plan_.model->table().size(); ++i) {
    if (plan_.trains(i) && buffers_.tensors[i].weight.dtype == DType::kI8) {
      const Weight& weight = buffers_.tensors[i].weight;
      result.codes_total += weight.rows * (weight.cols - weight.critical.count);
    }
  }
  result.updates_lost = state.updates_lost;
  if (result.codes_total > 0) {
    result.rounding_walk =
        std::sqrt(rounding_square_sum_ / static_cast<double>(result.codes_total));
  }
  result.seconds = SecondsSince(step_start_);
  return result;
}

Status Session::AbandonStep() {
  QFT_RETURN_IF_ERROR(CheckUsable());
  if (!step_open_) return MakeError(ErrorCode::kState, "no step is open");
  if (plan_.fused && step_micro_batches_ > 0) {
    return MakeError(ErrorCode::kState, "gradients = fused: the update has happened already");
  }
  buffers_.stack.Clear();
  step_open_ = false;
  return absl::OkStatus();
}

Status Session::FinishMomentum() {
  return RequireMoved(momentum_.Finish());
}

// An update of which the momentum was not there has spoilt the weights, and a store that has failed
// once brings nothing back.
Status Session::RequireMoved(Status moved) {
  if (!moved.ok()) Poison("momentum could not be moved");
  return moved;
}

Status Session::ReadState(void* host, const void* state, size_t bytes) {
  if (home_ != nullptr && home_->Holds(state)) {
    QFT_RETURN_IF_ERROR(RequireMoved(momentum_.Settle()));
    return RequireMoved(home_->Read(host, state, bytes));
  }
  engine_->CopyToHost(host, state, bytes);
  return Synchronize();
}

Status Session::WriteState(void* state, const void* host, size_t bytes) {
  if (home_ == nullptr || !home_->Holds(state)) {
    engine_->CopyToEngine(state, host, bytes);
    return absl::OkStatus();
  }
  // What an abandoned step was bringing is dropped. No step is open while states are written.
  QFT_RETURN_IF_ERROR(RequireMoved(momentum_.Begin({})));
  QFT_RETURN_IF_ERROR(RequireMoved(momentum_.Settle()));
  return RequireMoved(home_->Write(state, host, bytes));
}

const StackEntry* Session::FindGradient(int tensor) {
  return buffers_.stack.Find(tensor);
}

void Session::SetProgress(const Progress& progress, int64_t seed) {
  step_ = progress.step;
  previous_square_sum_ = progress.previous_square_sum;
  rounding_square_sum_ = progress.rounding_square_sum;
  config_.seed = seed;
  MakeKeys();
}

StepState Session::ReadStepState() {
  StepState state;
  engine_->CopyToHost(&state, buffers_.workspace.step, sizeof(state));
  return state;
}

void Session::WriteStepState(const StepState& state) {
  engine_->CopyToEngine(buffers_.workspace.step, &state, sizeof(state));
}

}  // namespace qft
