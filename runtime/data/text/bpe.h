// Byte-pair encoding of one pre-token, as Hugging Face tokenizers do it: the pair of lowest rank
// first, of equal ones the leftmost.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"

namespace qft {

// The merge of rank i stands at place i.
struct MergeRule {
  int32_t left = 0;
  int32_t right = 0;
  int32_t merged = 0;
};

struct BpeOptions {
  int32_t unknown_id = -1;     // for a byte without token; -1: the byte is left out
  bool fuse_unknown = false;   // neighbouring unknown bytes become one token
  bool ignore_merges = false;  // a pre-token that is a token as a whole is taken as it is
};

class Bpe {
 public:
  // `bytes_of_id`: for each token that is written in the byte alphabet, its bytes and id.
  Bpe(const std::vector<MergeRule>& merges,
      const std::vector<std::pair<std::string, int32_t>>& bytes_of_id, const BpeOptions& options);

  // Appends the ids of `piece`. O(n log n), whatever the piece. piece.size() < 2^31.
  void Encode(std::string_view piece, std::vector<int32_t>* ids) const;

 private:
  struct Target {
    int32_t rank;
    int32_t id;
  };
  class Merger;

  // nullptr: no merge.
  const Target* FindMerge(int32_t left, int32_t right) const;

  BpeOptions options_;
  std::array<int32_t, 256> byte_ids_;
  absl::flat_hash_map<uint64_t, Target> merges_;
  absl::flat_hash_map<std::string, int32_t> whole_;  // empty unless ignore_merges
};

}  // namespace qft
