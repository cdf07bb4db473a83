// A batch of whole documents, and its place among those of a data set.
#pragma once

#include <cstdint>
#include <vector>

namespace qft {

// Documents one after the other. targets: the next token of the document, -1 at its end.
struct TokenBatch {
  std::vector<int32_t> token_ids;
  std::vector<int32_t> targets;
  std::vector<float> loss_weights;    // 0 where the target is not learnt or there is none
  std::vector<int32_t> document_ids;  // from 0
};

// Before batch `batch` of an epoch that has `batches`; batch == batches: the epoch is over.
struct BatchPosition {
  uint64_t epoch = 0;
  uint64_t batch = 0;
  uint64_t batches = 0;
};

struct ReadyBatch {
  TokenBatch batch;
  BatchPosition after;
};

}  // namespace qft
