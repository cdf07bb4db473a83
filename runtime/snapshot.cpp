#include "runtime/snapshot.h"

#include <algorithm>
#include <utility>

#include "absl/cleanup/cleanup.h"

namespace qft {
namespace {

// Where copies begin, so that each is as fast as it can be.
constexpr size_t kAlignment = 256;

size_t Align(size_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

Snapshot::Snapshot(Engine& engine, int64_t bytes) : engine_(engine) {
  if (bytes > 0) memory_ = engine.AllocateHost(static_cast<size_t>(bytes));
  if (memory_ != nullptr) capacity_ = bytes;
}

Snapshot::~Snapshot() {
  engine_.WaitForCopies(CopyLane::kSnapshot, last_ticket_);
  engine_.FreeHost(memory_, static_cast<size_t>(capacity_));
}

Status Snapshot::Start(const std::vector<StateRange>& ranges) {
  size_t needed = 0;
  for (const StateRange& range : ranges) needed += Align(range.bytes);
  if (needed > static_cast<size_t>(capacity_)) {
    return Internal("a snapshot takes ", needed, " bytes, planned are ", capacity_);
  }
  if (in_use_.exchange(true, std::memory_order_acquire)) {
    return MakeError(ErrorCode::kBusy, "a save is under way");
  }
  absl::Cleanup unused = [this] { Release().IgnoreError(); };
  copied_.assign(ranges.size(), {});
  tickets_.clear();
  char* next = static_cast<char*>(memory_);
  std::vector<Copy> copies;
  for (size_t begin = 0; begin < ranges.size();) {
    const int tensor = ranges[begin].tensor;
    size_t end = begin;
    copies.clear();
    for (; end < ranges.size() && ranges[end].tensor == tensor; ++end) {
      copied_[end].data = next;
      copies.push_back({next, ranges[end].data, ranges[end].bytes});
      next += Align(ranges[end].bytes);
    }
    last_ticket_ = engine_.StartCopies(CopyLane::kSnapshot, copies.data(),
                                       static_cast<int64_t>(copies.size()));
    for (size_t i = begin; i < end; ++i) copied_[i].ticket = last_ticket_;
    if (tensor >= 0) {
      tickets_.resize(std::max(tickets_.size(), static_cast<size_t>(tensor) + 1));
      tickets_[static_cast<size_t>(tensor)] = last_ticket_;
    }
    begin = end;
  }
  std::move(unused).Cancel();
  return absl::OkStatus();
}

void Snapshot::BeforeOverwrite(int tensor) {
  const auto index = static_cast<size_t>(tensor);
  if (index >= tickets_.size() || tickets_[index] == 0) return;
  engine_.OrderAfterCopies(CopyLane::kSnapshot, tickets_[index]);
  tickets_[index] = 0;
}

bool Snapshot::untouched(int tensor) const {
  const auto index = static_cast<size_t>(tensor);
  return index < tickets_.size() && tickets_[index] != 0;
}

void Snapshot::BeforeOverwriteAll() {
  engine_.OrderAfterCopies(CopyLane::kSnapshot, last_ticket_);
}

StatusOr<const char*> Snapshot::Read(size_t range) const {
  const char* message = engine_.WaitForCopies(CopyLane::kSnapshot, copied_[range].ticket);
  if (message != nullptr) return MakeError(ErrorCode::kExecution, message);
  return copied_[range].data;
}

Status Snapshot::Release() {
  const char* message = engine_.WaitForCopies(CopyLane::kSnapshot, last_ticket_);
  in_use_.store(false, std::memory_order_release);
  return message == nullptr ? absl::OkStatus() : MakeError(ErrorCode::kExecution, message);
}

}  // namespace qft
