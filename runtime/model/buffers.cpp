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

// The same without its data.
Operand AllocateDownInput(const BufferShape& shape, Arena& arena) {
  const Purpose purpose = Purpose::kActivations;
  Operand operand;
  operand.dtype = shape.integer ? DType::kI8 : DType::kF32;
  operand.rows = shape.tokens;
  operand.cols = shape.config->intermediate_size;
  if (shape.integer) operand.scales = arena.Allocate<float>(purpose, shape.tokens);
  operand.critical.values = arena.Allocate<float>(purpose, shape.tokens * shape.critical_count);
  return operand;
}

KeptMatrix AllocateKeptMatrix(const BufferShape& shape, int64_t cols, Arena& arena) {
  const Purpose purpose = Purpose::kActivations;
  KeptMatrix kept;
  kept.dtype = shape.integer ? DType::kI8 : DType::kF32;
  kept.rows = shape.tokens;
  kept.cols = cols;
  kept.data = arena.Allocate(purpose, kept.rows * kept.cols * ElementBytes(kept.dtype));
  if (shape.integer) kept.scales = arena.Allocate<float>(purpose, kept.rows * KeptBlocks(cols));
  return kept;
}

SwigluInputs AllocateGates(const BufferShape& shape, Arena& arena) {
  if (!shape.training) return {};
  const int64_t inner = shape.config->intermediate_size;
  SwigluInputs gates;
  gates.gate = AllocateKeptMatrix(shape, inner, arena);
  gates.up = AllocateKeptMatrix(shape, inner, arena);
  return gates;
}

// wanted(kept): whether to allocate the parts that a block with `kept` is the first to lack; the
// others are those of `otherwise`.
template <typename Wanted>
BlockActivations AllocateParts(const BufferShape& shape, const Wanted& wanted,
                               const BlockActivations& otherwise, Arena& arena) {
  const ModelConfig& config = *shape.config;
  const int64_t tokens = shape.tokens;
  const int64_t query = config.heads * config.head_dim;
  const int64_t key = config.kv_heads * config.head_dim;
  const Purpose purpose = Purpose::kActivations;
  const auto matrix = [&](int64_t cols) {
    return AllocateMatrix(purpose, shape.activation_type, tokens, cols, arena);
  };
  BlockActivations a = otherwise;
  if (wanted(Kept::kNoInputs)) {
    a.attention_input = AllocateKept(shape, config.hidden_size, arena);
    a.o_input = AllocateKept(shape, query, arena);
    a.mlp_input = AllocateKept(shape, config.hidden_size, arena);
  }
  if (wanted(Kept::kNoGates)) a.gates = AllocateGates(shape, arena);
  if (wanted(Kept::kNothing)) {
    a.attention_rstd = arena.Allocate<float>(purpose, tokens);
    a.q = matrix(query);
    a.k = matrix(key);
    a.v = matrix(key);
    a.attention_output = matrix(query);
    a.log_sum_exp = arena.Allocate<float>(purpose, tokens * config.heads);
    a.middle = matrix(config.hidden_size);
    a.mlp_rstd = arena.Allocate<float>(purpose, tokens);
    a.down_input = AllocateDownInput(shape, arena);
  }
  return a;
}

}  // namespace

Matrix AllocateMatrix(Purpose purpose, DType dtype, int64_t rows, int64_t cols, Arena& arena) {
  return {arena.Allocate(purpose, rows * cols * ElementBytes(dtype)), dtype, rows, cols};
}

BlockActivations AllocateSharedActivations(const BufferShape& shape, Kept least, Arena& arena) {
  BlockActivations a = AllocateParts(
      shape, [least](Kept lacking) { return lacking <= least; }, {}, arena);
  a.kept = least;
  return a;
}

BlockActivations AllocateBlockActivations(const BufferShape& shape, Kept kept,
                                          const BlockActivations& shared, Arena& arena) {
  BlockActivations a = AllocateParts(
      shape, [kept](Kept lacking) { return lacking > kept; }, shared, arena);
  a.kept = kept;
  return a;
}

