// Every allocation of a session goes through an arena. Without an engine it only adds up: the plan
// is the allocation code itself run over such a null arena, so a plan cannot drift from what
// happens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/status.h"
#include "kernels/ops.h"

namespace qft {

enum class Purpose {
  kWeights,
  kCritical,
  kResidual,
  kMomentum,
  kGradients,
  kActivations,
  kWorkspace
};
inline constexpr int kPurposes = 7;
const char* PurposeName(Purpose purpose);

class Arena {
 public:
  // engine == nullptr: a null arena, whose Allocate returns nullptr and counts.
  explicit Arena(Engine* engine) : engine_(engine) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Zeroed, 64-byte aligned; lives as long as the arena. After the first failure every further call
  // returns nullptr and status() says what could not be had.
  void* Allocate(Purpose purpose, int64_t bytes);
  template <typename T>
  T* Allocate(Purpose purpose, int64_t count) {
    return static_cast<T*>(Allocate(purpose, count * static_cast<int64_t>(sizeof(T))));
  }

  const Status& status() const { return status_; }
  int64_t bytes(Purpose purpose) const { return bytes_[static_cast<int>(purpose)]; }
  int64_t total_bytes() const;

 private:
  struct Block {
    void* data;
    size_t bytes;
  };

  Engine* engine_;
  std::vector<Block> blocks_;
  int64_t bytes_[kPurposes] = {};
  Status status_;
};

}  // namespace qft
