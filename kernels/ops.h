// The abstract engine: every operation a training step is made of, each with its contract.
// kernels/cpu implements it for processors, kernels/cuda for NVIDIA GPUs. Valid C++17.
//
// Conventions
//   * All matrices are row-major and dense: element (r, c) at data[r * cols + c]. The cpu engine
//     takes fp32 matrices, the cuda engine fp32 and bf16; all arithmetic on them is fp32.
//   * T = tokens of a micro-batch (packed, documents one after the other), K = input features of a
//     linear layer, N = its output features, V = vocabulary.
//   * A code is an INT8 value in [-127, 127]; value = grid * code; zero decodes to exactly zero.
//   * Operations are enqueued in order and cannot fail on valid arguments. What does fail (an
//     argument an engine does not support, a device error) is sticky and returned by Synchronize.
//   * Determinism: the same arguments give the same bits, whatever the number of threads. Where the
//     contract says "exact", every engine gives the same bits too, from fp32 matrices.
//   * A row that holds a NaN or an infinity is quantised to codes 0 with a NaN scale, so that it
//     reaches the gradient norm instead of vanishing.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/philox.h"

namespace qft {

enum class DType : int32_t { kF32 = 0, kBF16 = 1, kF16 = 2, kI8 = 3, kI32 = 4 };

inline constexpr int64_t ElementBytes(DType dtype) {
  return dtype == DType::kI8 ? 1 : dtype == DType::kBF16 || dtype == DType::kF16 ? 2 : 4;
}

enum class Rounding : int32_t { kNearest = 0, kStochastic = 1 };

inline constexpr int64_t kMomentumBlock = 128;
// Columns of a KeptMatrix that share a scale: those of a warp, eight a thread.
inline constexpr int64_t kKeptBlock = 256;
// An INT32 sum holds 133,144 products of +-127 * +-127; sums are split here and continued in fp32.
inline constexpr int64_t kMaxIntegerSum = 131072;
// Vocabulary entries per chunk of the head; part of the numerics (one dy scale a token and chunk).
inline constexpr int64_t kVocabularyChunk = 8192;

// An fp32 or bf16 matrix.
struct Matrix {
  void* data = nullptr;
  DType dtype = DType::kF32;
  int64_t rows = 0;
  int64_t cols = 0;
};

// Bits of a weight's residual plane, and residual steps in a grid step.
inline constexpr int32_t kResidualBits = 4;
inline constexpr int32_t kResidualSteps = 1 << kResidualBits;

// Features (columns) kept apart from the codes of a matrix, which are zero there: `columns`
// ascending, values [rows, count] fp32. Empty when count == 0.
struct CriticalFeatures {
  const int32_t* columns = nullptr;
  float* values = nullptr;
  int32_t count = 0;
};

// One operand of a linear layer's matmuls, in one of two forms:
//   kI8          codes with one fp32 scale per row: value(r, c) = scales[r] * codes[r, c]; critical
//                features take no part in the scale and have their own values. With a second term,
//                [rows, cols] codes: value(r, c) = scales[r] * (codes[r, c] + second[r, c] / 256),
//                for inputs in which other features stand out at every token. The forward product
//                alone reads it.
//   kF32, kBF16  plain values; all else unused (floating arithmetic)
struct Operand {
  void* data = nullptr;
  float* scales = nullptr;
  DType dtype = DType::kI8;
  int64_t rows = 0;
  int64_t cols = 0;
  CriticalFeatures critical;
  int8_t* second = nullptr;
  void* prepared = nullptr;  // by PrepareInput
};

// A matrix [rows, cols] that forward keeps for backward, which no matmul reads.
//   kI8   codes to nearest (ties to even) and one fp32 scale per block of kKeptBlock along the
//         row, KeptBlocks(cols) a row: the least power of two by which all codes are within +-127.
//         Blocks of values below 2^-120, and of zeros, have scale 0; those that hold a NaN or an
//         infinity scale NaN. The codes of both are 0.
//   kF32  values
struct KeptMatrix {
  void* data = nullptr;
  float* scales = nullptr;
  DType dtype = DType::kI8;
  int64_t rows = 0;
  int64_t cols = 0;
};

inline constexpr int64_t KeptBlocks(int64_t cols) {
  return (cols + kKeptBlock - 1) / kKeptBlock;
}

// What swiglu's backward pass reads of its forward pass.
struct SwigluInputs {
  KeptMatrix gate, up;
};

// Bytes in a row of a residual plane.
inline constexpr int64_t ResidualBytes(int64_t cols) {
  return (cols + 15) / 16 * 8;
}

// A trainable tensor [rows, cols]. kI8: codes with one fp32 grid per row, and at critical features
// (those of the operands it is multiplied with) values instead. kF32: values.
//   residual  nullptr, or four more bits a weight, r in [-8, 7]: value = grid * (code + r / 16).
//             Integer matmuls read the code alone, which is the value to nearest; everything else
//             reads both. [rows, ResidualBytes(cols)]: of 16 columns from c on, byte j of eight
//             holds column c + j in its low half, column c + j + 8 in its high half.
struct Weight {
  void* data = nullptr;
  float* grid = nullptr;
  DType dtype = DType::kI8;
  int64_t rows = 0;
  int64_t cols = 0;
  CriticalFeatures critical;
  uint8_t* residual = nullptr;
};

// Lion momentum of a Weight. kI8: codes with one fp32 grid per block of 128 along the row,
// ceil(cols / 128) blocks a row; `critical` [rows, count] fp32 where the weight has critical
// features, whose codes are zero here too. kF32: values.
struct Momentum {
  void* data = nullptr;
  float* grid = nullptr;
  DType dtype = DType::kI8;
  float* critical = nullptr;
};

// A gradient as it stands on the stack. kI8: codes with one fp32 grid per row, and square_sums
// [rows], of what a row decodes to, critical features included. kF32: values. Either has the
// critical features of its weight apart.
struct Gradient {
  void* data = nullptr;
  float* grid = nullptr;
  DType dtype = DType::kI8;
  int64_t rows = 0;
  int64_t cols = 0;
  CriticalFeatures critical;
  double* square_sums = nullptr;
};

// What changes from step to step lives in engine memory, so that a captured step can be replayed.
struct StepState {
  uint64_t step = 0;  // counts from 0; word of every random index
  float learning_rate = 0;
  float gradient_scale = 1;        // multiplies every gradient before clipping (1 / loss weights)
  float clip_factor = 1;           // multiplies every gradient in the update
  int32_t skip_update = 0;         // non-zero: weights and momentum stay as they are
  double gradient_square_sum = 0;  // of scaled gradients, unclipped
  double loss_sum = 0;             // sum over tokens of weight * -log p(target)
  double loss_weight = 0;          // sum over tokens of weight
  int64_t codes_changed = 0;       // weight codes that updates changed
  int64_t codes_saturated = 0;     // weight codes at +-127 after an update
  int64_t rows_grown = 0;          // rows whose grid grew
  int64_t updates_lost = 0;        // updates other than 0 that rounding to nearest made 0
  // Sum over weights of the squared difference between rounded and unrounded update, in
  // (grid steps)^2 / 2^24. Its root over the steps is how far rounding walked.
  int64_t rounding_square_sum = 0;
};

// Where the random bits of one rounding come from. `row_offset` is the index of row 0: for operands
// the global token within the step, so that the split into micro-batches does not matter.
struct RandomStream {
  PhiloxKey key{0, 0};
  int64_t row_offset = 0;
};

struct LionOptions {
  float beta1 = 0.9f;
  float beta2 = 0.99f;
  float weight_decay = 0;          // decoupled, multiplied by the learning rate
  float learning_rate_factor = 1;  // of the tensor's group
  Rounding rounding = Rounding::kStochastic;
  int64_t row_offset = 0;        // of the first row, in the random streams
  PhiloxKey weight_key{0, 0};    // 32 bits an element
  PhiloxKey momentum_key{0, 0};  // 16 bits an element
  PhiloxKey regrow_key{0, 0};    // 32 bits an element, used when a row's grid grows
};

// Attention takes even head dimensions up to this.
inline constexpr int32_t kMostHeadDim = 256;

struct AttentionShape {
  int64_t tokens = 0;
  int32_t heads = 0;
  int32_t kv_heads = 0;
  int32_t head_dim = 0;
  float scale = 0;  // multiplies q.k, usually 1/sqrt(head_dim)
};

// What decides how much scratch memory ops take.
struct ScratchShape {
  int64_t tokens = 0;          // of a micro-batch
  int64_t largest_weight = 0;  // elements
  int64_t widest = 0;          // features, of any matrix
  bool integer = true;
};

// What an engine runs on.
struct DeviceReport {
  int64_t used_bytes = 0;   // cpu: resident memory of this process; cuda: all use of the device
  int64_t total_bytes = 0;  // of the machine's memory, or the device's
  // INT8 multiplications and additions a second at the highest clock, each counted as one; 0:
  // unknown
  double integer_peak = 0;
  int64_t host_bytes = 0;  // of AllocateHost, not yet freed
};

// One of the operands that an output gradient becomes.
struct OutputGradientOperand {
  const float* fold = nullptr;
  RandomStream random;
  Operand out;
};

// What the first pass over a chunk of the vocabulary leaves for the second.
struct VocabularyChunk {
  int64_t begin = 0;     // its first entry
  float* max = nullptr;  // [T] largest logit
  float* sum = nullptr;  // [T] of exp(logit - max)
  Matrix exps;           // [T, C] bf16: exp(logit - max), which is 1 at the largest
};

// Per token of a micro-batch, all [T].
struct CrossEntropyRows {
  int64_t tokens = 0;
  const int32_t* targets = nullptr;
  const float* loss_weight = nullptr;
  const float* target_logit = nullptr;
  float* row_max = nullptr;
  float* row_sum = nullptr;
  float* token_loss = nullptr;
};

// One copy between engine and host memory, beside the operations.
struct Copy {
  void* to = nullptr;
  const void* from = nullptr;
  size_t bytes = 0;
};

// Copies of a lane happen in the order in which they were started.
enum class CopyLane : int32_t {
  kSnapshot,  // to host memory, for who reads a copy of states at leisure
  kStore,     // to host memory, from where it is loaded again
  kLoad,      // to engine memory, after all kStore copies that were started before
};
inline constexpr int kCopyLanes = 3;

// What a device reaches at best; 0: unknown.
struct Speeds {
  double integer_operations = 0;  // dense INT8 multiplications and additions a second
  double memory_bytes = 0;        // a second
  double host_bytes = 0;          // a second to host memory, and as much from it at once
};

// What a plan asks of an engine: the memory it takes beside what it is given. It can be had without
// the device, too (kernels/cuda/profile.h).
class EngineProfile {
 public:
  virtual ~EngineProfile() = default;

