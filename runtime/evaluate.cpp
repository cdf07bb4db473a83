// Forward without backward: evaluation and log probabilities.
#include <algorithm>
#include <cmath>

#include "runtime/model/llama.h"
#include "runtime/session.h"

namespace qft {

// Leaves the final norm's output in slot 0. Two boundaries take turns and one set of activations
// serves all blocks.
Status Session::RunForward(const BatchView& batch) {
  QFT_RETURN_IF_ERROR(FinishUpdates());
  if (step_open_) return MakeError(ErrorCode::kState, "a step is open");
  QFT_RETURN_IF_ERROR(CheckBatch(batch));
  MicroBatch& slot = buffers_.micro_batches[0];
  Upload(batch, 0, slot);
  const Llama graph = llama();
  const auto boundary = [&](int block) {
    return FirstRows(buffers_.boundaries[block % 2], slot.tokens);
  };
  const int blocks = static_cast<int>(graph.tensors->blocks.size());
  EmbedForward(graph, slot, boundary(0));
  for (int block = 0; block < blocks; ++block) {
    BlockForward(graph, block, slot, boundary(block), buffers_.activations[0], boundary(block + 1));
  }
  HeadNorm(graph, slot, boundary(blocks));
  return absl::OkStatus();
}

StatusOr<EvalResult> Session::Evaluate(const std::vector<BatchView>& batches, float* token_losses) {
  QFT_RETURN_IF_ERROR(FinishUpdates());
  // Evaluation counts in the step state, which an open step needs.
  if (step_open_) return MakeError(ErrorCode::kState, "a step is open");
  if (batches.empty()) return InvalidArgument("no batches to evaluate");
  for (const BatchView& batch : batches) QFT_RETURN_IF_ERROR(CheckBatch(batch));
  StepState state;
  state.step = step_;
  WriteStepState(state);
  EvalResult result;
  for (const BatchView& batch : batches) {
    QFT_RETURN_IF_ERROR(RunForward(batch));
    const MicroBatch& slot = buffers_.micro_batches[0];
    HeadLoss(llama(), slot, false);
    if (token_losses != nullptr) {
      engine_->CopyToHost(token_losses + result.tokens, slot.token_loss,
                          batch.tokens * sizeof(float));
    }
    result.tokens += batch.tokens;
  }
  QFT_RETURN_IF_ERROR(Synchronize());
  state = ReadStepState(buffers_.workspace.step);
  result.loss_weight = state.loss_weight;
  result.loss = state.loss_weight > 0 ? state.loss_sum / state.loss_weight : 0;
  return result;
}

Status Session::Forward(const BatchView& batch, bool log_probabilities, float* output) {
  QFT_RETURN_IF_ERROR(RunForward(batch));
  const Llama graph = llama();
  const MicroBatch& slot = buffers_.micro_batches[0];
  const int64_t vocabulary = graph.config->vocab_size;
  std::vector<float> chunk_values;
  for (int64_t chunk = 0; chunk < graph.vocabulary_chunks(); ++chunk) {
    const Matrix logits = HeadLogits(graph, slot, chunk);
    chunk_values.resize(static_cast<size_t>(logits.rows * logits.cols));
    engine_->CopyToHost(chunk_values.data(), logits.data, chunk_values.size() * sizeof(float));
    for (int64_t t = 0; t < batch.tokens; ++t) {
      std::copy_n(chunk_values.data() + t * logits.cols, logits.cols,
                  output + t * vocabulary + chunk * kVocabularyChunk);
    }
  }
  QFT_RETURN_IF_ERROR(Synchronize());
  if (!log_probabilities) return absl::OkStatus();
  for (int64_t t = 0; t < batch.tokens; ++t) {
    float* row = output + t * vocabulary;
    const double largest = *std::max_element(row, row + vocabulary);
    double sum = 0;
    for (int64_t v = 0; v < vocabulary; ++v) sum += std::exp(row[v] - largest);
    const double normalizer = largest + std::log(sum);
    for (int64_t v = 0; v < vocabulary; ++v) row[v] = static_cast<float>(row[v] - normalizer);
  }
  return absl::OkStatus();
}

}  // namespace qft