MicroBatch AllocateMicroBatch(const BufferShape& shape, Arena& arena) {
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
  const int64_t chunks = VocabularyChunks(*shape.config);
  m.chunk_max = arena.Allocate<float>(purpose, chunks * tokens);
  m.chunk_sum = arena.Allocate<float>(purpose, chunks * tokens);
  m.row_max = floats();
  m.row_sum = floats();
  m.target_logit = floats();
  m.token_loss = floats();
  m.final_rstd = floats();
  m.head_input = AllocateKept(shape, hidden, arena);
  if (shape.integer) m.head_input.second = arena.Allocate<int8_t>(purpose, tokens * hidden);
  if (shape.training) {
    m.residual_gradient = AllocateMatrix(purpose, shape.activation_type, tokens, hidden, arena);
  }
  return m;
}

Workspace AllocateWorkspace(const BufferShape& shape, int64_t slots, const EngineBytes& engine,
                            Arena& arena) {
  const ModelConfig& config = *shape.config;
  const int64_t tokens = shape.tokens;
  const int64_t hidden = config.hidden_size;
  const int64_t inner = config.intermediate_size;
  const int64_t query = config.heads * config.head_dim;
  const int64_t key = config.kv_heads * config.head_dim;
  const int64_t chunk = std::min(config.vocab_size, kVocabularyChunk);
  const int64_t widest = std::max({inner, hidden, query, key, chunk});
  const Purpose purpose = Purpose::kWorkspace;
  Workspace w;
  w.hidden = AllocateMatrix(purpose, DType::kF32, tokens, hidden, arena);
  w.inverse_frequency = arena.Allocate<float>(purpose, config.head_dim / 2);
  w.step = arena.Allocate<StepState>(purpose, 1);
  if (shape.training) {
    // In floating arithmetic the output gradient is its own operand; only its transpose is stored.
    if (shape.integer) {
      w.output_gradient = AllocateOperand(purpose, tokens, widest, tokens, true, arena);
    }
    w.output_gradient_transposed =
        AllocateOperand(purpose, widest, tokens, widest, shape.integer, arena);
    if (shape.integer && engine.prepared_input > 0) {
      w.prepared_input = arena.Allocate(purpose, static_cast<int64_t>(engine.prepared_input));
    }
  }
  const auto head = [&](Arena& part) {
    w.logits = AllocateMatrix(purpose, DType::kF32, tokens, chunk, part);
    if (shape.training) {
      w.keeps_exps = shape.keeps_exps;
      w.exps = AllocateMatrix(purpose, DType::kBF16, tokens,
                              shape.keeps_exps ? config.vocab_size : chunk, part);
    }
    w.head_gradients.clear();
    for (int64_t slot = 0; shape.training && slot < slots; ++slot) {
      w.head_gradients.push_back(AllocateMatrix(purpose, DType::kF32, tokens, hidden, part));
    }
  };
  const auto mlp = [&](Arena& part) {
    w.gate = AllocateMatrix(purpose, shape.activation_type, tokens, inner, part);
    w.up = AllocateMatrix(purpose, shape.activation_type, tokens, inner, part);
    const DType down = shape.integer ? DType::kI8 : DType::kF32;
    w.down_data = part.Allocate(purpose, tokens * inner * ElementBytes(down));
    if (shape.integer) w.second_term = part.Allocate<int8_t>(purpose, tokens * inner);
  };
  const auto attention = [&](Arena& part) {
    const auto matrix = [&](int64_t cols) {
      return AllocateMatrix(purpose, shape.activation_type, tokens, cols, part);
    };
    if (config.qk_norm) {
      w.normed_q = matrix(query);
      w.normed_k = matrix(key);
      w.q_rstd = part.Allocate<float>(purpose, tokens * config.heads);
      w.k_rstd = part.Allocate<float>(purpose, tokens * config.kv_heads);
    }
    if (!shape.training) return;
    w.query = matrix(query);
    w.dq = matrix(query);
    w.dk = matrix(key);
    w.dv = matrix(key);
    w.attention_scratch = part.Allocate(purpose, static_cast<int64_t>(engine.attention_backward));
  };
  arena.Overlay(purpose, {head, mlp, attention});
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