  virtual const char* Name() const = 0;         // "cpu", "cuda"
  virtual const char* Description() const = 0;  // processor, instruction set, threads
  // Bytes that can still be allocated.
  virtual int64_t AvailableMemory() const = 0;
  // Bytes of a device's memory in use, which a limit on its use includes; cpu: 0.
  virtual int64_t OccupiedMemory() const = 0;
  // Bytes that AvailableMemory leaves for what a device's driver may take yet; cpu: 0.
  virtual int64_t ReservedMemory() const = 0;
  // Scratch memory that ops on such shapes take, for UseScratch.
  virtual size_t ScratchBytes(const ScratchShape& shape) const = 0;
  // Of AttentionBackward.
  virtual size_t AttentionBackwardScratch(const AttentionShape& shape) const = 0;
  // Of PrepareInput; 0 where nothing is gained by it.
  virtual size_t PreparedInputBytes(int64_t rows, int64_t cols, int32_t critical_count) const = 0;
  // What activations are stored as under integer arithmetic.
  virtual DType ActivationType() const = 0;
  virtual Speeds BestSpeeds() const = 0;
  // Micro-batches are padded to a multiple of this many tokens.
  virtual int64_t TokenMultiple() const = 0;
};

class Engine : public EngineProfile {
 public:
  // --- memory -----------------------------------------------------------------------------------
  // 64-byte aligned, zeroed; nullptr when there is none left. Blocking.
  virtual void* Allocate(size_t bytes) = 0;
  virtual void Free(void* data, size_t bytes) = 0;
  // Ordered with the operations; host memory may be reused when the call returns. The engine's side
  // may be memory of AllocateHost, too.
  virtual void CopyToEngine(void* destination, const void* host, size_t bytes) = 0;
  virtual void CopyToHost(void* host, const void* source, size_t bytes) = 0;
  virtual void Fill(void* destination, int value, size_t bytes) = 0;
  // Serves as scratch memory of ops from now on (nullptr: nothing does); where it is smaller than
  // ScratchBytes, an engine allocates its own.
  virtual void UseScratch(void* memory, size_t bytes) = 0;
  // Waits for everything enqueued. Returns nullptr, or a message that stays until the engine goes:
  // the first error since the engine was made.
  virtual const char* Synchronize() = 0;
  virtual DeviceReport Report() const = 0;

