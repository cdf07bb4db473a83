#include "runtime/state/nvme_staging.h"

#include <algorithm>
#include <new>
#include <system_error>
#include <utility>

#include "base/worker_thread.h"

namespace qft {
namespace {

char* PieceAt(char* memory, int64_t place, const StoredUnit& unit, int piece) {
  for (int i = 0; i < piece; ++i) place += unit.bytes[static_cast<size_t>(i)];
  return memory + place;
}

int64_t BytesOf(const StoredUnit& unit) {
  return unit.bytes[0] + unit.bytes[1] + unit.bytes[2];
}

Status WaitForAll(Store& store, const std::array<uint64_t, 3>& tickets) {
  Status all;
  for (const uint64_t ticket : tickets) {
    if (ticket > 0) all.Update(store.Wait(ticket));
  }
  return all;
}

}  // namespace

StatusOr<std::unique_ptr<NvmeStaging>> NvmeStaging::Open(Engine& engine, Store& store,
                                                         int64_t bytes) {
  std::unique_ptr<NvmeStaging> staging(new NvmeStaging(engine, store, bytes));
  staging->memory_ = static_cast<char*>(engine.AllocateHost(static_cast<size_t>(bytes)));
  if (staging->memory_ == nullptr) {
    return MakeError(ErrorCode::kOutOfMemory,
                     absl::StrCat("no host memory for ", bytes, " bytes of staging"));
  }
  QFT_RETURN_IF_ERROR(
      store.Register(staging->Pages(), static_cast<size_t>(bytes - kStoreAlignment)));
  try {
    staging->thread_ = StartWorker([raw = staging.get()] { raw->Loop(); });
  } catch (const std::system_error& error) {
    return ErrnoError(error.code().value(), "start the thread that writes momentum back");
  }
  return staging;
}

NvmeStaging::~NvmeStaging() {
  if (thread_.joinable()) {
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Status over = status_;
  for (const Staged& unit : staged_) over.Update(WaitForAll(store_, unit.reads));
  // After an error transfers may be under way still: of a disk that does not answer for ever, and
  // then the memory stays its own.
  if (!over.ok() && !store_.Close().ok()) return;
  engine_.FreeHost(memory_, static_cast<size_t>(bytes_));
}

char* NvmeStaging::Pages() const {
  const auto address = reinterpret_cast<uintptr_t>(memory_);
  return memory_ + (kStoreAlignment - address % kStoreAlignment) % kStoreAlignment;
}

Status NvmeStaging::Begin(std::vector<StoredUnit> order) {
  for (const StoredUnit& unit : order) {
    if (BytesOf(unit) > bytes_ - kStoreAlignment)
      return Internal("momentum of one update has no room in staging");
  }
  Status dropped;
  for (size_t unit = given_back_; unit < read_; ++unit) {
    dropped.Update(WaitForAll(store_, staged_[unit].reads));
  }
  QFT_RETURN_IF_ERROR(Settle());
  while (!space_.empty()) space_.GiveBack();
  order_ = std::move(order);
  staged_.assign(order_.size(), {});
  read_ = given_back_ = 0;
  QFT_RETURN_IF_ERROR(dropped);
  ReadAhead();
  return absl::OkStatus();
}

void NvmeStaging::ReadAhead() {
  while (read_ < order_.size()) {
    const StoredUnit& unit = order_[read_];
    Staged& staged = staged_[read_];
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      staged.place = OnItsWayBack(unit) ? -1 : space_.Take(BytesOf(unit));
    }
    if (staged.place < 0) return;
    ++read_;  // before reads of which the last may find no memory: the others are under way
    for (size_t i = 0; i < unit.bytes.size(); ++i) {
      if (unit.bytes[i] == 0) continue;
      staged.reads[i] = store_.StartRead(PieceAt(Pages(), staged.place, unit, static_cast<int>(i)),
                                         unit.bytes[i], unit.offset[i]);
    }
  }
}

// A read of it would not be ordered after its writes.
bool NvmeStaging::OnItsWayBack(const StoredUnit& unit) const {
  const auto same = [&unit](const Writing& writing) { return writing.unit.offset == unit.offset; };
  return std::any_of(copying_.begin(), copying_.end(), same) ||
         std::any_of(writing_.begin(), writing_.end(), same);
}

bool NvmeStaging::Ready(size_t unit) {
  ReadAhead();
  if (unit >= read_) return false;
  for (const uint64_t ticket : staged_[unit].reads) {
    if (ticket > 0 && !store_.Done(ticket)) return false;
  }
  return true;
}

Status NvmeStaging::WaitReady(size_t unit) {
  for (ReadAhead(); unit >= read_; ReadAhead()) {
    std::unique_lock<std::mutex> lock(mutex_);
    QFT_RETURN_IF_ERROR(status_);
    const size_t before = copying_.size() + writing_.size();
    if (before == 0) continue;
    changed_.wait(lock,
                  [&] { return copying_.size() + writing_.size() < before || !status_.ok(); });
  }
  return WaitForAll(store_, staged_[unit].reads);
}

char* NvmeStaging::At(size_t unit, int piece) const {
  if (order_[unit].bytes[static_cast<size_t>(piece)] == 0) return nullptr;
  return PieceAt(Pages(), staged_[unit].place, order_[unit], piece);
}

void NvmeStaging::GiveBack(size_t unit, uint64_t ticket) {
  given_back_ = unit + 1;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    copying_.push_back({order_[unit], staged_[unit].place, ticket, {}});
  }
  changed_.notify_all();
  ReadAhead();
}

