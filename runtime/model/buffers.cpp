#include "runtime/model/buffers.h"

#include <algorithm>

namespace qft {
namespace {

Operand AllocateOperand(Purpose purpose, int64_t rows, int64_t cols, int64_t scales, bool integer,
                        Arena& arena) {
  Operand operand;
  operand.rows = rows;
  operand.cols = cols;
  operand.dtype = integer ? DType::kI8 : DType::kF32;
  operand.data =
      arena.Allocate(purpose, rows * cols * static_cast<int64_t>(integer ? 1 : sizeof(float)));
  if (integer) operand.scales = arena.Allocate<float>(purpose, scales);
  return operand;
}

// An operand that forward keeps for backward: one scale a row, and critical values.
Operand AllocateKept(const BufferShape& shape, int64_t cols, Arena& arena) {
  const Purpose purpose = Purpose::kActivations;
  Operand operand =
      AllocateOperand(purpose, shape.tokens, cols, shape.tokens, shape.integer, arena);
  operand.critical.values = arena.Allocate<float>(purpose, shape.tokens * shape.critical_count);
  return operand;
}

}  // namespace

Matrix AllocateMatrix(Purpose purpose, DType dtype, int64_t rows, int64_t cols, Arena& arena) {
  return {arena.Allocate(purpose, rows * cols * ElementBytes(dtype)), dtype, rows, cols};
}

BlockActivations AllocateBlockActivations(const BufferShape& shape, Kept kept,
                                          const BlockActivations* shared, Arena& arena) {
  const ModelConfig& config = *shape.config;
  const int64_t tokens = shape.tokens;
  const int64_t query = config.heads * config.head_dim;
  const int64_t key = config.kv_heads * config.head_dim;
  const Purpose purpose = Purpose::kActivations;
  const auto matrix = [&](int64_t cols) {
    return AllocateMatrix(purpose, shape.activation_type, tokens, cols, arena);
  };
  const auto operand = [&](int64_t cols, Operand BlockActivations::*member) {
    return kept == Kept::kAll ? AllocateKept(shape, cols, arena) : shared->*member;
  };
  const auto gate = [&](Matrix BlockActivations::*member) {
    return kept == Kept::kNoGates ? shared->*member : matrix(config.intermediate_size);
  };
  BlockActivations a;
  a.attention_rstd = arena.Allocate<float>(purpose, tokens);
  a.kept = kept;
  a.attention_input = operand(config.hidden_size, &BlockActivations::attention_input);
  a.q = matrix(query);
  a.k = matrix(key);
  a.v = matrix(key);
  a.attention_output = matrix(query);
  a.log_sum_exp = arena.Allocate<float>(purpose, tokens * config.heads);
  a.o_input = operand(query, &BlockActivations::o_input);
  a.middle = matrix(config.hidden_size);
  a.mlp_rstd = arena.Allocate<float>(purpose, tokens);
  a.mlp_input = operand(config.hidden_size, &BlockActivations::mlp_input);
  a.gate = gate(&BlockActivations::gate);
  a.up = gate(&BlockActivations::up);
  a.down_input = operand(config.intermediate_size, &BlockActivations::down_input);
  return a;
}

MicroBatch AllocateMicroBatch(const BufferShape& shape, bool training, Arena& arena) {
  const int64_t tokens = shape.tokens;
  const int64_t hidden = shape.config->hidden_size;
  const Purpose purpose = Purpose::kActivations;
  const auto ints = [&] { return arena.Allocate<int32_t>(purpose, tokens); };
  const auto floats = [&] { return arena.Allocate<float>(purpose, tokens); };
  MicroBatch m;
  m.token_ids = ints();
  m.targets = ints();
  m.positions = ints();
  m.document_start = ints();
  m.loss_weights = floats();
  m.row_max = floats();
  m.row_sum = floats();
  m.target_logit = floats();
  m.token_loss = floats();
  m.final_rstd = floats();
  m.head_input = AllocateKept(shape, hidden, arena);
  if (training) {
    m.head_gradient = AllocateMatrix(purpose, DType::kF32, tokens, hidden, arena);
    m.residual_gradient = AllocateMatrix(purpose, shape.activation_type, tokens, hidden, arena);
  }
  return m;
}

Workspace AllocateWorkspace(const BufferShape& shape, bool training, size_t scratch_bytes,
                            Arena& arena) {
  const ModelConfig& config = *shape.config;
  const int64_t tokens = shape.tokens;
  const int64_t query = config.heads * config.head_dim;
  const int64_t key = config.kv_heads * config.head_dim;
  const int64_t chunk = std::min(config.vocab_size, kVocabularyChunk);
  const int64_t widest =
      std::max({config.intermediate_size, config.hidden_size, query, key, chunk});
  const Purpose purpose = Purpose::kWorkspace;
  const auto matrix = [&](int64_t cols) {
    return AllocateMatrix(purpose, shape.activation_type, tokens, cols, arena);
  };
  Workspace w;
  w.hidden = AllocateMatrix(purpose, DType::kF32, tokens, config.hidden_size, arena);
  w.logits = AllocateMatrix(purpose, DType::kF32, tokens, chunk, arena);
  if (shape.integer) {
    w.second_term = arena.Allocate<int8_t>(purpose, tokens * config.intermediate_size);
  }
  w.inverse_frequency = arena.Allocate<float>(purpose, config.head_dim / 2);
  w.step = arena.Allocate<StepState>(purpose, 1);
  if (config.qk_norm) {
    w.normed_q = matrix(query);
    w.normed_k = matrix(key);
    w.q_rstd = arena.Allocate<float>(purpose, tokens * config.heads);
    w.k_rstd = arena.Allocate<float>(purpose, tokens * config.kv_heads);
  }
  if (training) {
    // In floating arithmetic the output gradient is its own operand; only its transpose is stored.
    if (shape.integer) {
      w.output_gradient = AllocateOperand(purpose, tokens, widest, tokens, true, arena);
    }
    w.output_gradient_transposed =
        AllocateOperand(purpose, widest, tokens, widest, shape.integer, arena);
    w.query = matrix(query);
    w.dq = matrix(query);
    w.dk = matrix(key);
    w.dv = matrix(key);
    w.inner = matrix(config.intermediate_size);
    w.attention_scratch = arena.Allocate(purpose, static_cast<int64_t>(scratch_bytes));
  }
  return w;
}

Matrix FirstRows(const Matrix& matrix, int64_t rows) {
  return {matrix.data, matrix.dtype, rows, matrix.cols};
}

Operand FirstRows(const Operand& operand, int64_t rows) {
  return {operand.data, operand.scales, operand.dtype, rows, operand.cols};
}

Operand Reshaped(const Operand& operand, int64_t rows, int64_t cols) {
  return {operand.data, operand.scales, operand.dtype, rows, cols};
}

Matrix Reshaped(const Matrix& matrix, int64_t rows, int64_t cols) {
  return {matrix.data, matrix.dtype, rows, cols};
}

}  // namespace qft
