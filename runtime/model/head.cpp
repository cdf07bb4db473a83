#include <algorithm>

#include "runtime/model/linear.h"
#include "runtime/model/llama.h"

namespace qft {
namespace {

Weight ChunkOf(const Llama& llama, int64_t chunk) {
  const int64_t begin = chunk * kVocabularyChunk;
  const int64_t rows = std::min(kVocabularyChunk, llama.config->vocab_size - begin);
  return WeightRows(llama.weight(llama.tensors->head), begin, rows);
}

Operand HeadInput(const Llama& llama, const MicroBatch& batch) {
  return llama.AtSite(batch.head_input, llama.head_site(), batch.tokens);
}

// With its second term, for the forward pass: what the head's product loses, the loss sees.
Operand PreciseHeadInput(const Llama& llama, const MicroBatch& batch) {
  Operand input = HeadInput(llama, batch);
  input.second = batch.head_input.second;
  return input;
}

}  // namespace

void EmbedForward(const Llama& llama, const MicroBatch& batch, const Matrix& x) {
  llama.engine->EmbeddingForward(batch.token_ids, llama.weight(llama.tensors->embedding), x);
}

void EmbedBackward(const Llama& llama, const MicroBatch& batch, int64_t row_begin,
                   const Matrix& table_gradient) {
  llama.engine->EmbeddingBackward(batch.token_ids, FirstRows(batch.residual_gradient, batch.tokens),
                                  row_begin, table_gradient);
}

void HeadNorm(const Llama& llama, const MicroBatch& batch, const Matrix& x) {
  llama.engine->RmsNormForward(x, llama.vector(llama.tensors->final_norm), llama.epsilon(),
                               PreciseHeadInput(llama, batch), batch.final_rstd);
}

Matrix HeadLogits(const Llama& llama, const MicroBatch& batch, int64_t chunk) {
  const Weight w = ChunkOf(llama, chunk);
  const Matrix logits = Reshaped(llama.workspace->logits, batch.tokens, w.rows);
  llama.engine->MatmulForward(PreciseHeadInput(llama, batch), w, logits, false);
  return logits;
}

void HeadLoss(const Llama& llama, const MicroBatch& batch) {
  Engine& engine = *llama.engine;
  for (int64_t chunk = 0; chunk < llama.vocabulary_chunks(); ++chunk) {
    const Matrix logits = HeadLogits(llama, batch, chunk);
    engine.CrossEntropyChunk(logits, chunk * kVocabularyChunk, batch.targets, batch.row_max,
                             batch.row_sum, batch.target_logit);
  }
  engine.CrossEntropyLoss(batch.tokens, batch.loss_weights, batch.row_max, batch.row_sum,
                          batch.target_logit, batch.token_loss, llama.workspace->step);
}

void HeadBackward(const Llama& llama, const MicroBatch& batch, int64_t chunk,
                  const Matrix& weight_gradient, bool first) {
  const Matrix logits = HeadLogits(llama, batch, chunk);
  llama.engine->CrossEntropyGradient(logits, chunk * kVocabularyChunk, batch.targets,
                                     batch.loss_weights, batch.row_max, batch.row_sum);
  LinearBackward(
      llama, {logits, HeadInput(llama, batch), ChunkOf(llama, chunk), &(*llama.head_keys)[chunk],
              batch.token_offset, FirstRows(batch.head_gradient, batch.tokens), chunk != 0,
              weight_gradient, !first});
}

void HeadNormBackward(const Llama& llama, const MicroBatch& batch, const Matrix& x,
                      float* norm_gradient) {
  Engine& engine = *llama.engine;
  const Matrix residual = FirstRows(batch.residual_gradient, batch.tokens);
  engine.Fill(residual.data, 0, residual.rows * residual.cols * ElementBytes(residual.dtype));
  engine.RmsNormBackward(x, llama.vector(llama.tensors->final_norm), batch.final_rstd,
                         FirstRows(batch.head_gradient, batch.tokens), residual, norm_gradient);
}

}  // namespace qft
