// A key/value cache over a session's weights, for one sequence.
#pragma once

#include <memory>

#include "runtime/session.h"

namespace qft {

class Decoder {
 public:
  // Uses the session's engine and weights only during Feed; the caller keeps the session alive.
  static StatusOr<std::unique_ptr<Decoder>> Open(Session& session, int64_t capacity);

  // Appends tokens; logits [vocabulary] after the last one, or nullptr.
  Status Feed(Session& session, const int32_t* token_ids, int64_t count, float* logits);
  void Reset() { used_ = 0; }
  int64_t used() const { return used_; }

 private:
  Decoder(Session& session, int64_t capacity);
  Status FeedChunk(Session& session, const int32_t* token_ids, int64_t count, float* logits);
  void Block(const Llama& llama, int block, int64_t count, const Matrix& x);

  int64_t capacity_;
  int64_t chunk_;  // most tokens that go through at once
  int64_t used_ = 0;
  Arena arena_;
  BlockActivations activations_;
  MicroBatch batch_;
  Workspace workspace_;
  Matrix x_;
  std::vector<Matrix> k_cache_, v_cache_;  // [block] of [capacity, kv_heads * dim]
};

}  // namespace qft