  // --- copies beside the operations -------------------------------------------------------------
  // Host memory that such copies go to fastest (of a GPU: page-locked). 64-byte aligned; nullptr
  // when there is none left. Blocking.
  virtual void* AllocateHost(size_t bytes) = 0;
  virtual void FreeHost(void* data, size_t bytes) = 0;
  // Copies `count` ranges while later operations run, after all earlier operations. Who lets an
  // operation write to what is read, or touch what is written, calls OrderAfterCopies before it.
  // Returns at once, with a ticket of the lane: 1 and up.
  virtual uint64_t StartCopies(CopyLane lane, const Copy* copies, int64_t count) = 0;
  // What is enqueued from now on happens after all copies of the lane up to `ticket`; no other copy
  // and not the caller is waited for, where operations run by themselves.
  virtual void OrderAfterCopies(CopyLane lane, uint64_t ticket) = 0;
  // Waits for all copies of the lane up to `ticket`. On any thread, also while others use the
  // engine. Returns nullptr, or a message: then memory does not hold what it should.
  virtual const char* WaitForCopies(CopyLane lane, uint64_t ticket) = 0;

  // --- quantising -------------------------------------------------------------------------------
  // x [R, C] fp32 -> out [R, C]. kI8: scale = absmax/127 per row over what is not critical, codes
  // to nearest (ties to even), critical values copied; second term: what is left, times 256, to
  // nearest within +-127. Floating out: a plain copy. Exact.
  virtual void QuantizeRows(const Matrix& x, const Operand& out) = 0;
  // The operand of the input gradient. dy [T, N] fp32; fold = grids of W's rows (nullptr: ones).
  // out [T, N]: dy[t, n] * fold[n], kI8: one absmax/127 scale per token, 16-bit stochastic (row =
  // token, column = n) or nearest. Floating out: dy * fold as it is. Exact.
  virtual void QuantizeOutputGradient(const Matrix& dy, const float* fold, Rounding rounding,
                                      const RandomStream& random, const StepState* step,
                                      const Operand& out) = 0;
  // The operand of the weight gradient. dy [T, N] fp32; fold = scales of X's rows (nullptr: ones).
  // out [N, T] transposed: dy[t, n] * fold[t], kI8: one absmax/127 scale per n over all T, 16-bit
  // stochastic (random row = token, column = n) or nearest. Floating out: plain transpose. Exact.
  virtual void QuantizeOutputGradientTransposed(const Matrix& dy, const float* fold,
                                                Rounding rounding, const RandomStream& random,
                                                const StepState* step, const Operand& out) = 0;
  // Both: `rows` as QuantizeOutputGradient makes it, `columns` as QuantizeOutputGradientTransposed
  // does, the same bits from fewer readings of dy.
  virtual void QuantizeOutputGradients(const Matrix& dy, Rounding rounding, const StepState* step,
                                       const OutputGradientOperand& rows,
                                       const OutputGradientOperand& columns) = 0;
  // w [rows, cols] fp32, in host or engine memory -> initial codes: grid = absmax / 120 per row
  // over what is not critical (2^-13 for a row of zeros, so that it can train), to nearest (ties to
  // even), with a residual plane to the nearest sixteenth of the grid; critical values copied.
  // kF32: a copy. Exact.
  virtual void EncodeWeight(const float* values, const Weight& out) = 0;
  // Rows [row_begin, row_begin + row_count) of w as fp32 into `values` (engine memory). Exact.
  virtual void DecodeWeight(const Weight& w, int64_t row_begin, int64_t row_count,
                            float* values) = 0;

