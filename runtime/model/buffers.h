// The memory that forward and backward write to, allocated once by the plan. T is the planned
// micro_batch_tokens; a shorter micro-batch uses the first rows. Matrices are of the plan's
// activation type, but for sums of several products, the logits and the gradient of the head's
// input: fp32.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/ops.h"
#include "runtime/model/model_config.h"
#include "runtime/state/arena.h"

namespace qft {

// What a block keeps of its own for backward, less and less. The rest it shares with other blocks,
// and backward makes it again: the inputs of matmuls from x_in, attention_output and middle without
// a matmul, gate and up with two, everything by running the block once more.
enum class Kept { kAll, kNoInputs, kNoGates, kNothing };

// What one block keeps from forward for backward.
struct BlockActivations {
  float* attention_rstd = nullptr;  // [T]
  Operand attention_input;          // normed input of q, k, v
  Matrix q, k, v;                   // q and k after rope, or before their norms
  Matrix attention_output;          // [T, heads * dim]
  float* log_sum_exp = nullptr;     // [heads, T]
  Operand o_input;                  // attention_output as an operand
  Matrix middle;                    // residual stream after attention [T, H]
  float* mlp_rstd = nullptr;        // [T]
  Operand mlp_input;                // normed input of gate and up
  SwigluInputs gates;               // gate and up [T, F]; training
  Operand down_input;               // silu(gate) * up; its data is the workspace's
  Kept kept = Kept::kAll;
};

// One micro-batch: its tokens and what the head keeps of it.
struct MicroBatch {
  int64_t tokens = 0;
  int64_t token_offset = 0;  // global index of its first token within the step
  int32_t* token_ids = nullptr;
  int32_t* targets = nullptr;
  int32_t* positions = nullptr;
  int32_t* document_start = nullptr;
  float* loss_weights = nullptr;
  float* chunk_max = nullptr;  // [vocabulary chunks, T], as is chunk_sum
  float* chunk_sum = nullptr;
  float* row_max = nullptr;
  float* row_sum = nullptr;
  float* target_logit = nullptr;
  float* token_loss = nullptr;
  float* final_rstd = nullptr;
  Operand head_input;        // final norm's output
  Matrix head_gradient;      // gradient of head_input [T, H]; training
  Matrix residual_gradient;  // running gradient of the residual stream [T, H]
};

// Temporaries, shared by everything that runs one after the other. The head's, those of a block's
// second half and those of attention lie over each other.
struct Workspace {
  Operand output_gradient;             // [T, widest output]
  Operand output_gradient_transposed;  // [widest output, T]
  Matrix hidden;                       // [T, H], sums of several products: fp32
  float* inverse_frequency = nullptr;  // [dim / 2]
  StepState* step = nullptr;
  // The head.
  Matrix logits;                       // [T, vocabulary chunk] fp32, in backward their gradients
  Matrix exps;                         // of the logits, chunk by chunk [T, chunk] bf16; training
  bool keeps_exps = false;             // of all chunks from loss to backward; else of one
  std::vector<Matrix> head_gradients;  // of a micro-batch's head_input [T, H], one a slot; training
  // From gate and up to down.
  Matrix gate, up;                // [T, F]; in backward dy of swiglu, then dgate, and dup
  void* down_data = nullptr;      // of down_input [T, F]
  int8_t* second_term = nullptr;  // of down_input [T, F]; integer arithmetic
  // Attention.
  Matrix query;  // [T, heads * dim]
  Matrix dq, dk, dv;
  Matrix normed_q, normed_k;  // after norms and rope, where heads are normed
  float* q_rstd = nullptr;    // [T, heads]
  float* k_rstd = nullptr;    // [T, kv heads]
  void* attention_scratch = nullptr;
  // Of an input [T, H] whose weight gradients follow each other; nullptr: engine has no use for it.
  void* prepared_input = nullptr;
};

// Bytes of what an engine keeps in its own form.
struct EngineBytes {
  size_t attention_backward = 0;
  size_t prepared_input = 0;
};

inline int64_t VocabularyChunks(const ModelConfig& config) {
  return (config.vocab_size + kVocabularyChunk - 1) / kVocabularyChunk;
}

struct BufferShape {
  const ModelConfig* config = nullptr;
  int64_t tokens = 0;          // T
  bool training = true;        // backward follows
  bool integer = true;         // operands as codes
  int32_t critical_count = 0;  // of each kept operand
  DType activation_type = DType::kF32;
  bool keeps_exps = false;  // of all logits, for the head's backward
};

// What blocks share of which the one that keeps least keeps `least`.
BlockActivations AllocateSharedActivations(const BufferShape& shape, Kept least, Arena& arena);
// A block's own buffers, and for what it does not keep those of `shared`.
BlockActivations AllocateBlockActivations(const BufferShape& shape, Kept kept,
                                          const BlockActivations& shared, Arena& arena);
// Without its head_gradient, which is the workspace's.
MicroBatch AllocateMicroBatch(const BufferShape& shape, Arena& arena);
// slots: micro-batches whose buffers exist side by side.
Workspace AllocateWorkspace(const BufferShape& shape, int64_t slots, const EngineBytes& engine,
                            Arena& arena);
Matrix AllocateMatrix(Purpose purpose, DType dtype, int64_t rows, int64_t cols, Arena& arena);

// The first rows of a buffer.
Matrix FirstRows(const Matrix& matrix, int64_t rows);
Operand FirstRows(const Operand& operand, int64_t rows);
// A buffer's memory as a dense operand of another shape.
Operand Reshaped(const Operand& operand, int64_t rows, int64_t cols);
Matrix Reshaped(const Matrix& matrix, int64_t rows, int64_t cols);

}  // namespace qft
