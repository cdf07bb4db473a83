// A number for each character that has one.
#pragma once

#include <array>
#include <cstdint>

#include "absl/container/flat_hash_map.h"

namespace qft {

class CharacterIds {
 public:
  static constexpr int32_t kNone = -1;

  CharacterIds() { ascii_.fill(kNone); }

  void Set(int32_t code_point, int32_t id) {
    if (code_point < kAscii) {
      ascii_[static_cast<size_t>(code_point)] = id;
    } else {
      others_[code_point] = id;
    }
  }
  int32_t Find(int32_t code_point) const {
    if (code_point < kAscii) return ascii_[static_cast<size_t>(code_point)];
    const auto found = others_.find(code_point);
    return found == others_.end() ? kNone : found->second;
  }

 private:
  static constexpr int32_t kAscii = 128;

  std::array<int32_t, kAscii> ascii_;
  absl::flat_hash_map<int32_t, int32_t> others_;
};

}  // namespace qft