  // --- linear layers ----------------------------------------------------------------------------
  // Integer when x is kI8 (w must be kI8), floating when x is floating (w kI8 is decoded in tiles).
  // y [T, N] = x [T, K] * w [N, K]^T (+ y when accumulate). Integer form exact:
  // y = fl(fl(x.scale[t] * w.grid[n]) * float(sum)), the INT32 sum split every kMaxIntegerSum and
  // continued in fp32, then added to y when accumulate. Where x has a second term, (its sum + 128)
  // >> 8 is part of the sum (of split sums: 2^-8 times its own comes first). Then for each critical
  // feature c in order y = fma(x.critical[t, c], w.critical[n, c], y), on a GPU perhaps in TF32. x
  // and w have the same critical features, the very array of columns.
  virtual void MatmulForward(const Operand& x, const Weight& w, const Matrix& y,
                             bool accumulate) = 0;
  // dx [T, K] = dy [T, N] * w [N, K] (+ dx when accumulate). kI8: dy comes from
  // QuantizeOutputGradient with w.grid folded in; dx = dy.scale[t] * sum. At a critical feature c
  // the sum is that of code[t, n] * fl(w.critical[n, c] * fl(1 / w.grid[n])) in fp32, 16 lanes over
  // n (a GPU: factors of 16 bits, in its own order). Floating: w's values are used and nothing is
  // folded. Exact in integer form but for that.
  virtual void MatmulInputGradient(const Operand& dy, const Weight& w, const Matrix& dx,
                                   bool accumulate) = 0;
  // dw [N, K], fp32 or the engine's activation type, = dy_t [N, T] * x [T, K] (+ dw when
  // accumulate). kI8: dy_t comes from QuantizeOutputGradientTransposed with x.scales folded in; dw
  // = dy_t.scale[n] * sum. At a critical feature c the sum is that of code[n, t] * fl(x.critical[t,
  // c] * fl(1 / x.scale[t])) in fp32, 16 lanes over t (0 where x.scale is; a GPU as above).
  // Floating: nothing is folded. Exact in integer form but for that.
  // Where x.prepared is set, PrepareInput has made it from the rest of x.
  virtual void MatmulWeightGradient(const Operand& dy_t, const Operand& x, const Matrix& dw,
                                    bool accumulate) = 0;
  // x, kI8, in the form that the engine multiplies, for several weight gradients of one input: the
  // same bits as without. `memory` has PreparedInputBytes.
  virtual void PrepareInput(const Operand& x, void* memory) = 0;

