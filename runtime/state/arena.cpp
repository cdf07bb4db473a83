#include "runtime/state/arena.h"

#include <algorithm>

namespace qft {
namespace {

// Sums stay here instead of overflowing: no machine has as much.
constexpr int64_t kMostBytes = int64_t{1} << 56;

}  // namespace

const char* PurposeName(Purpose purpose) {
  switch (purpose) {
    case Purpose::kWeights:
      return "weights";
    case Purpose::kCritical:
      return "critical";
    case Purpose::kResidual:
      return "residual";
    case Purpose::kMomentum:
      return "momentum";
    case Purpose::kGradients:
      return "gradients";
    case Purpose::kActivations:
      return "activations";
    case Purpose::kWorkspace:
      return "workspace";
    case Purpose::kStaging:
      return "staging";
  }
  return "unknown";
}

Arena::Arena(Engine* engine, int64_t reserved) : engine_(engine) {
#if defined(__SANITIZE_ADDRESS__)
  reserved = 0;
#endif
  if (engine == nullptr || reserved == 0) return;
  reserve_ = static_cast<char*>(Take(reserved, "a session"));
  if (reserve_ != nullptr) reserve_bytes_ = reserved;
}

Arena::Arena(void* memory, int64_t bytes, int64_t alignment)
    : engine_(nullptr),
      alignment_(alignment),
      reserve_(static_cast<char*>(memory)),
      reserve_bytes_(memory == nullptr ? 0 : bytes) {}

Arena::~Arena() {
  for (const Block& block : blocks_) engine_->Free(block.data, block.bytes);
}

void* Arena::Allocate(Purpose purpose, int64_t bytes) {
  if (bytes <= 0 || !status_.ok()) return nullptr;
  const int64_t rounded = (bytes + alignment_ - 1) / alignment_ * alignment_;
  int64_t& sum = bytes_[static_cast<int>(purpose)];
  sum = rounded > kMostBytes - sum ? kMostBytes : sum + rounded;
  if (rounded <= reserve_bytes_) {
    reserve_bytes_ -= rounded;
    reserve_ += rounded;
    return reserve_ - rounded;
  }
  return engine_ == nullptr ? nullptr : Take(rounded, PurposeName(purpose));
}

void* Arena::Take(int64_t bytes, const char* what) {
  // The entry first: without memory for it the block would be lost.
  blocks_.push_back({nullptr, static_cast<size_t>(bytes)});
  void* data = engine_->Allocate(static_cast<size_t>(bytes));
  if (data == nullptr) {
    blocks_.pop_back();
    status_ = MakeError(ErrorCode::kOutOfMemory,
                        absl::StrCat("no memory for ", bytes, " bytes of ", what));
    return nullptr;
  }
  blocks_.back().data = data;
  return data;
}

void Arena::Overlay(Purpose purpose, const std::vector<std::function<void(Arena&)>>& groups) {
  int64_t largest = 0;
  for (const auto& group : groups) {
    Arena count(nullptr);
    group(count);
    largest = std::max(largest, count.total_bytes());
  }
  auto* memory = static_cast<char*>(Allocate(purpose, largest));
  for (const auto& group : groups) {
    Arena part(memory, largest, alignment_);
    group(part);
  }
}

int64_t Arena::total_bytes() const {
  int64_t total = 0;
  for (const int64_t bytes : bytes_) total += bytes;
  return total;
}

}  // namespace qft
