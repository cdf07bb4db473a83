#include "runtime/state/momentum_stream.h"

#include <numeric>
#include <utility>

#include "runtime/state/tensor_state.h"

namespace qft {
namespace {

std::array<void*, 3> PiecesOf(const Momentum& momentum) {
  return {momentum.data, momentum.grid, momentum.critical};
}

}  // namespace

std::array<int64_t, 3> MomentumUnit::PieceBytes() const {
  constexpr int64_t kFloat = sizeof(float);
  return {WholePages(rows * cols), WholePages(rows * MomentumBlocks(cols) * kFloat),
          WholePages(rows * critical_count * kFloat)};
}

int64_t MomentumUnit::bytes() const {
  const std::array<int64_t, 3> pieces = PieceBytes();
  return std::accumulate(pieces.begin(), pieces.end(), int64_t{0});
}

MomentumStream::MomentumStream(Engine& engine, StateHome* home, void* ring, int64_t ring_bytes,
                               int64_t staging_bytes)
    : engine_(engine),
      home_(home),
      ring_(static_cast<char*>(ring)),
      ring_bytes_(ring_bytes),
      staging_bytes_(staging_bytes),
      space_(ring_bytes) {}

// Copies to the ring and from it are over before its memory goes.
MomentumStream::~MomentumStream() {
  engine_.WaitForCopies(CopyLane::kStore, last_store_);
  engine_.WaitForCopies(CopyLane::kLoad, last_load_);
}

Status MomentumStream::Open() {
  if (home_ == nullptr || home_->store() == nullptr) return absl::OkStatus();
  QFT_ASSIGN_OR_RETURN(staging_, NvmeStaging::Open(engine_, *home_->store(), staging_bytes_));
  return absl::OkStatus();
}

void MomentumStream::Fail(Status status) {
  status_.Update(std::move(status));
}

// Loads that follow come after those that are dropped: they are of one lane.
Status MomentumStream::Begin(std::vector<MomentumUnit> order) {
  if (home_ == nullptr) return absl::OkStatus();
  for (const MomentumUnit& unit : order) {
    if (unit.bytes() > ring_bytes_)
      Fail(Internal("momentum of one update has no room in the ring"));
  }
  order_ = std::move(order);
  while (!space_.empty()) space_.GiveBack();
  in_ring_.clear();
  next_ = brought_ = 0;
  if (staging_ != nullptr) {
    std::vector<StoredUnit> places;
    places.reserve(order_.size());
    for (const MomentumUnit& unit : order_) {
      StoredUnit place;
      const std::array<void*, 3> pieces = PiecesOf(unit.home);
      for (size_t i = 0; i < pieces.size(); ++i) {
        place.bytes[i] = pieces[i] == nullptr ? 0 : unit.PieceBytes()[i];
        place.offset[i] = pieces[i] == nullptr ? 0 : home_->OffsetOf(pieces[i]);
      }
      places.push_back(place);
    }
    Fail(staging_->Begin(std::move(places)));
  }
  BringAhead(false);
  return status_;
}

const char* MomentumStream::HostAt(size_t unit, int piece) const {
  if (staging_ != nullptr) return staging_->At(unit, piece);
  return static_cast<const char*>(PiecesOf(order_[unit].home)[static_cast<size_t>(piece)]);
}

// Starts loads while there is room in the ring and, of a store, the bytes have come; wait: for
// those of the unit that is next to be entered.
void MomentumStream::BringAhead(bool wait) {
  for (; brought_ < order_.size() && status_.ok(); ++brought_) {
    const MomentumUnit& unit = order_[brought_];
    if (staging_ != nullptr) {
      const bool needed = wait && brought_ == next_;
      if (!needed && !staging_->Ready(brought_)) return;
      Fail(staging_->WaitReady(brought_));  // what has failed is ready too
      if (!status_.ok()) return;
    }
    const int64_t place = space_.Take(unit.bytes());
    if (place < 0) return;
    Copy copies[3];
    int64_t at = place;
    for (int i = 0; i < 3; ++i) {
      const int64_t bytes =
          HostAt(brought_, i) == nullptr ? 0 : unit.PieceBytes()[static_cast<size_t>(i)];
      copies[i] = {ring_ + at, HostAt(brought_, i), static_cast<size_t>(bytes)};
      at += bytes;
    }
    last_load_ = engine_.StartCopies(CopyLane::kLoad, copies, 3);
    in_ring_.push_back({place, last_load_});
  }
}

Momentum MomentumStream::Enter(const Momentum& home) {
  if (home_ == nullptr || !home_->Holds(home.data)) return home;
  if (next_ >= order_.size() || order_[next_].home.data != home.data) {
    Fail(Internal("momentum is asked for out of its order"));
  }
  BringAhead(true);
  Momentum here = home;
  char* memory = ring_;
  if (status_.ok()) {
    const Brought& brought = in_ring_.front();
    engine_.OrderAfterCopies(CopyLane::kLoad, brought.loaded);
    memory += brought.place;
  } else {
    // What is still under way meets nothing of what the update does.
    engine_.OrderAfterCopies(CopyLane::kLoad, last_load_);
    engine_.OrderAfterCopies(CopyLane::kStore, last_store_);
  }
  const std::array<int64_t, 3> bytes =
      next_ < order_.size() ? order_[next_].PieceBytes() : std::array<int64_t, 3>{};
  here.data = memory;
  here.grid = reinterpret_cast<float*>(memory + bytes[0]);
  if (home.critical != nullptr) {
    here.critical = reinterpret_cast<float*>(memory + bytes[0] + bytes[1]);
  }
  return here;
}

void MomentumStream::Leave(const Momentum& home) {
  if (home_ == nullptr || !home_->Holds(home.data)) return;
  if (!status_.ok()) {
    ++next_;  // so that the next unit lies in the ring by its own sizes
    return;
  }
  const Brought brought = in_ring_.front();
  in_ring_.pop_front();
  Copy copies[3];
  int64_t at = brought.place;
  for (int i = 0; i < 3; ++i) {
    auto* host = const_cast<char*>(HostAt(next_, i));
    const int64_t bytes = host == nullptr ? 0 : order_[next_].PieceBytes()[static_cast<size_t>(i)];
    copies[i] = {host, ring_ + at, static_cast<size_t>(bytes)};
    at += bytes;
  }
  last_store_ = engine_.StartCopies(CopyLane::kStore, copies, 3);
  if (staging_ != nullptr) staging_->GiveBack(next_, last_store_);
  space_.GiveBack();
  ++next_;
  BringAhead(false);
}

Status MomentumStream::Finish() {
  const char* message = engine_.WaitForCopies(CopyLane::kStore, last_store_);
  if (message != nullptr) Fail(MakeError(ErrorCode::kExecution, message));
  return status_;
}

Status MomentumStream::Settle() {
  QFT_RETURN_IF_ERROR(Finish());
  if (staging_ != nullptr) Fail(staging_->Settle());
  return status_;
}

}  // namespace qft