  // --- layers -----------------------------------------------------------------------------------
  // y [T, K] fp32 = rows tokens[t] of table [V, K], decoded. Exact.
  virtual void EmbeddingForward(const int32_t* tokens, const Weight& table, const Matrix& y) = 0;
  // dtable [R, K] fp32 holds the gradients of the table's rows [row_begin, row_begin + R): each
  // gets
  // += dy [T, K] summed over its tokens, in token order; other tokens are skipped. Exact.
  virtual void EmbeddingBackward(const int32_t* tokens, const Matrix& dy, int64_t row_begin,
                                 const Matrix& dtable) = 0;
  // rstd[t] = 1 / sqrt(mean_k x^2 + eps); y[t, k] = x * rstd * weight[k], quantised like
  // QuantizeRows when y is kI8. x [T, K] fp32, weight [K], rstd [T].
  virtual void RmsNormForward(const Matrix& x, const float* weight, float epsilon, const Operand& y,
                              float* rstd) = 0;
  // dx [T, K] += gradient through the norm; dweight [K] += sum_t dy * x * rstd (nullptr: skipped).
  virtual void RmsNormBackward(const Matrix& x, const float* weight, const float* rstd,
                               const Matrix& dy, const Matrix& dx, float* dweight) = 0;
  // RmsNorm of each head of x [T, heads * head_dim] by itself, with one weight [head_dim] for all;
  // rstd [T, heads]. y may be x.
  virtual void QkNormForward(const Matrix& x, const float* weight, float epsilon, int32_t head_dim,
                             const Matrix& y, float* rstd) = 0;
  // dx = gradient through the norms, may be dy; dweight [head_dim] += sum over tokens and heads of
  // dy * x * rstd (nullptr: skipped).
  virtual void QkNormBackward(const Matrix& x, const float* weight, const float* rstd,
                              const Matrix& dy, const Matrix& dx, int32_t head_dim,
                              float* dweight) = 0;
  // y[t, n] += bias[n]. y [T, N], bias [N]. Exact.
  virtual void AddBias(const Matrix& y, const float* bias) = 0;
  // dbias [N] += sum_t dy[t, n].
  virtual void BiasBackward(const Matrix& dy, float* dbias) = 0;
  // Rotates x [T, heads * head_dim] in place, halves paired (i, i + head_dim/2), by
  // positions[t] * inverse_frequency[i]; inverse rotates back (the gradient). Frequencies [dim/2].
  virtual void Rope(const Matrix& x, const int32_t* positions, const float* inverse_frequency,
                    int32_t heads, int32_t head_dim, bool inverse) = 0;
  // out [T, heads*dim]; log_sum_exp [heads, T]. Token t sees tokens document_start[t] .. t, where
  // document_start never decreases (a document's first token, or later under a sliding window), so
  // that documents packed into one micro-batch do not see each other. q [T, heads*dim], k and v [T,
  // kv_heads*dim], all fp32, head h reads kv head h / (heads / kv_heads).
  virtual void AttentionForward(const AttentionShape& shape, const int32_t* document_start,
                                const Matrix& q, const Matrix& k, const Matrix& v,
                                const Matrix& out, float* log_sum_exp) = 0;
  // dq, dk, dv are overwritten. dout [T, heads*dim]. scratch: at least
  // AttentionBackwardScratch(shape) bytes.
  virtual void AttentionBackward(const AttentionShape& shape, const int32_t* document_start,
                                 const Matrix& q, const Matrix& k, const Matrix& v,
                                 const Matrix& out, const float* log_sum_exp, const Matrix& dout,
                                 const Matrix& dq, const Matrix& dk, const Matrix& dv,
                                 void* scratch) = 0;
  // T new tokens at positions past .. past + T - 1 of one sequence, over a cache. shape.tokens = T;
  // token t sees positions first_seen[t] .. past + t (nullptr: from 0);
  // q, out [T, heads*dim]; k_cache, v_cache [>= past + T, kv_heads*dim], the new rows already in.
  virtual void AttentionDecode(const AttentionShape& shape, int64_t past, const int32_t* first_seen,
                               const Matrix& q, const Matrix& k_cache, const Matrix& v_cache,
                               const Matrix& out) = 0;
  // y[t, i] = silu(gate) * up, quantised like QuantizeRows when y is kI8, of gate and up as they
  // are. kept: both are kept there, exact; without data they are not. All [T, F].
  virtual void SwigluForward(const Matrix& gate, const Matrix& up, const SwigluInputs& kept,
                             const Operand& y) = 0;
  // dgate and dup from dy, all of one type, and y once more, all from what was kept: the output
  // gradient is that of the kept values. Of y the data alone is written. kI8: its scales are
  // forward's, codes are round(y * fl(1 / scale)) within +-127, 0 at critical features and where
  // 1 / scale is not finite. dgate may be dy's own memory.
  virtual void SwigluBackward(const SwigluInputs& kept, const Matrix& dy, const Matrix& dgate,
                              const Matrix& dup, const Operand& y) = 0;
  // out = x + y, all [R, C]; out may be x or y.
  virtual void Add(const Matrix& x, const Matrix& y, const Matrix& out) = 0;
  // First pass: fills `chunk` from logits [T, C], exps where there is memory for them, and, where
  // the target lies in the chunk, target_logit [T].
  virtual void CrossEntropyChunk(const Matrix& logits, const int32_t* targets,
                                 const VocabularyChunk& chunk, float* target_logit) = 0;
  // chunk_max, chunk_sum [chunks, T]. row_max [T] is the largest, row_sum [T] the sum of all
  // exp(logit - row_max), chunk by chunk. token_loss[t] = log(row_sum) + row_max - target_logit (0
  // where loss_weight is 0); adds weight * loss and weight to step->loss_sum and step->loss_weight
  // in token order (fp64).
  virtual void CrossEntropyLoss(const CrossEntropyRows& rows, int64_t chunks,
                                const float* chunk_max, const float* chunk_sum,
                                StepState* step) = 0;
  // Second pass: gradient [T, C] = weight * (exps * exp(chunk.max - row_max) / row_sum -
  // [column == target]).
  virtual void CrossEntropyGradient(const VocabularyChunk& chunk, const CrossEntropyRows& rows,
                                    const Matrix& gradient) = 0;

