// The gradient stack: backward pushes quantised gradients, the optimizer pops them. Push and pop
// are O(1): the top of one block of memory moves.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops.h"
#include "runtime/state/arena.h"
#include "runtime/state/tensor_state.h"

namespace qft {

struct StackEntry {
  int tensor = -1;
  Gradient gradient;
};

class GradientStack {
 public:
  // Bytes that an entry for this tensor takes.
  static int64_t EntryBytes(const TensorSpec& spec, const StateFormat& format);

  // Room for `capacity_bytes` of entries, at most `capacity_entries` of them.
  void Allocate(int64_t capacity_bytes, int capacity_entries, Arena& arena);

  // Makes room on top for the gradient of a tensor; its contents are undefined.
  StackEntry& Push(int tensor, const TensorSpec& spec, const StateFormat& format);
  // Takes the top entry away. Its memory stays valid until the next push.
  StackEntry Pop();

  bool empty() const { return entries_.empty(); }
  int size() const { return static_cast<int>(entries_.size()); }
  // Entries from the bottom up.
  const std::vector<StackEntry>& entries() const { return entries_; }
  StackEntry* Find(int tensor);
  void Clear();

 private:
  char* memory_ = nullptr;
  int64_t capacity_ = 0;
  int64_t top_ = 0;
  std::vector<StackEntry> entries_;
  std::vector<int64_t> offsets_;
};

// A block of rows of a gradient, as a gradient.
Gradient GradientRows(const Gradient& gradient, int64_t row_begin, int64_t row_count);

}  // namespace qft
