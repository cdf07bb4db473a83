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

CrossEntropyRows RowsOf(const MicroBatch& batch) {
  return {batch.tokens,  batch.targets, batch.loss_weights, batch.target_logit,
          batch.row_max, batch.row_sum, batch.token_loss};
}

// With memory for what the second pass needs of the chunk, but not in evaluation.
VocabularyChunk ChunkOfLoss(const Llama& llama, const MicroBatch& batch, int64_t chunk,
                            int64_t cols) {
  const Matrix& all = llama.workspace->exps;
  const int64_t before = llama.workspace->keeps_exps ? chunk * kVocabularyChunk * batch.tokens : 0;
  VocabularyChunk part{chunk * kVocabularyChunk,
                       batch.chunk_max + chunk * batch.tokens,
                       batch.chunk_sum + chunk * batch.tokens,
                       {}};
  if (all.data != nullptr) {
    part.exps = {static_cast<uint16_t*>(all.data) + before, all.dtype, batch.tokens, cols};
  }
  return part;
}

// One pass over the logits of a chunk.
VocabularyChunk PassChunk(const Llama& llama, const MicroBatch& batch, int64_t chunk, bool keep) {
  const Matrix logits = HeadLogits(llama, batch, chunk);
  VocabularyChunk part = ChunkOfLoss(llama, batch, chunk, logits.cols);
  if (!keep) part.exps = {};
  llama.engine->CrossEntropyChunk(logits, batch.targets, part, batch.target_logit);
  return part;
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

void HeadLoss(const Llama& llama, const MicroBatch& batch, bool backward_follows) {
  const int64_t chunks = llama.vocabulary_chunks();
  const bool keep = backward_follows && llama.workspace->keeps_exps;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) PassChunk(llama, batch, chunk, keep);
  llama.engine->CrossEntropyLoss(RowsOf(batch), chunks, batch.chunk_max, batch.chunk_sum,
                                 llama.workspace->step);
}

void HeadBackward(const Llama& llama, const MicroBatch& batch, int64_t chunk,
                  const Matrix& weight_gradient, bool first) {
  const Weight w = ChunkOf(llama, chunk);
  const VocabularyChunk part = llama.workspace->keeps_exps
                                   ? ChunkOfLoss(llama, batch, chunk, w.rows)
                                   : PassChunk(llama, batch, chunk, true);
  const Matrix gradient{llama.workspace->logits.data, batch.residual_gradient.dtype, batch.tokens,
                        w.rows};
  llama.engine->CrossEntropyGradient(part, RowsOf(batch), gradient);
  LinearBackward(
      llama, {gradient, HeadInput(llama, batch), w, &(*llama.head_keys)[chunk], batch.token_offset,
              FirstRows(batch.head_gradient, batch.tokens), chunk != 0, weight_gradient, !first});
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
