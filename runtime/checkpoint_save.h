// Whole saves: prepared, committed, with older checkpoints set aside and pruned; or into storage of
// the caller's. Beside training where the session has memory for a snapshot.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
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

// Saves what it is given, as SaveCheckpoint and WriteContent do.
using ContentWriter = std::function<Status(const CheckpointContent&)>;

// A save by a thread of its own, of the states as they were when it began. It is to be stopped
// before its session goes.
class BackgroundSave {
 public:
  // Without memory for a snapshot the save has happened on return. Errors: as ContentOf and
  // `write`; what happens later Wait tells.
  static StatusOr<std::shared_ptr<BackgroundSave>> Begin(Session& session, const std::string& blob,
                                                         ContentWriter write);
  ~BackgroundSave() { Stop(); }
  BackgroundSave(const BackgroundSave&) = delete;
  BackgroundSave& operator=(const BackgroundSave&) = delete;

  // All on any thread.
  bool done() const;
  // How the save ended, waiting up to `timeout` for that. Errors: TIMEOUT, CANCELLED, REENTRANT (on
  // the save's own thread, in a callback).
  Status Wait(std::chrono::milliseconds timeout) const;
  // Asks a save that isn't committed yet to end, leaving nothing behind.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }
  // Cancels and waits for the end, except on the save's own thread.
  void Stop();
  // For who lets go of `session`. In a callback of its save nobody can wait for the save's end:
  // there the save is cancelled, and `owner` lives until it has ended. Elsewhere does nothing.
  static void KeepInCallback(const Session& session, std::shared_ptr<void> owner);

 private:
  explicit BackgroundSave(const Session& session) : session_(&session) {}
  bool OnOwnThread() const;
  // function() -> Status, or that memory ran out in it.
  template <typename F>
  Status OrNoMemory(const F& function) const;
  // Starts the copies; what reads them replaces content's reader.
  Status TakeSnapshot(Session& session, CheckpointContent& content);
  void Run(Snapshot& snapshot, const CheckpointContent& content, const ContentWriter& write);
  Status CheckCancelled() const;
  void End(Status status);

  std::atomic<bool> cancelled_{false};
  // Made beforehand: there may be no memory to say it with.
  const Status no_memory_ = MakeError(ErrorCode::kOutOfMemory, "out of memory while saving");
  mutable std::mutex mutex_;
  mutable std::condition_variable ended_;
  bool done_ = false;  // under the mutex, as the status
  Status status_;
  std::mutex join_mutex_;
  std::thread thread_;
  const Session* session_;       // not followed
  std::shared_ptr<void> owner_;  // of the session; by the thread alone
};

}  // namespace qft
