#include "runtime/data/text/bpe.h"

#include <algorithm>

#include "absl/container/inlined_vector.h"

namespace qft {
namespace {

constexpr int32_t kNone = -1;
constexpr size_t kUsualPiece = 24;  // bytes; longer ones cost an allocation

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

// One encoding: a doubly linked list of symbols and a heap of the merges that were possible.
class Bpe::Merger {
 public:
  Merger(const Bpe& bpe, std::string_view piece) : bpe_(bpe) {
    symbols_.reserve(piece.size());
    bool after_unknown = false;
    for (const char c : piece) {
      const int32_t id = bpe.byte_ids_[static_cast<uint8_t>(c)];
      const bool unknown = id == kNone;
      if (!unknown) {
        Append(id);
      } else if (bpe.options_.unknown_id != kNone &&
                 !(after_unknown && bpe.options_.fuse_unknown)) {
        Append(bpe.options_.unknown_id);
      }
      after_unknown = unknown;
    }
  }

  void Run(std::vector<int32_t>* ids) {
    for (int32_t i = 0; i + 1 < static_cast<int32_t>(symbols_.size()); ++i) Offer(i);
    while (!heap_.empty()) {
      std::pop_heap(heap_.begin(), heap_.end());
      const Candidate candidate = heap_.back();
      heap_.pop_back();
      Apply(candidate);
    }
    for (int32_t i = symbols_.empty() ? kNone : 0; i != kNone; i = At(i).next) {
      ids->push_back(At(i).id);
    }
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
    int32_t merged;
    bool operator<(const Candidate& other) const {  // the heap's top is the largest
      return rank != other.rank ? rank > other.rank : position > other.position;
    }
  };

  Symbol& At(int32_t i) { return symbols_[static_cast<size_t>(i)]; }

  void Append(int32_t id) {
    const int32_t index = static_cast<int32_t>(symbols_.size());
    if (index > 0) symbols_.back().next = index;
    symbols_.push_back({id, index - 1, kNone});
  }

  void Offer(int32_t position) {
    const Symbol& left = At(position);
    if (left.next == kNone) return;
    if (const Target* target = bpe_.FindMerge(left.id, At(left.next).id)) {
      heap_.push_back({target->rank, position, target->id});
      std::push_heap(heap_.begin(), heap_.end());
    }
  }

  void Apply(const Candidate& candidate) {
    Symbol& left = At(candidate.position);
    if (left.id == kNone || left.next == kNone) return;
    Symbol& right = At(left.next);
    const Target* target = bpe_.FindMerge(left.id, right.id);
    if (target == nullptr || target->id != candidate.merged) return;  // outdated
    left.id = candidate.merged;
    left.next = right.next;
    right.id = kNone;
    if (left.next != kNone) At(left.next).previous = candidate.position;
    if (left.previous != kNone) Offer(left.previous);
    Offer(candidate.position);
  }

  const Bpe& bpe_;
  absl::InlinedVector<Symbol, kUsualPiece> symbols_;
  absl::InlinedVector<Candidate, kUsualPiece> heap_;
};

Bpe::Bpe(const std::vector<MergeRule>& merges,
         const std::vector<std::pair<std::string, int32_t>>& bytes_of_id, const BpeOptions& options)
    : options_(options) {
  byte_ids_.fill(kNone);
  for (const auto& [bytes, id] : bytes_of_id) {
    if (bytes.size() == 1) byte_ids_[static_cast<uint8_t>(bytes[0])] = id;
    if (options.ignore_merges) whole_.emplace(bytes, id);
  }
  merges_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const MergeRule& rule = merges[rank];
    merges_[PairKey(rule.left, rule.right)] = {static_cast<int32_t>(rank), rule.merged};
  }
}

const Bpe::Target* Bpe::FindMerge(int32_t left, int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void Bpe::Encode(std::string_view piece, std::vector<int32_t>* ids) const {
  if (piece.empty()) return;
  if (options_.ignore_merges) {
    if (const auto found = whole_.find(absl::string_view(piece.data(), piece.size()));
        found != whole_.end()) {
      ids->push_back(found->second);
      return;
    }
  }
  Merger(*this, piece).Run(ids);
}

}  // namespace qft
