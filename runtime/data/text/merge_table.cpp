#include "runtime/data/text/merge_table.h"

#include <algorithm>
#include <limits>

namespace qft {
namespace {

constexpr int32_t kNone = -1;
constexpr size_t kFew = 24;  // symbols; up to here looking at all of them beats a heap

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

// One run: a doubly linked list of symbols and a heap of the merges that were possible.
class MergeTable::Merger {
 public:
  Merger(const MergeTable& table, const int32_t* ids, size_t count, MergeHistory* history)
      : table_(table), history_(history) {
    const auto size = static_cast<int32_t>(count);
    symbols_.reserve(count);
    for (int32_t i = 0; i < size; ++i) {
      symbols_.push_back({ids[i], i - 1, i + 1 < size ? i + 1 : kNone});
    }
  }

  // Writes the symbols that remain, no more than there were, and returns their number.
  size_t Run(int32_t* ids) {
    for (int32_t i = 0; i + 1 < static_cast<int32_t>(symbols_.size()); ++i) Offer(i);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end());
      const Candidate candidate = heap_.back();
      heap_.pop_back();
      Apply(candidate);
    }
    size_t count = 0;
    for (int32_t i = 0; i != kNone; i = At(i).next) ids[count++] = At(i).id;
    return count;
  }

 private:
  struct Symbol {
    int32_t id;  // kNone once it has been merged into its left neighbour
    int32_t previous;
    int32_t next;
  };
  struct Candidate {
    int32_t rank;
    int32_t position;
    int32_t left;
    int32_t right;
    int32_t merged;
    bool operator<(const Candidate& other) const {  // the heap's top is the largest
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };

  Symbol& At(int32_t i) { return symbols_[static_cast<size_t>(i)]; }

  void Offer(int32_t position) {
    const Symbol& left = At(position);
    if (left.next == kNone) return;
    const int32_t right = At(left.next).id;
    const Target* target = table_.Find(left.id, right);
    if (target == nullptr) return;
    if (history_ != nullptr) (*history_)[target->merged] = {left.id, right};
    heap_.push_back({target->rank, position, left.id, right, target->merged});
    std::push_heap(heap_.begin(), heap_.end());
  }

  void Apply(const Candidate& candidate) {
    Symbol& left = At(candidate.position);
    if (left.id == kNone || left.next == kNone) return;
    Symbol& right = At(left.next);
    if (left.id != candidate.left || right.id != candidate.right) return;  // outdated
    left.id = candidate.merged;
    left.next = right.next;
    right.id = kNone;
    if (left.next != kNone) At(left.next).previous = candidate.position;
    if (left.previous != kNone) Offer(left.previous);
    Offer(candidate.position);
  }

  const MergeTable& table_;
  MergeHistory* history_;
  std::vector<Symbol> symbols_;
  std::vector<Candidate> heap_;
};

MergeTable::MergeTable(const std::vector<MergeRule>& rules) {
  targets_.reserve(rules.size());
  for (const MergeRule& rule : rules) {
    targets_[PairKey(rule.left, rule.right)] = {rule.rank, rule.merged};
  }
}

const MergeTable::Target* MergeTable::Find(int32_t left, int32_t right) const {
  const auto found = targets_.find(PairKey(left, right));
  return found == targets_.end() ? nullptr : &found->second;
}

void MergeTable::MergeFew(int32_t* symbols, size_t* count) const {
  Target targets[kFew];
  constexpr Target kNever = {std::numeric_limits<int32_t>::max(), kNone};
  const auto look = [&](size_t i) {
    const Target* target = Find(symbols[i], symbols[i + 1]);
    targets[i] = target != nullptr ? *target : kNever;
  };
  size_t pairs = *count - 1;
  for (size_t i = 0; i < pairs; ++i) look(i);
  while (pairs > 0) {
    const Target* best = std::min_element(
        targets, targets + pairs, [](const Target& a, const Target& b) { return a.rank < b.rank; });
    if (best->merged == kNone) break;
    const auto place = static_cast<size_t>(best - targets);
    symbols[place] = best->merged;
    std::copy(symbols + place + 2, symbols + pairs + 1, symbols + place + 1);
    --pairs;
    std::copy(targets + place + 1, targets + pairs + 1, targets + place);
    if (place > 0) look(place - 1);
    if (place < pairs) look(place);
  }
  *count = pairs + 1;
}

void MergeTable::Merge(size_t begin, std::vector<int32_t>* symbols, MergeHistory* history) const {
  size_t count = symbols->size() - begin;
  if (count < 2) return;
  int32_t* first = symbols->data() + begin;
  if (count <= kFew && history == nullptr) {
    MergeFew(first, &count);
  } else {
    count = Merger(*this, first, count, history).Run(first);
  }
  symbols->resize(begin + count);
}

}  // namespace qft
