// One training run over a model. See include/qft_c.h for what each call means; this is the same in
// C++. Not thread-safe; runtime/c_api/ sees to exclusive use.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/boundary_stream.h"
#include "runtime/model/llama.h"
#include "runtime/plan.h"
#include "runtime/session_config.h"
#include "runtime/snapshot.h"

namespace qft {

// A micro-batch as the caller gives it, host memory.
struct BatchView {
  int64_t tokens = 0;
  const int32_t* token_ids = nullptr;
  const int32_t* targets = nullptr;       // nullptr: the next token of the document
  const float* loss_weights = nullptr;    // nullptr: 1
  const int32_t* document_ids = nullptr;  // nullptr: one document
};

struct StepOptions {
  double learning_rate = 0;
  double loss_normalizer = 0;         // 0: sum of the loss weights
  std::vector<double> group_factors;  // empty: 1
};

struct StepResult {
  int64_t step = 0;
  int64_t tokens = 0;
  double loss = 0;
  double loss_weight = 0;
  double gradient_norm = 0;
  double clip_factor = 1;
  double learning_rate = 0;
  int64_t codes_changed = 0;
  int64_t codes_total = 0;
  int64_t codes_saturated = 0;
  int64_t rows_grown = 0;
  int64_t updates_lost = 0;
  double rounding_walk = 0;  // since the weights were loaded, root of the mean square, grid steps
  bool skipped = false;
  double seconds = 0;
};

// What a session remembers besides its states.
struct Progress {
  uint64_t step = 0;
  double previous_square_sum = -1;  // of the step before, for fused clipping; < 0: none yet
  double rounding_square_sum = 0;   // of all roundings of updates, in squared grid steps
};

struct EvalResult {
  double loss = 0;
  double loss_weight = 0;
  int64_t tokens = 0;
};

inline constexpr int kLogWarning = 1;
inline constexpr int kLogInfo = 2;
using LogSink = std::function<void(int level, const std::string& message)>;

class Session {
 public:
  // store: how momentum on NVMe is kept; folders, backend and bytes are the configuration's.
  static StatusOr<std::unique_ptr<Session>> Open(std::shared_ptr<const Model> model,
                                                 const SessionConfig& config, LogSink log,
                                                 StoreOptions store = {});

  // Says in the log what was planned and what was measured, of a session that has trained.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Status CheckLearningRate(double learning_rate) const;
  Status BeginStep(const StepOptions& options);
  Status Accumulate(const std::vector<BatchView>& batches);
  StatusOr<StepResult> EndStep();
  Status AbandonStep();
  // token_losses: nullptr, or one for each token.
  StatusOr<EvalResult> Evaluate(const std::vector<BatchView>& batches, float* token_losses);
  // output [tokens * vocabulary]; log probabilities or logits.
  Status Forward(const BatchView& batch, bool log_probabilities, float* output);

  const Plan& plan() const { return plan_; }
  const SessionConfig& config() const { return config_; }
  const Model& model() const { return *plan_.model; }
  Engine& engine() { return *engine_; }
  int64_t step() const { return static_cast<int64_t>(step_); }
  bool step_open() const { return step_open_; }
  std::string PlanJson() const;
  Llama llama();

  // For tensor access, checkpoints and the decoder.
  std::vector<TensorState>& tensor_states() { return buffers_.tensors; }
  const StackEntry* FindGradient(int tensor);
  Snapshot& snapshot() { return snapshot_; }
  // A tensor's states, wherever they live.
  Status ReadState(void* host, const void* state, size_t bytes);
  Status WriteState(void* state, const void* host, size_t bytes);
  Progress progress() const { return {step_, previous_square_sum_, rounding_square_sum_}; }
  int32_t* critical_columns() { return buffers_.critical_columns; }
  // Share of the critical features that would be chosen again today; 1 where there are none. A
  // forward pass over random tokens; not while a step is open.
  StatusOr<double> CriticalOverlap();
  // CORRUPT unless each site's critical features are ascending columns of its operand.
  Status CheckCriticalColumns();
  // A checkpoint's; the keys follow the seed.
  void SetProgress(const Progress& progress, int64_t seed);
  // Applies the updates that still wait for the next forward pass (Plan::late_updates): before
  // anything but a step looks at states. Errors also as CheckUsable.
  Status FinishUpdates();
  // After a broken invariant every later call says so.
  // why: static, or the engine's.
  void Poison(const char* why) { poisoned_ = why; }
  Status CheckUsable() const;
  // kExecution with the engine's message, if it has failed.
  Status Synchronize();

