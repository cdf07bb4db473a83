// How many documents an epoch takes from each file, and which.
#pragma once

#include <cstdint>
#include <vector>

namespace qft {

// The training documents of one file.
struct MixturePart {
  int64_t documents = 0;
  int64_t tokens = 0;
  double weight = 0;
};

// The documents an epoch takes from each part. Weights of 0: all of them, once. Otherwise so many
// that the parts' tokens stand to each other as the weights, as far as whole documents of average
// length can, and all together are about the tokens there are.
std::vector<int64_t> DocumentsOfEpoch(const std::vector<MixturePart>& parts);

// Numbers of documents, counted through all parts, a function of (parts, counts, seed, epoch)
// alone. A part of which `counts` takes another number than it has is gone through pass after pass,
// each document once a pass, and every epoch goes on where the one before it ended.
std::vector<int64_t> ChooseDocuments(const std::vector<MixturePart>& parts,
                                     const std::vector<int64_t>& counts, uint64_t seed,
                                     uint64_t epoch);

}  // namespace qft