Status NvmeStaging::Settle() {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return (copying_.empty() && writing_.empty()) || !status_.ok(); });
  return status_;
}

void NvmeStaging::Loop() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (true) {
    changed_.wait(lock, [this] { return stopping_ || !copying_.empty() || !writing_.empty(); });
    if (copying_.empty() && writing_.empty()) return;
    try {
      status_.Update(WriteNext(lock));
    } catch (const std::bad_alloc&) {
      if (!lock.owns_lock()) lock.lock();
      status_.Update(no_memory_);
    }
    if (!status_.ok()) {
      // What is in flight may still read the ring: its room is not given back.
      copying_.clear();
      writing_.clear();
    }
    changed_.notify_all();
  }
}

// Starts the writes of the unit that is copied next; where there is none waits for the oldest.
Status NvmeStaging::WriteNext(std::unique_lock<std::mutex>& lock) {
  if (!copying_.empty()) {
    Writing next = copying_.front();
    lock.unlock();
    const char* message = engine_.WaitForCopies(CopyLane::kStore, next.copied);
    if (message == nullptr) {
      for (size_t i = 0; i < next.unit.bytes.size(); ++i) {
        if (next.unit.bytes[i] == 0) continue;
        next.writes[i] =
            store_.StartWrite(PieceAt(Pages(), next.place, next.unit, static_cast<int>(i)),
                              next.unit.bytes[i], next.unit.offset[i]);
      }
    }
    lock.lock();
    copying_.pop_front();
    if (message != nullptr) return MakeError(ErrorCode::kExecution, message);
    writing_.push_back(next);
  }
  while (!writing_.empty()) {
    const Writing& oldest = writing_.front();
    bool done = true;
    for (const uint64_t ticket : oldest.writes) done = done && (ticket == 0 || store_.Done(ticket));
    if (!done && !copying_.empty()) return absl::OkStatus();
    const std::array<uint64_t, 3> writes = oldest.writes;
    lock.unlock();
    Status written = WaitForAll(store_, writes);
    lock.lock();
    QFT_RETURN_IF_ERROR(written);
    writing_.pop_front();
    space_.GiveBack();
    changed_.notify_all();
  }
  return absl::OkStatus();
}

}  // namespace qft