 private:
  friend class StepRunner;
  friend class Updater;

  // Of the last step, with Plan::late_updates().
  struct LateUpdates {
    StepState* state = nullptr;  // engine memory; nullptr: there are none
    StepOptions options;
    bool on_stack = false;  // false: enqueued
  };

  Session(Plan plan, SessionConfig config, std::unique_ptr<Engine> engine,
          std::unique_ptr<StateHome> home, std::unique_ptr<StateHome> boundary_home, LogSink log);
  Status LoadWeights();
  Status EncodeWeights(const std::vector<TensorState>& states);
  void LoadFrequencies();
  void MakeKeys();
  Status CheckBatch(const BatchView& batch) const;
  Status CheckDocuments(const BatchView& batch) const;
  Status CheckRates(const StepOptions& options) const;
  void Log(int level, const std::string& message) const;
  void LogPlan() const;
  // Copies the batch into the slot's engine buffers. Returns the sum of its loss weights.
  double Upload(const BatchView& batch, int64_t token_offset, MicroBatch& slot);
  StepState ReadStepState(const StepState* state);
  void WriteStepState(const StepState& state);
  void SetGradientScale();
  void Run(const std::vector<ScheduleItem>& schedule, int64_t micro_batches);
  Status BeginMomentum();
  Status FinishMomentum();
  // `moved`; where that is an error the session is poisoned.
  Status RequireMoved(Status moved);
  void CountUpdates(const StepState& state);
  StepResult MakeResult(const StepState& state);
  void Measure(const StepResult& result);
  Status RunForward(const BatchView& batch);
  // Chooses the critical features by the states as they are.
  Status Calibrate(const std::vector<TensorState>& states);
  // The columns of largest range at each site over random tokens, ascending: [sites,
  // critical_count].
  StatusOr<std::vector<int32_t>> WidestColumns(Llama graph);
  void AddRanges(const Operand& operand, std::vector<float>& range);

  Plan plan_;
  SessionConfig config_;
  std::unique_ptr<Engine> engine_;
  LogSink log_;
  Arena arena_;
  std::unique_ptr<StateHome> home_;           // of momentum; nullptr: the arena
  std::unique_ptr<StateHome> boundary_home_;  // likewise
  Arena home_arena_;
  SessionBuffers buffers_;
  Snapshot snapshot_;
  MomentumStream momentum_;
  BoundaryStream boundaries_;
  std::vector<TensorKeys> keys_;
  std::vector<TensorKeys> head_keys_;

  uint64_t step_ = 0;
  double previous_square_sum_ = -1;
  double rounding_square_sum_ = 0;
  const char* poisoned_ = nullptr;
  LateUpdates late_;
  DeviceReport most_;  // in use after a step
  // Of steps after the first, which loads code and finds out what is fastest.
  int64_t timed_tokens_ = 0;
  double timed_seconds_ = 0;
  StepState counted_;  // of updates since the last result: their counts alone

  // The open step.
  bool step_open_ = false;
  StepOptions options_;
  int64_t step_tokens_ = 0;
  int64_t step_micro_batches_ = 0;
  double step_loss_weight_ = 0;
  std::chrono::steady_clock::time_point step_start_;
};

// Poisons a session when an exception passes: memory ran out in the middle of a change.
class PoisonOnException {
 public:
  PoisonOnException(Session& session, const char* why) : session_(session), why_(why) {}
  ~PoisonOnException() {
    if (std::uncaught_exceptions() > exceptions_) session_.Poison(why_);
  }
  PoisonOnException(const PoisonOnException&) = delete;
  PoisonOnException& operator=(const PoisonOnException&) = delete;

 private:
  Session& session_;
  const char* why_;
  int exceptions_ = std::uncaught_exceptions();
};

}  // namespace qft
