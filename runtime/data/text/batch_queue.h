// Batches made ahead in a thread of their own, so that who trains does not wait for files, the
// tokenizer or the order of the next epoch.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "base/status.h"
#include "runtime/data/text/token_batch.h"

namespace qft {

class BatchQueue {
 public:
  // The next batch. Called by the queue's thread only, until it fails.
  using Maker = std::function<StatusOr<ReadyBatch>()>;

  explicit BatchQueue(Maker make);
  // Waits for the batch that is being made.
  ~BatchQueue();
  BatchQueue(const BatchQueue&) = delete;
  BatchQueue& operator=(const BatchQueue&) = delete;

  // The batches in the order in which they were made, then what the maker failed with, for ever;
  // what it throws is kOutOfMemory or kInternal. Lets the thread get up to `ahead` >= 1 batches
  // ahead of this one.
  StatusOr<ReadyBatch> Pop(size_t ahead);

 private:
  void MakeAll();
  // Makes one batch and puts it into the queue.
  Status MakeOne();
  // False: the queue is going.
  bool WaitForRoom();

  const Maker make_;
  // Made before there could be none left for it.
  const Status out_of_memory_;
  std::mutex mutex_;
  std::condition_variable room_;
  std::condition_variable ready_;
  std::deque<ReadyBatch> batches_;
  Status failure_;
  size_t ahead_ = 0;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace qft
