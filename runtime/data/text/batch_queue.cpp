#include "runtime/data/text/batch_queue.h"

#include <exception>
#include <new>
#include <utility>

#include "base/worker_thread.h"

namespace qft {

BatchQueue::BatchQueue(Maker make)
    : make_(std::move(make)),
      out_of_memory_(MakeError(ErrorCode::kOutOfMemory, "out of memory while making a batch")),
      thread_(StartWorker([this] { MakeAll(); })) {}

BatchQueue::~BatchQueue() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    stopping_ = true;
  }
  room_.notify_one();
  thread_.join();
}

StatusOr<ReadyBatch> BatchQueue::Pop(size_t ahead) {
  std::unique_lock<std::mutex> lock(mutex_);
  ahead_ = ahead;
  room_.notify_one();
  ready_.wait(lock, [this] { return !batches_.empty() || !failure_.ok(); });
  if (batches_.empty()) return failure_;
  ReadyBatch first = std::move(batches_.front());
  batches_.pop_front();
  room_.notify_one();
  return first;
}

void BatchQueue::MakeAll() {
  Status status;
  while (status.ok() && WaitForRoom()) status = MakeOne();
  const std::lock_guard<std::mutex> lock(mutex_);
  failure_ = std::move(status);
  ready_.notify_one();
}

bool BatchQueue::WaitForRoom() {
  std::unique_lock<std::mutex> lock(mutex_);
  room_.wait(lock, [this] { return stopping_ || batches_.size() < ahead_; });
  return !stopping_;
}

Status BatchQueue::MakeOne() {
  try {
    QFT_ASSIGN_OR_RETURN(ReadyBatch made, make_());
    const std::lock_guard<std::mutex> lock(mutex_);
    batches_.push_back(std::move(made));
    ready_.notify_one();
    return absl::OkStatus();
  } catch (const std::bad_alloc&) {
    return out_of_memory_;
  } catch (const std::exception& exception) {
    return Internal(exception.what());
  }
}

}  // namespace qft
