// Whole saves: prepared, committed, with older checkpoints set aside and pruned; beside training
// where the session has memory for a snapshot.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "runtime/checkpoint_content.h"

namespace qft {

// Writes folder/step_N and commits it, sets later checkpoints aside and keeps the newest `keep` (0:
// all).
Status SaveCheckpoint(const CheckpointContent& content, FileSystem& fs, const std::string& folder,
                      int64_t keep);

// A save by a thread of its own, of the states as they were when it began. It is to be stopped
// before its session goes.
class BackgroundSave {
 public:
  // Without memory for a snapshot the save has happened on return. Errors: as PreparedSave; what
  // happens later Wait tells.
  static StatusOr<std::shared_ptr<BackgroundSave>> Begin(Session& session, FileSystem& fs,
                                                         const std::string& folder,
                                                         const std::string& blob, int64_t keep);
  ~BackgroundSave() { Stop(); }
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;

  // All on any thread.
  bool done() const;
  // How the save ended, waiting up to `timeout` for that. Errors: TIMEOUT, CANCELLED.
  Status Wait(std::chrono::milliseconds timeout) const;
  // Asks a save that isn't committed yet to end, leaving nothing behind.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  // Cancels and waits for the end.
  void Stop();

 private:
  BackgroundSave() = default;
  // Starts the copies; what reads them replaces content's reader.
  Status TakeSnapshot(Session& session, CheckpointContent& content);
  void Run(Snapshot& snapshot, const CheckpointContent& content, FileSystem& fs,
           const std::string& folder, int64_t keep);
  Status CheckCancelled() const;
  void End(Status status);

  std::atomic<bool> cancelled_{false};
  mutable std::mutex mutex_;
  mutable std::condition_variable ended_;
  bool done_ = false;  // under the mutex, as the status
  Status status_;
  std::mutex join_mutex_;
  std::thread thread_;
};

}  // namespace qft
