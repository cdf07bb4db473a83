// The path of one step. Session::Accumulate walks the schedule: tokens go down through the model,
// gradients come back up, are quantised and pushed; Session::EndStep clips, and update.cpp pops and
// applies them.
#include "runtime/step.h"

#include <algorithm>

#include "runtime/update.h"

namespace qft {

// Fused: as backward finishes them. Stack: the last first. A tied head is whole only with the
// embedding, and stands at the bottom of the stack.
std::vector<int> UpdateOrder(const Plan& plan) {
  const LlamaTensors& tensors = plan.model->tensors();
  std::vector<int> finished;
  if (!tensors.tied()) finished.push_back(tensors.head);
  finished.push_back(tensors.final_norm);
  for (auto block = tensors.blocks.rbegin(); block != tensors.blocks.rend(); ++block) {
    for (const int tensor : BackwardOrder(*block)) finished.push_back(tensor);
  }
  if (!tensors.tied()) finished.push_back(tensors.embedding);
  if (!plan.fused) std::reverse(finished.begin(), finished.end());
  if (tensors.tied()) finished.push_back(tensors.embedding);
  std::stable_partition(finished.begin(), finished.end(),
                        [&plan](int tensor) { return plan.trains(tensor); });
  return finished;
}

void StepRunner::Run(const std::vector<ScheduleItem>& schedule, int micro_batch_base) {
  for (const ScheduleItem& item : schedule) {
    last_ = item.last;
    contribution_ = micro_batch_base + (session_.plan_.vertical ? 0 : item.micro_batch);
    if (item.first) UpdateBefore(item);
    session_.boundaries_.Enter();
    Run(item);
    session_.boundaries_.Leave();
  }
}

// Where updates of the step before wait for this one (Plan::late_updates), they happen as forward
// comes to their tensors: what brings their momentum has the blocks below to hide behind. The
// stack's last gradients are the lowest block's, so it pops them in this order anyway.
void StepRunner::UpdateBefore(const ScheduleItem& item) {
  Session::LateUpdates& late = session_.late_;
  if (!late.on_stack) return;
  Updater updater(session_, late.state, late.options);
  const LlamaTensors& tensors = *llama_.tensors;
  if (item.phase == Phase::kEmbed) updater.PopThrough(tensors.embedding);
  if (item.phase == Phase::kForward) {
    for (const int tensor : BackwardOrder(tensors.blocks[item.index])) updater.PopThrough(tensor);
  }
  if (item.phase == Phase::kLoss) {
    updater.PopAll();
    late.on_stack = false;
  }
}

void StepRunner::Run(const ScheduleItem& item) {
  const int b = item.index;
  const int m = item.micro_batch;
  const int blocks = static_cast<int>(llama_.tensors->blocks.size());
  switch (item.phase) {
    case Phase::kEmbed:
      return EmbedForward(llama_, Batch(m), Boundary(0, m));
    case Phase::kForward:
    case Phase::kRecompute: {
      // Recomputing gives the very bits of the first time, the boundary above included.
      return BlockForward(llama_, b, Batch(m), Boundary(b, m), Activations(b, m),
                          Boundary(b + 1, m));
    }
    case Phase::kLoss:
      HeadNorm(llama_, Batch(m), Boundary(blocks, m));
      return HeadLoss(llama_, Batch(m), true);
    case Phase::kHeadBackward:
      return HeadBackward(llama_, Batch(m), b, ChunkFor(llama_.tensors->head, b), item.first);
    case Phase::kPushHead:
      return PushRows(llama_.tensors->head, b * kVocabularyChunk, ChunkRows(b));
    case Phase::kFinalNormBackward:
      return HeadNormBackward(llama_, Batch(m), Boundary(blocks, m),
                              Zeroed(llama_.tensors->final_norm, item.first));
    case Phase::kPushFinalNorm:
      return Push(llama_.tensors->final_norm);
    case Phase::kBackward:
      return BlockBackward(llama_, b, Batch(m), Boundary(b, m), Activations(b, m), *this,
                           item.first);
    case Phase::kEmbedBackward:
      if (item.first) BeginEmbeddingChunk(b);
      return EmbedBackward(llama_, Batch(m), b * kVocabularyChunk,
                           ChunkFor(llama_.tensors->embedding, b));
    case Phase::kPushEmbedding:
      return PushEmbeddingChunk(b);
  }
}

void StepRunner::Done(int tensor) {
  if (last_) Push(tensor);
}

void StepRunner::Push(int tensor) {
  if (For(tensor).data != nullptr) PushRows(tensor, 0, llama_.tensors->table[tensor].rows);
}

StackEntry& StepRunner::EntryFor(int tensor) {
  GradientStack& stack = session_.buffers_.stack;
  StackEntry* entry = stack.Find(tensor);
  if (entry != nullptr) return *entry;
  return stack.Push(tensor, llama_.tensors->table[tensor],
                    session_.plan_.format(tensor, session_.buffers_.critical_columns));
}

// Rows of the accumulated gradient onto the tensor's stack entry, which the first contribution of a
// step pushes. Under the horizontal schedule later micro-batches decode, add and round again.
// Fused: into the weights, but for a tied head's, which is whole only with the embedding's
// contribution.
void StepRunner::PushRows(int tensor, int64_t row_begin, int64_t rows) {
  const bool whole = !llama_.tensors->tied() || tensor != llama_.tensors->head;
  const int64_t rounding = 2 * contribution_;
  if (session_.plan_.fused && whole) return UpdateRows(tensor, rounding, row_begin, rows);
  EncodeRows(tensor, rounding, contribution_ > 0, row_begin, rows);
}

// The embedding's accumulator starts from what stands on the stack: the head's contribution where
// it is tied, earlier micro-batches under the horizontal schedule. Otherwise from zero.
void StepRunner::BeginEmbeddingChunk(int chunk) {
  const int tensor = llama_.tensors->embedding;
  const int64_t rows = ChunkRows(chunk);
  auto* values = static_cast<float*>(For(tensor).data);
  llama_.engine->Fill(values, 0, rows * llama_.config->hidden_size * sizeof(float));
  if (!llama_.tensors->tied() && contribution_ == 0) return;
  const StackEntry* entry = session_.buffers_.stack.Find(tensor);
  llama_.engine->AccumulateGradient(GradientRows(entry->gradient, chunk * kVocabularyChunk, rows),
                                    values);
}

void StepRunner::PushEmbeddingChunk(int chunk) {
  const int tensor = llama_.tensors->embedding;
  const int64_t rounding = 2 * contribution_ + 1;
  const int64_t begin = chunk * kVocabularyChunk;
  if (session_.plan_.fused) return UpdateRows(tensor, rounding, begin, ChunkRows(chunk));
  EncodeRows(tensor, rounding, false, begin, ChunkRows(chunk));
}

void StepRunner::EncodeRows(int tensor, int64_t rounding, bool add, int64_t row_begin,
                            int64_t rows) {
  llama_.engine->EncodeGradient(FirstRows(For(tensor), rows), Rounding::kStochastic,
                                RandomFor(tensor, rounding, row_begin), step_, add,
                                GradientRows(EntryFor(tensor).gradient, row_begin, rows));
}

void StepRunner::UpdateRows(int tensor, int64_t rounding, int64_t row_begin, int64_t rows) {
  Updater(session_, step_, session_.options_)
      .Apply(tensor, FirstRows(For(tensor), rows), RandomFor(tensor, rounding, row_begin),
             row_begin);
}

// Each rounding of the same element within a step has rows of its own in the random stream.
RandomStream StepRunner::RandomFor(int tensor, int64_t rounding, int64_t row_begin) const {
  return {session_.keys_[tensor].gradient,
          rounding * llama_.tensors->table[tensor].rows + row_begin};
}

int64_t StepRunner::ChunkRows(int chunk) const {
  return std::min(kVocabularyChunk, llama_.config->vocab_size - chunk * kVocabularyChunk);
}

float* StepRunner::Zeroed(int tensor, bool first) {
  auto* values = static_cast<float*>(For(tensor).data);
  if (values != nullptr && first) {
    llama_.engine->Fill(values, 0, llama_.tensors->table[tensor].elements() * sizeof(float));
  }
  return values;
}

Matrix StepRunner::For(int tensor) {
  return session_.buffers_.accumulators[tensor];
}

Matrix StepRunner::ChunkFor(int tensor, int chunk) {
  return FirstRows(For(tensor), ChunkRows(chunk));
}

const MicroBatch& StepRunner::Batch(int m) const {
  return session_.buffers_.micro_batches[m % session_.plan_.slots()];
}

Matrix StepRunner::Boundary(int index, int m) const {
  return session_.boundaries_.At(index, m);
}

const BlockActivations& StepRunner::Activations(int block, int m) const {
  const int64_t slots = session_.plan_.slots();
  return session_.buffers_.activations[block * slots + m % slots];
}

}  // namespace qft
