// The LLaMA-family graph: embedding, blocks, head with loss, each a flat list of op calls, forward
// and backward. Knows nothing of schedules, optimizers or where a gradient goes afterwards.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops.h"
#include "runtime/model/buffers.h"
#include "runtime/model/llama_tensors.h"
#include "runtime/state/random_keys.h"
#include "runtime/state/tensor_state.h"

namespace qft {

// Gradients of one block's (or the embedding's, or one head chunk's) tensors, summed over
// micro-batches: fp32, or the engine's activation type for a block's matrices where there is
// nothing to sum.
class GradientAccumulators {
 public:
  // No data: the tensor does not train and its gradient is not computed.
  virtual Matrix For(int tensor) = 0;
  // This micro-batch's contribution to the tensor is there, and the tensor itself no longer needed:
  // its accumulator's memory may be another's from here on.
  virtual void Done(int tensor) = 0;

 protected:
  ~GradientAccumulators() = default;
};

struct Llama {
  Engine* engine = nullptr;
  const ModelConfig* config = nullptr;
  const LlamaTensors* tensors = nullptr;
  const std::vector<TensorState>* states = nullptr;
  const std::vector<TensorKeys>* keys = nullptr;       // by tensor
  const std::vector<TensorKeys>* head_keys = nullptr;  // by vocabulary chunk
  Workspace* workspace = nullptr;
  bool integer = true;  // form of the matmul operands
  // Engine memory [4 * blocks + 1, critical_count]: critical features of each site, ascending.
  const int32_t* critical_columns = nullptr;
  int32_t critical_count = 0;

  const Weight& weight(int tensor) const { return (*states)[tensor].weight; }
  // A norm's weight or a bias.
  const float* vector(int tensor) const { return static_cast<const float*>(weight(tensor).data); }
  float epsilon() const { return static_cast<float>(config->rms_norm_epsilon); }
  int64_t vocabulary_chunks() const { return VocabularyChunks(*config); }
  AttentionShape attention_shape(int64_t tokens) const;
  int head_site() const { return kSitesPerBlock * static_cast<int>(tensors->blocks.size()); }
  // The first rows of a kept operand, with the critical features of its site.
  Operand AtSite(const Operand& operand, int site, int64_t rows) const;
  Operand AtSite(const Operand& operand, int block, Site site, int64_t rows) const {
    return AtSite(operand, kSitesPerBlock * block + static_cast<int>(site), rows);
  }
};

// The first token that token t of a document, whose own first is `start`, sees.
int32_t FirstSeen(const ModelConfig& config, int32_t start, int32_t t);

// x [T, H] = embedding of the micro-batch's tokens.
void EmbedForward(const Llama& llama, const MicroBatch& batch, const Matrix& x);
// Adds the gradients of the table's rows from row_begin on to table_gradient [rows, H].
void EmbedBackward(const Llama& llama, const MicroBatch& batch, int64_t row_begin,
                   const Matrix& table_gradient);

// Queries and keys.
struct AttentionHeads {
  Matrix q, k;
};
// Where attention finds them: the activations' own, or, where heads are normed, the workspace's.
AttentionHeads AttendedHeads(const Llama& llama, const BlockActivations& activations,
                             int64_t tokens);
// The first part of BlockForward: queries, keys and v of x_in, neither normed nor rotated. Sets
// attention_input and attention_rstd of the activations.
void BlockProjections(const Llama& llama, int block, const Matrix& x_in,
                      const BlockActivations& activations, const AttentionHeads& heads,
                      const Matrix& v);
// mlp_input to gate and up, which the workspace holds, and to down_input.
void BlockGates(const Llama& llama, int block, const Operand& mlp_input,
                const BlockActivations& activations, const Operand& down_input);
// Norms each head by itself where the family does, else nothing; `normed` may be `heads`.
void NormHeads(const Llama& llama, int block, const AttentionHeads& heads,
               const AttentionHeads& normed);
// Rotary embeddings in place, where the layer has them; inverse rotates back (the gradient).
void RotateHeads(const Llama& llama, int block, const int32_t* positions,
                 const AttentionHeads& heads, bool inverse);

// x_out = block(x_in); activations receive what backward needs. x_out may not be x_in.
void BlockForward(const Llama& llama, int block, const MicroBatch& batch, const Matrix& x_in,
                  const BlockActivations& activations, const Matrix& x_out);
// The input of the down projection, without its second term.
Operand DownInput(const Llama& llama, int block, const BlockActivations& activations,
                  int64_t tokens);
// The second half of BlockForward, from activations.attention_output on. x_out may be x_in.
void BlockAfterAttention(const Llama& llama, int block, int64_t tokens, const Matrix& x_in,
                         const BlockActivations& activations, const Matrix& x_out);
// batch.residual_gradient: gradient of x_out on entry, of x_in on return. first: the accumulators
// are set, otherwise added to.
void BlockBackward(const Llama& llama, int block, const MicroBatch& batch, const Matrix& x_in,
                   const BlockActivations& activations, GradientAccumulators& gradients,
                   bool first);

// Final norm of x [T, H] into batch.head_input.
void HeadNorm(const Llama& llama, const MicroBatch& batch, const Matrix& x);
// Loss statistics of the micro-batch over the whole vocabulary, chunk by chunk; for a backward pass
// that follows also what the workspace keeps for it.
void HeadLoss(const Llama& llama, const MicroBatch& batch, bool backward_follows);
// Logits of vocabulary entries [chunk * kVocabularyChunk ..) into the workspace; returns them.
Matrix HeadLogits(const Llama& llama, const MicroBatch& batch, int64_t chunk);
// Gradients of one chunk: batch.head_gradient is set (chunk 0) or added to; weight_gradient
// [chunk rows, H] is set or added to; without data it is skipped.
void HeadBackward(const Llama& llama, const MicroBatch& batch, int64_t chunk,
                  const Matrix& weight_gradient, bool first);
// Through the final norm: sets batch.residual_gradient.
void HeadNormBackward(const Llama& llama, const MicroBatch& batch, const Matrix& x,
                      float* norm_gradient);

}  // namespace qft
