// Merges of neighbouring symbols, as byte-pair encoding does them: the pair of lowest rank first,
// of equal ones the leftmost.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace qft {

// `left` and `right`, whose texts make that of `merged`, side by side become it.
struct MergeRule {
  int32_t left = 0;
  int32_t right = 0;
  int32_t merged = 0;
  int32_t rank = 0;
};

// For each merged symbol the two that it could last have been made of.
using MergeHistory = absl::flat_hash_map<int32_t, std::pair<int32_t, int32_t>>;

class MergeTable {
 public:
  // Of two rules for the same pair the later counts.
  explicit MergeTable(const std::vector<MergeRule>& rules);

  // Merges the symbols from place `begin` on. O(n log n), whatever they are. n < 2^31.
  // history: nullptr, or what was possible is added to it.
  void Merge(size_t begin, std::vector<int32_t>* symbols, MergeHistory* history = nullptr) const;

 private:
  struct Target {
    int32_t rank;
    int32_t merged;
  };
  class Merger;

  // nullptr: no merge.
  const Target* Find(int32_t left, int32_t right) const;
  void MergeFew(int32_t* symbols, size_t* count) const;

  absl::flat_hash_map<uint64_t, Target> targets_;
};

}  // namespace qft
