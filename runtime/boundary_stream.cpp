#include "runtime/boundary_stream.h"

#include <algorithm>
#include <utility>

namespace qft {

BoundaryStream::BoundaryStream(Engine& engine, StateHome* home, std::vector<Matrix> matrices,
                               int blocks, int64_t slots)
    : engine_(engine),
      home_(home),
      matrices_(std::move(matrices)),
      blocks_(blocks),
      slots_(slots) {}

BoundaryStream::~BoundaryStream() {
  for (const uint64_t ticket : loaded_) engine_.WaitForCopies(CopyLane::kLoad, ticket);
  for (const uint64_t ticket : stored_) engine_.WaitForCopies(CopyLane::kStore, ticket);
}

// Recomputing writes the boundary above once more, which nobody reads.
BoundaryStream::Visits BoundaryStream::VisitsOf(const ScheduleItem& item) const {
  const int m = item.micro_batch;
  const int b = item.index;
  const auto one = [m](int index, BoundaryUse use) { return Visit{index, m, use, -1}; };
  const Visit none = one(0, BoundaryUse::kNone);
  switch (item.phase) {
    case Phase::kEmbed:
      return {one(0, BoundaryUse::kWrite), none};
    case Phase::kForward:
      return {one(b, BoundaryUse::kRead), one(b + 1, BoundaryUse::kWrite)};
    case Phase::kRecompute:
      return {one(b, BoundaryUse::kRead), one(b + 1, BoundaryUse::kScratch)};
    case Phase::kBackward:
      return {one(b, BoundaryUse::kRead), none};
    case Phase::kLoss:
    case Phase::kFinalNormBackward:
      return {one(blocks_, BoundaryUse::kRead), none};
    case Phase::kHeadBackward:
    case Phase::kPushHead:
    case Phase::kPushFinalNorm:
    case Phase::kEmbedBackward:
    case Phase::kPushEmbedding:
      return {none, none};
  }
  return {none, none};
}

void BoundaryStream::Begin(const std::vector<ScheduleItem>& schedule, std::vector<int64_t> rows) {
  rows_ = std::move(rows);
  if (home_ == nullptr) return;
  visits_.clear();
  ends_.clear();
  item_ = 0;
  brought_ = left_ = 0;
  std::vector<int64_t> written(static_cast<size_t>((blocks_ + 1) * slots_), -1);
  for (const ScheduleItem& item : schedule) {
    for (Visit visit : VisitsOf(item)) {
      if (visit.use == BoundaryUse::kNone) continue;
      int64_t& writer =
          written[static_cast<size_t>(visit.index * slots_ + visit.micro_batch % slots_)];
      if (visit.use == BoundaryUse::kRead) visit.after = writer;
      if (visit.use == BoundaryUse::kWrite) writer = static_cast<int64_t>(visits_.size());
      visits_.push_back(visit);
    }
    ends_.push_back(static_cast<int64_t>(visits_.size()));
  }
  BringAhead();
}

char* BoundaryStream::HomeOf(const Visit& visit) const {
  const Matrix& whole = matrices_[0];
  const int64_t bytes = whole.rows * whole.cols * ElementBytes(whole.dtype);
  return home_->base() + (visit.index * slots_ + visit.micro_batch % slots_) * bytes;
}

size_t BoundaryStream::BytesOf(const Visit& visit) const {
  const Matrix& whole = matrices_[0];
  const int64_t rows = rows_[static_cast<size_t>(visit.micro_batch % slots_)];
  return static_cast<size_t>(rows * whole.cols * ElementBytes(whole.dtype));
}

void BoundaryStream::BringAhead() {
  const auto count = static_cast<int64_t>(visits_.size());
  for (; brought_ < count && brought_ - left_ < kRing; ++brought_) {
    const Visit& visit = visits_[static_cast<size_t>(brought_)];
    if (visit.after >= left_) return;
    if (visit.use != BoundaryUse::kRead) continue;
    const Copy copy{InRing(brought_).data, HomeOf(visit), BytesOf(visit)};
    loaded_[static_cast<size_t>(brought_ % kRing)] = engine_.StartCopies(CopyLane::kLoad, &copy, 1);
  }
}

void BoundaryStream::Enter() {
  if (home_ == nullptr) return;
  BringAhead();
  for (int64_t visit = left_; visit < ends_[item_]; ++visit) {
    const auto place = static_cast<size_t>(visit % kRing);
    if (visits_[static_cast<size_t>(visit)].use == BoundaryUse::kRead) {
      engine_.OrderAfterCopies(CopyLane::kLoad, loaded_[place]);
    } else {
      // What stood there before has been stored.
      engine_.OrderAfterCopies(CopyLane::kStore, stored_[place]);
    }
  }
}

void BoundaryStream::Leave() {
  if (home_ == nullptr) return;
  for (; left_ < ends_[item_]; ++left_) {
    const Visit& visit = visits_[static_cast<size_t>(left_)];
    if (visit.use != BoundaryUse::kWrite) continue;
    const Copy copy{HomeOf(visit), InRing(left_).data, BytesOf(visit)};
    stored_[static_cast<size_t>(left_ % kRing)] = engine_.StartCopies(CopyLane::kStore, &copy, 1);
  }
  ++item_;
  BringAhead();
}

Matrix BoundaryStream::At(int index, int micro_batch) const {
  const int64_t slot = micro_batch % slots_;
  Matrix matrix;
  if (home_ == nullptr) {
    matrix = matrices_[static_cast<size_t>(index * slots_ + slot)];
  } else {
    int64_t visit = left_;
    while (visits_[static_cast<size_t>(visit)].index != index) ++visit;
    matrix = InRing(visit);
  }
  matrix.rows = rows_[static_cast<size_t>(slot)];
  return matrix;
}

}  // namespace qft
