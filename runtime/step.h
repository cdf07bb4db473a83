// Walks a schedule over a session's buffers. See step.cpp for the path of one step.
#pragma once

#include <vector>

#include "runtime/model/llama.h"
#include "runtime/schedule.h"
#include "runtime/session.h"

namespace qft {

// The tensors in the order in which a step updates them, those last that never are.
std::vector<int> UpdateOrder(const Plan& plan);

class StepRunner final : public GradientAccumulators {
 public:
  explicit StepRunner(Session& session)
      : session_(session), llama_(session.llama()), step_(llama_.workspace->step) {}

  // micro_batch_base: micro-batches of this step in earlier calls.
  void Run(const std::vector<ScheduleItem>& schedule, int micro_batch_base);

  Matrix For(int tensor) override;
  void Done(int tensor) override;

 private:
  void Run(const ScheduleItem& item);
  void UpdateBefore(const ScheduleItem& item);
  // The tensor's entry on the stack, pushed if there is none.
  StackEntry& EntryFor(int tensor);
  void Push(int tensor);
  void PushRows(int tensor, int64_t row_begin, int64_t rows);
  void BeginEmbeddingChunk(int chunk);
  void PushEmbeddingChunk(int chunk);
  void EncodeRows(int tensor, int64_t rounding, bool add, int64_t row_begin, int64_t rows);
  void UpdateRows(int tensor, int64_t rounding, int64_t row_begin, int64_t rows);
  RandomStream RandomFor(int tensor, int64_t rounding, int64_t row_begin) const;
  int64_t ChunkRows(int chunk) const;
  // The rows of a chunk of the vocabulary in its accumulator.
  Matrix ChunkFor(int tensor, int chunk);
  float* Zeroed(int tensor, bool first);
  const MicroBatch& Batch(int m) const;
  Matrix Boundary(int index, int m) const;
  const BlockActivations& Activations(int block, int m) const;

  Session& session_;
  Llama llama_;
  StepState* step_;
  // How often the tensors' gradients were already pushed in this step: 0 under the vertical
  // schedule.
  int64_t contribution_ = 0;
  bool last_ = false;  // see ScheduleItem
};

}  // namespace qft
