#include "offload/disk.h"

#include <algorithm>
#include <cerrno>
#include <new>
#include <optional>
#include <utility>

#include "base/worker_thread.h"

namespace qft {
namespace {

// A file that ends within a page answers with less than a page for ever.
constexpr int kMostStalls = 16;
constexpr std::chrono::milliseconds kPause{1};

}  // namespace

std::chrono::milliseconds Disk::Tick(std::chrono::milliseconds timeout) {
  return std::clamp<std::chrono::milliseconds>(timeout / 4, std::chrono::milliseconds(1),
                                               std::chrono::seconds(1));
}

Disk::Disk(const Setup& setup, std::unique_ptr<RequestQueue> queue, std::string file_name,
           TransferObserver& observer)
    : setup_(setup),
      file_name_(std::move(file_name)),
      queue_(std::move(queue)),
      observer_(observer),
      no_memory_(MakeError(ErrorCode::kOutOfMemory, "no memory for transfers of " + file_name_)),
      no_answer_(MakeError(
          ErrorCode::kTimeout,
          file_name_ +
              " has not answered all requests: memory of transfers may still be written to")),
      hangs_(MakeError(ErrorCode::kTimeout,
                       absl::StrCat(file_name_, " holds its thread in the kernel for more than ",
                                    setup.timeout.count(), " ms"))),
      checksums_(setup.file_bytes),
      slots_(static_cast<size_t>(setup.depth)),
      completions_(static_cast<size_t>(setup.depth)) {
  for (std::vector<Cursor>& waiting : waiting_) {
    waiting.reserve(static_cast<size_t>(setup.most_transfers));
  }
  free_.reserve(slots_.size());
  again_.reserve(slots_.size());
  batch_.reserve(slots_.size());
  written_.reserve(slots_.size());
  arrived_.reserve(slots_.size());
  for (int id = 0; id < setup.depth; ++id) free_.push_back(id);
}

void Disk::Launch() {
  looked_ = std::chrono::steady_clock::now();
  thread_ = StartWorker([this] { Run(); });
}

void Disk::Start(Transfer& transfer) {
  const Striping& striping = setup_.striping;
  const int64_t block = striping.NextBlockOf(setup_.index, striping.FirstBlock(transfer.offset));
  if (block >= striping.EndBlock(transfer.offset + transfer.bytes)) return;
  {
    const std::scoped_lock lock(mutex_);
    waiting_[transfer.write ? 1 : 0].push_back({&transfer, block});
  }
  queue_->Wake();
}

void Disk::Cancel() {
  {
    const std::scoped_lock lock(mutex_);
    cancelled_ = true;
    for (std::vector<Cursor>& waiting : waiting_) waiting.clear();
  }
  queue_->Wake();
}

void Disk::BeginStop() {
  stopping_ = true;
  queue_->Wake();
}

bool Disk::Stop(std::chrono::steady_clock::time_point deadline) {
  if (!thread_.joinable()) return true;  // never launched
  std::unique_lock lock(mutex_);
  if (!ended_news_.wait_until(lock, deadline, [this] { return ended_; })) {
    thread_.detach();
    return false;
  }
  lock.unlock();
  thread_.join();
  return true;
}

void Disk::Run() {
  while (!(stopping_ && (Idle() || unanswered_))) {
    ++heartbeat_;
    Advance();
    // Asked before the turn, in which a cancelled disk drops what it would try again.
    const bool stopping = stopping_;
    Status status = Turn();
    const Status overdue = OrNoMemory([this] { return FindOverdue(); });
    const bool silent = age_ - answered_ > Tick(setup_.timeout);
    if (stopping && silent && !overdue.ok()) unanswered_ = true;
    if (status.ok()) status = overdue;
    if (!status.ok()) observer_.Failed(status);
    pause_ |= !status.ok();  // a queue that is broken answers at once
  }
  const std::scoped_lock lock(mutex_);
  ended_ = true;
  ended_news_.notify_all();
}

void Disk::Advance() {
  if (std::exchange(pause_, false)) std::this_thread::sleep_for(kPause);
  const auto now = std::chrono::steady_clock::now();
  age_ += std::min<Age>(now - looked_, 2 * Tick(setup_.timeout));
  looked_ = now;
}

template <typename Body>
Status Disk::OrNoMemory(const Body& body) const {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return no_memory_;
  }
}

Status Disk::Turn() {
  Status status = OrNoMemory([this] { return FillBatch(); });
  if (!batch_.empty()) status.Update(SubmitBatch());
  for (const Slot& slot : written_) {
    checksums_.Record(slot.piece.file_offset, DataOf(slot), slot.piece.bytes);
  }
  for (const Slot& slot : arrived_) {
    status.Update(OrNoMemory([&] { return Verify(slot); }));
    if (status.ok()) FinishBlock(observer_, *slot.transfer);
  }
  arrived_.clear();
  if (!status.ok()) return status;
  return OrNoMemory([this] { return CollectCompletions(); });
}

Status Disk::SubmitBatch() {
  try {
    return queue_->Submit(batch_);
  } catch (const std::bad_alloc&) {
    for (const Request& request : batch_) Release(request.id);
    return no_memory_;
  }
}

