#include "runtime/state/arena.h"

namespace qft {
namespace {

constexpr int64_t kAlignment = 64;
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
  }
  return "unknown";
}

Arena::~Arena() {
  for (const Block& block : blocks_) engine_->Free(block.data, block.bytes);
}

void* Arena::Allocate(Purpose purpose, int64_t bytes) {
  if (bytes <= 0 || !status_.ok()) return nullptr;
  const int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  int64_t& sum = bytes_[static_cast<int>(purpose)];
  sum = rounded > kMostBytes - sum ? kMostBytes : sum + rounded;
  if (engine_ == nullptr) return nullptr;
  void* data = engine_->Allocate(static_cast<size_t>(rounded));
  if (data == nullptr) {
    status_ = MakeError(ErrorCode::kOutOfMemory, absl::StrCat("no memory for ", rounded,
                                                              " bytes of ", PurposeName(purpose)));
    return nullptr;
  }
  blocks_.push_back({data, static_cast<size_t>(rounded)});
  return data;
}

int64_t Arena::total_bytes() const {
  int64_t total = 0;
  for (const int64_t bytes : bytes_) total += bytes;
  return total;
}

}  // namespace qft
