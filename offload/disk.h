// One file of a store with its queue and the thread that keeps the queue full: cuts transfers into
// requests, tries again what was interrupted, records and verifies checksums. A thread for each, so
// that checksums keep up with any number of disks, and one that hangs stops no other.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "base/status.h"
#include "offload/page_checksums.h"
#include "offload/request_queue.h"
#include "offload/striping.h"

namespace qft {

struct Transfer {
  uint64_t ticket = 0;
  bool write = false;
  std::byte* data = nullptr;  // only read from where `write`
  int64_t bytes = 0;
  int64_t offset = 0;
  std::atomic<int64_t> blocks_left{0};
};

// What a disk tells its store, from the disk's thread and with no lock held.
class TransferObserver {
 public:
  // The last block is done.
  virtual void Finished(Transfer& transfer) = 0;
  virtual void Failed(const Status& error) = 0;

 protected:
  ~TransferObserver() = default;
};

class Disk {
 public:
  struct Setup {
    Striping striping;
    int index = 0;  // of the file in the striping
    int64_t file_bytes = 0;
    int depth = 0;
    int most_transfers = 0;  // under way at once
    std::chrono::milliseconds timeout{0};
  };

  Disk(const Setup& setup, std::unique_ptr<RequestQueue> queue, std::string file_name,
       TransferObserver& observer);
  Disk(const Disk&) = delete;
  Disk& operator=(const Disk&) = delete;

  // Once, before Start.
  void Launch();
  // Takes on its share of a transfer.
  void Start(Transfer& transfer);
  // Forgets what was not submitted, and submits nothing more.
  void Cancel();
  // After Cancel: the thread ends, and gives up requests older than the timeout.
  void BeginStop();
  // Waits for that. False where it has not ended by then: it hangs in the kernel, and this object
  // must live as long as the process.
  bool Stop(std::chrono::steady_clock::time_point deadline);

  RequestQueue& queue() { return *queue_; }
  // What there is to say where Stop is false or requests were given up.
  const Status& no_answer() const { return no_answer_; }
  // The same of a heartbeat that stands still for longer than the timeout.
  const Status& hangs() const { return hangs_; }
  // Moves while the thread is alive, at least once a Tick.
  uint64_t heartbeat() const { return heartbeat_; }
  // Once stopped: whether requests were given up.
  bool unanswered() const { return unanswered_; }
  // Nothing was written yet. While no transfer is under way.
  void ForgetContent() { checksums_.Clear(); }

  // The longest that a thread waits for news.
  static std::chrono::milliseconds Tick(std::chrono::milliseconds timeout);

 private:
  // Running time of the thread: unlike a clock it stands while the process is stopped, for which no
  // disk is to blame.
  using Age = std::chrono::nanoseconds;

  struct Cursor {
    Transfer* transfer;
    int64_t block;
  };
  struct Slot {
    Transfer* transfer = nullptr;  // null: free
    Piece piece;
    int64_t moved = 0;
    int stalls = 0;  // answers in a row that moved nothing
    Age since{0};    // of the last answer that moved something, or of the start
  };

  void Run();
  void Advance();
  // One turn: the queue is filled first, and checksums are computed while the disk is at work.
  Status Turn();
  Status FillBatch();
  Status SubmitBatch();
  bool TakePiece(Slot& slot);
  Status CollectCompletions();
  Status Complete(int id, int64_t result);
  Status Verify(const Slot& slot) const;
  static void FinishBlock(TransferObserver& observer, Transfer& transfer);
  Status FindOverdue() const;
  void Release(int id);
  bool Idle() const { return free_.size() == slots_.size(); }
  // What `body` returns; where memory runs out, an error that was made beforehand.
  template <typename Body>
  Status OrNoMemory(const Body& body) const;
  static std::byte* DataOf(const Slot& slot);
  Request RequestOf(int id) const;
  std::string Describe(const Slot& slot) const;

  const Setup setup_;
  const std::string file_name_;
  const std::unique_ptr<RequestQueue> queue_;
  TransferObserver& observer_;
  // Errors made beforehand: told when there may be no memory, by destructors too.
  const Status no_memory_;
  const Status no_answer_;
  const Status hangs_;

  std::mutex mutex_;
  std::vector<Cursor> waiting_[2];  // reads, writes
  bool write_next_ = false;
  bool ended_ = false;
  std::condition_variable ended_news_;
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<uint64_t> heartbeat_{0};
  std::atomic<bool> unanswered_{false};

  // The thread's own; none of them grows.
  PageChecksums checksums_;
  std::vector<Slot> slots_;
  std::vector<int> free_;
  std::vector<int> again_;  // to be submitted once more
  std::vector<Request> batch_;
  std::vector<Slot> written_;  // submitted, not yet recorded
  std::vector<Slot> arrived_;  // not yet verified
  std::vector<Completion> completions_;
  bool pause_ = false;
  Age age_{0};
  Age answered_{0};  // when the queue last had a completion
  std::chrono::steady_clock::time_point looked_;

  std::thread thread_;
};

}  // namespace qft
