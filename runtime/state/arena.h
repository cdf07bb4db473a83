// Every allocation of a session goes through an arena. Without an engine it only adds up: the plan
// is the allocation code itself run over such a null arena, so a plan cannot drift from what
// happens.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
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
  kWorkspace,
  kStaging
};
inline constexpr int kPurposes = 8;
const char* PurposeName(Purpose purpose);

class Arena {
 public:
  // engine == nullptr: a null arena, whose Allocate returns nullptr and counts. `reserved` bytes
  // are taken from the engine at once, and what is allocated is cut from them as long as they last:
  // a device rounds every allocation up, by megabytes. Not under AddressSanitizer, which knows
  // where a buffer ends only if it has an allocation to itself.
  explicit Arena(Engine* engine, int64_t reserved = 0);
  // Cuts what is allocated from `memory`, which is another's; nullptr: only adds up. In pieces of
  // `alignment`.
  Arena(void* memory, int64_t bytes, int64_t alignment);
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Zeroed, aligned to 64 bytes, on a device to 256; lives as long as the arena. After the first
  // failure every further call returns nullptr and status() says what could not be had.
  void* Allocate(Purpose purpose, int64_t bytes);
  template <typename T>
  T* Allocate(Purpose purpose, int64_t count) {
    return static_cast<T*>(Allocate(purpose, count * static_cast<int64_t>(sizeof(T))));
  }

  // Each group allocates its buffers from the arena it is given, all of them for `purpose`, and is
  // called twice. The groups lie over each other: the buffers of one are of use only while those of
  // the others are not.
  void Overlay(Purpose purpose, const std::vector<std::function<void(Arena&)>>& groups);

  const Status& status() const { return status_; }
  int64_t bytes(Purpose purpose) const { return bytes_[static_cast<int>(purpose)]; }
  int64_t total_bytes() const;

 private:
  struct Block {
    void* data;
    size_t bytes;
  };

  // nullptr, and status(), when there is none left.
  void* Take(int64_t bytes, const char* what);

  Engine* engine_;
  int64_t alignment_ = 256;
  char* reserve_ = nullptr;  // what is left of it
  int64_t reserve_bytes_ = 0;
  std::vector<Block> blocks_;
  int64_t bytes_[kPurposes] = {};
  Status status_;
};

}  // namespace qft