Status Disk::FillBatch() {
  batch_.clear();
  written_.clear();
  for (const int id : again_) {
    if (cancelled_) {
      Release(id);
    } else {
      batch_.push_back(RequestOf(id));
    }
  }
  again_.clear();
  Slot slot;
  while (!free_.empty() && TakePiece(slot)) {
    const Piece& piece = slot.piece;
    if (!slot.transfer->write &&
        checksums_.FirstUnwritten(piece.file_offset, piece.bytes).has_value()) {
      return InvalidArgument(Describe(slot), ": it was never written");
    }
    const int id = free_.back();
    free_.pop_back();
    slots_[static_cast<size_t>(id)] = slot;
    batch_.push_back(RequestOf(id));
    if (slot.transfer->write) written_.push_back(slot);
  }
  return absl::OkStatus();
}

// Reads and writes take turns where both wait, so that neither is held up by the other's queue.
bool Disk::TakePiece(Slot& slot) {
  const std::scoped_lock lock(mutex_);
  const bool write = waiting_[0].empty() || (write_next_ && !waiting_[1].empty());
  std::vector<Cursor>& waiting = waiting_[write ? 1 : 0];
  if (waiting.empty()) return false;
  write_next_ = !write;
  Cursor& cursor = waiting.front();
  Transfer& transfer = *cursor.transfer;
  const Striping& striping = setup_.striping;
  slot = Slot{&transfer, striping.PieceOf(cursor.block, transfer.offset, transfer.bytes)};
  slot.since = age_;
  cursor.block += striping.files;
  if (cursor.block >= striping.EndBlock(transfer.offset + transfer.bytes)) {
    waiting.erase(waiting.begin());
  }
  return true;
}

Status Disk::CollectCompletions() {
  QFT_ASSIGN_OR_RETURN(const size_t count,
                       queue_->Collect(absl::MakeSpan(completions_), Tick(setup_.timeout)));
  if (count > 0) answered_ = age_;
  Status status;
  for (size_t i = 0; i < count; ++i) {
    const Completion& completion = completions_[i];
    status.Update(OrNoMemory([&] { return Complete(completion.id, completion.result); }));
  }
  return status;
}

Status Disk::Complete(int id, int64_t result) {
  Slot& slot = slots_[static_cast<size_t>(id)];
  const bool write = slot.transfer->write;
  const bool interrupted = result == -EINTR || result == -EAGAIN;
  if (cancelled_ || (result < 0 && !interrupted)) {
    const Slot ended = slot;
    Release(id);  // whatever becomes of the message
    if (cancelled_) return absl::OkStatus();
    return ErrnoError(static_cast<int>(-result), Describe(ended));
  }
  if (interrupted) {
    pause_ |= result == -EAGAIN;
    again_.push_back(id);
    return absl::OkStatus();
  }
  const int64_t left = slot.piece.bytes - slot.moved;
  if (result >= left) {
    if (write) {
      FinishBlock(observer_, *slot.transfer);
    } else {
      arrived_.push_back(slot);
    }
    Release(id);
    return absl::OkStatus();
  }
  // Direct transfers go on at whole pages.
  const int64_t moved = result / kStoreAlignment * kStoreAlignment;
  slot.moved += moved;
  slot.stalls = moved > 0 ? 0 : slot.stalls + 1;
  if (moved > 0) slot.since = age_;
  again_.push_back(id);
  if (slot.stalls < kMostStalls) return absl::OkStatus();
  if (write) return MakeError(ErrorCode::kIo, Describe(slot) + ": nothing is taken any more");
  return Corrupt(Describe(slot), ": the file ends there; something else has cut it off");
}

Status Disk::Verify(const Slot& slot) const {
  const std::optional<int64_t> difference =
      checksums_.FirstDifference(slot.piece.file_offset, DataOf(slot), slot.piece.bytes);
  if (!difference.has_value()) return absl::OkStatus();
  return Corrupt(Describe(slot), ": the page at offset ", *difference,
                 " of the file isn't what was written there");
}

void Disk::FinishBlock(TransferObserver& observer, Transfer& transfer) {
  if (transfer.blocks_left.fetch_sub(1) == 1) observer.Finished(transfer);
}

Status Disk::FindOverdue() const {
  for (const Slot& slot : slots_) {
    if (slot.transfer == nullptr || age_ - slot.since <= setup_.timeout) continue;
    return MakeError(ErrorCode::kTimeout, absl::StrCat(Describe(slot), ": no answer within ",
                                                       setup_.timeout.count(), " ms"));
  }
  return absl::OkStatus();
}

void Disk::Release(int id) {
  slots_[static_cast<size_t>(id)].transfer = nullptr;
  free_.push_back(id);
}

std::byte* Disk::DataOf(const Slot& slot) {
  return slot.transfer->data + (slot.piece.offset - slot.transfer->offset);
}

Request Disk::RequestOf(int id) const {
  const Slot& slot = slots_[static_cast<size_t>(id)];
  return {id, slot.transfer->write, DataOf(slot) + slot.moved, slot.piece.bytes - slot.moved,
          slot.piece.file_offset + slot.moved};
}

std::string Disk::Describe(const Slot& slot) const {
  return absl::StrCat(slot.transfer->write ? "write" : "read", " of ", slot.piece.bytes,
                      " bytes at offset ", slot.piece.file_offset, " of ", file_name_, " (offset ",
                      slot.piece.offset, " of the store)");
}

}  // namespace qft
