#include "runtime/data/text/prefix_trie.h"

#include <algorithm>

namespace qft {
namespace {

using Keys = std::vector<std::pair<std::string, int32_t>>;

void SortUnique(Keys* keys) {
  std::stable_sort(keys->begin(), keys->end(),
                   [](const auto& a, const auto& b) { return a.first < b.first; });
  Keys unique;
  for (auto& key : *keys) {
    if (key.first.empty()) continue;
    if (!unique.empty() && unique.back().first == key.first) unique.pop_back();
    unique.push_back(std::move(key));
  }
  *keys = std::move(unique);
}

}  // namespace

PrefixTrie::PrefixTrie(Keys keys) {
  SortUnique(&keys);
  struct Range {  // the keys that share the path to one node
    size_t begin;
    size_t end;
    size_t depth;
  };
  std::vector<Range> nodes = {{0, keys.size(), 0}};
  labels_.push_back(0);
  for (size_t node = 0; node < nodes.size(); ++node) {
    auto [at, end, depth] = nodes[node];
    const bool ends_here = at < end && keys[at].first.size() == depth;
    values_.push_back(ends_here ? keys[at++].second : kNone);
    first_child_.push_back(static_cast<int32_t>(nodes.size()));
    while (at < end) {
      const char label = keys[at].first[depth];
      const size_t begin = at;
      while (at < end && keys[at].first[depth] == label) ++at;
      nodes.push_back({begin, at, depth + 1});
      labels_.push_back(static_cast<uint8_t>(label));
    }
  }
  first_child_.push_back(static_cast<int32_t>(nodes.size()));
  from_root_.fill(kNone);
  for (int32_t child = first_child_[0]; child < first_child_[1]; ++child) {
    from_root_[labels_[static_cast<size_t>(child)]] = child;
  }
}

int32_t PrefixTrie::FindChild(int32_t node, uint8_t label) const {
  const auto place = static_cast<size_t>(node);
  const auto begin = labels_.begin() + first_child_[place];
  const auto end = labels_.begin() + first_child_[place + 1];
  const auto found = std::lower_bound(begin, end, label);
  if (found == end || *found != label) return kNone;
  return static_cast<int32_t>(found - labels_.begin());
}

int32_t PrefixTrie::Longest(std::string_view text, size_t* length) const {
  int32_t found = kNone;
  int32_t node = kRoot;
  for (size_t i = 0; i < text.size(); ++i) {
    node = Step(node, text[i]);
    if (node == kNone) break;
    if (Value(node) == kNone) continue;
    found = Value(node);
    *length = i + 1;
  }
  return found;
}

}  // namespace qft
