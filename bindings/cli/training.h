// A fine-tuning run from its first step to its last: steps, evaluations, checkpoints, metrics.
#pragma once

#include <chrono>
#include <optional>
#include <string>

#include "bindings/cli/evaluation.h"
#include "bindings/cli/files.h"
#include "bindings/cli/finetune_options.h"
#include "bindings/cli/handles.h"
#include "bindings/cli/progress.h"
#include "bindings/cli/run_folder.h"

namespace qft::cli {

// What a checkpoint keeps beside the session's states.
struct RunState {
  int64_t step = 0;         // steps done, skipped ones included
  int64_t tokens = 0;       // trained on
  int64_t skipped = 0;      // steps whose gradient was not finite
  double seconds = 0;       // of training steps
  double data_seconds = 0;  // that steps waited for their batches, beside `seconds`
  std::optional<double> loss_before;

  // With the data set's position, as the bytes of a checkpoint.
  std::string ToBlob(const Dataset& dataset) const;
  // Puts the data set where the blob says.
  static RunState FromBlob(const Checkpoint& checkpoint, const Dataset& dataset);

  double TokensPerSecond() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }
  // Of the time of steps and of waiting before them.
  double DataShare() const { return seconds > 0 ? data_seconds / (data_seconds + seconds) : 0; }
};

enum class StopReason { kDone, kTime, kInterrupted };

// "done", "time limit", "interrupted".
const char* Name(StopReason reason);

// Bytes by state, as summary.json and metrics.jsonl have them.
nlohmann::json StateBytes(const Session& session);

class Training {
 public:
  Training(const FinetuneOptions& options, const RunFolder& folder, const Session& session,
           const Dataset& dataset, int64_t steps, const RunState& state);
  // A checkpoint that is being written is kept, also when a step has failed.
  ~Training();
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;

  // Evaluates, unless a resumed run already has, then trains until a reason to stop. After any stop
  // but an interruption before the first step there is a checkpoint of the last step.
  StopReason Run();
  // The held-out loss now; nothing without held-out data or when interrupted.
  std::optional<double> EvaluateNow();

  const RunState& state() const { return state_; }
  int64_t steps() const { return steps_; }
  JsonLines& metrics() { return metrics_; }
  Progress& progress() { return progress_; }

 private:
  using Clock = std::chrono::steady_clock;

  void StepOnce(const qft_schedule& schedule);
  // data_seconds: that the step waited for its batches.
  void Record(const qft_step_result& result, double data_seconds);
  // Once, after the first steps of this program: how long all will take.
  void TellEstimate(const qft_step_result& result);
  void CountSkipped(bool skipped);
  // Begins a save after the one before it has ended; beside training where --set snapshot=host.
  void Save();
  // Waits for the save that was begun, if any, and removes what is not kept; errors are Failures.
  void EndSave();
  bool OutOfTime() const;
  qft_schedule Schedule() const;
  std::string Details(const qft_step_result& result) const;

  const FinetuneOptions& options_;
  const RunFolder folder_;
  const Session& session_;
  const Dataset& dataset_;
  const int64_t steps_;
  RunState state_;
  JsonLines metrics_;
  Progress progress_;
  nlohmann::json state_bytes_;
  int64_t skipped_in_a_row_ = 0;
  int64_t session_step_;
  int64_t saved_session_step_;
  Event save_;
  double evaluation_seconds_ = 0;
  int64_t steps_measured_ = 0;
  double measured_seconds_ = 0;
  Clock::time_point start_ = Clock::now();
};

}  // namespace qft::cli
