// A set of byte strings, each with a number, asked for those that a text begins with.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace qft {

class PrefixTrie {
 public:
  static constexpr int32_t kNone = -1;
  static constexpr int32_t kRoot = 0;

  PrefixTrie() : PrefixTrie(std::vector<std::pair<std::string, int32_t>>()) {}
  // Values are not negative. Of equal keys the last counts; empty ones are left out.
  explicit PrefixTrie(std::vector<std::pair<std::string, int32_t>> keys);

  // One byte on from `node`; kNone: no key goes on there.
  int32_t Step(int32_t node, char byte) const {
    const auto label = static_cast<uint8_t>(byte);
    return node == kRoot ? from_root_[label] : FindChild(node, label);
  }
  // The value of the key that ends at `node`; kNone: none does.
  int32_t Value(int32_t node) const { return values_[static_cast<size_t>(node)]; }

  // The value of the longest key that `text` begins with and, in *length, its bytes. kNone: none.
  int32_t Longest(std::string_view text, size_t* length) const;

 private:
  int32_t FindChild(int32_t node, uint8_t label) const;

  // Nodes in breadth-first order: the children of n are first_child_[n] to first_child_[n + 1].
  std::vector<int32_t> first_child_;
  std::vector<uint8_t> labels_;  // of the edge to each node; ascending among siblings
  std::vector<int32_t> values_;
  std::array<int32_t, 256> from_root_;
};

}  // namespace qft