  // --- gradients and update ---------------------------------------------------------------------
  // values [rows, cols] -> out. kI8: absmax/127 per row, 16-bit stochastic or nearest,
  // row_offset of `random` is the row of values' first row; critical features are moved out of
  // `values`, which are undefined afterwards; each row's square sum is left in out.square_sums
  // (fp64; that of critical features in the engine's order). kF32: a copy. Exact but for that.
  // add: what `out` decodes to is added to the values first, as AccumulateGradient does.
  virtual void EncodeGradient(const Matrix& values, Rounding rounding, const RandomStream& random,
                              const StepState* step, bool add, const Gradient& out) = 0;
  // values += decoded gradient. Exact.
  virtual void AccumulateGradient(const Gradient& gradient, float* values) = 0;
  // step->gradient_square_sum += gradient_scale^2 * sum of squares of what stands on the stack
  // (kI8: its square_sums), summed in fp64, the rows in an order that is the engine's.
  virtual void AddSquareSum(const Gradient& gradient, StepState* step) = 0;
  // step->clip_factor = min(1, max_norm / norm), norm = sqrt(square sum or `norm_override`, if >=
  // 0); max_norm <= 0: factor 1. skip_update = 1 when the square sum is not finite.
  virtual void SetClipFactor(float max_norm, double square_sum_override, StepState* step) = 0;
  // Lion on codes (docs/numerics.md): g = gradient_scale * clip_factor * gradient;
  // u = sign(b1 m + (1-b1) g); w += SR(-(lr * factor) * (u + wd * w)); m = b2 m + (1-b2) g,
  // momentum grid refitted per block (absmax/127), 16-bit stochastic. A row whose code would leave
  // +-127 grows its grid by 1/16 until it fits and is re-rounded once with regrow_key. With a
  // residual plane all this happens in sixteenths of the grid, and the new code is the nearest (a
  // half upwards). Critical features: the same in fp32, without rounding.
  // Counts codes_changed, codes_saturated, rows_grown, updates_lost, rounding_square_sum. Nothing
  // happens when skip_update. Exact, but for rounding_square_sum, whose order is the engine's.
  virtual void LionUpdate(const LionOptions& options, const Weight& w, const Momentum& m,
                          const Gradient& gradient, StepState* step) = 0;
  // EncodeGradient (stochastic), AddSquareSum and LionUpdate with the gradient `values`
  // [w.rows, w.cols]: the same bits, but the encoded gradient need not reach memory. The factors
  // are those that stand in `step` before, as this gradient's norm comes too late for them. With
  // skip_update the norm alone is added. w kF32: the values as they are (fp32). What `values` hold
  // afterwards is undefined.
  virtual void EncodeAndUpdate(const Matrix& values, const RandomStream& random,
                               const LionOptions& options, const Weight& w, const Momentum& m,
                               StepState* step) = 0;
};

// threads <= 0: one a processor. Never null. Throws nothing.
Engine* CreateCpuEngine(int threads);

}  // namespace qft
