#include "runtime/session.h"

#include <algorithm>

#include "runtime/cuda_module.h"
#include "runtime/step.h"

namespace qft {
namespace {

constexpr int64_t kLoadRows = 1024;

StatusOr<std::unique_ptr<Engine>> MakeEngine(const SessionConfig& config) {
  if (config.engine == EngineChoice::kCuda) {
    return MakeCudaEngine(static_cast<int>(config.device));
  }
  return std::unique_ptr<Engine>(CreateCpuEngine(static_cast<int>(config.threads)));
}

// nullptr where momentum lives in the engine's memory.
StatusOr<std::unique_ptr<StateHome>> OpenHome(const Plan& plan, const SessionConfig& config,
                                              Engine& engine, StoreOptions store) {
  if (plan.momentum_tier == Tier::kDevice) return nullptr;
  StoreOptions configured = StoreOptionsOf(config);
  store.folders = std::move(configured.folders);
  store.backend = configured.backend;
  return StateHome::Open(engine, plan.momentum_tier, plan.home_bytes, std::move(store));
}

// A store that has not all it could have is slower than it need be.
int LogLevelOf(const StoreReport& report, StoreBackend wanted) {
  const bool fell_back = wanted == StoreBackend::kAuto && report.backend == StoreBackend::kThreads;
  return fell_back || !report.direct ? kLogWarning : kLogInfo;
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
      momentum_(*engine_, home_.get(), buffers_.staging, plan_.staging_bytes,
                plan_.nvme_staging_bytes),
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

Status Session::BeginMomentum() {
  if (home_ == nullptr) return absl::OkStatus();
  return RequireMoved(momentum_.Begin(MomentumUnits(plan_, buffers_.tensors, UpdateOrder(plan_))));
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

StepState Session::ReadStepState(const StepState* from) {
  StepState state;
  engine_->CopyToHost(&state, from, sizeof(state));
  return state;
}

void Session::WriteStepState(const StepState& state) {
  engine_->CopyToEngine(buffers_.workspace.step, &state, sizeof(state));
}

}  // namespace qft
