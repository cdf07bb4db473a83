// Space in a ring of memory, taken and given back in the same order.
#pragma once

#include <cstdint>
#include <deque>

namespace qft {

class RingSpace {
 public:
  explicit RingSpace(int64_t bytes) : bytes_(bytes) {}

  // The place of `size` bytes in a row; -1: there are none until more is given back.
  int64_t Take(int64_t size) {
    if (taken_.empty()) next_ = 0;
    const int64_t oldest = taken_.empty() ? bytes_ + 1 : taken_.front();
    const bool wrapped = next_ < oldest && !taken_.empty();
    if (!wrapped && bytes_ - next_ < size) {
      if (taken_.empty() || oldest <= size) return -1;
      next_ = 0;
    } else if (wrapped && oldest - next_ <= size) {
      return -1;
    }
    taken_.push_back(next_);
    next_ += size;
    return taken_.back();
  }
  // What was taken first.
  void GiveBack() { taken_.pop_front(); }
  bool empty() const { return taken_.empty(); }

 private:
  int64_t bytes_;
  int64_t next_ = 0;
  std::deque<int64_t> taken_;
};

}  // namespace qft
