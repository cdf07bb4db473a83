// The CPU engine. Compiled once per instruction set (see simd.h); CreateCpuEngine picks the best
// one the processor has. One op a file: kernels/cpu/<op>.cpp implements CpuEngine::<Op>.
#pragma once

#include <atomic>

#include "base/copy_thread.h"
#include "base/thread_pool.h"
#include "kernels/cpu/onednn.h"
#include "kernels/ops.h"

namespace qft::QFT_ISA {

struct Tile;

struct IntegerProblem;
struct NormGradient;
struct FloatProblem;

class CpuEngine final : public Engine {
 public:
  // `integer_onednn`: integer matmuls by oneDNN (the processor multiplies INT8 exactly), else by
  // the kernels of integer_gemm.h. The bits are the same.
  CpuEngine(int threads, bool integer_onednn);
  ~CpuEngine() override;

  void* Allocate(size_t bytes) override;
  void Free(void* data, size_t bytes) override;
  void CopyToEngine(void* destination, const void* host, size_t bytes) override;
  void CopyToHost(void* host, const void* source, size_t bytes) override;
  void Fill(void* destination, int value, size_t bytes) override;
  int64_t AvailableMemory() const override;
  int64_t OccupiedMemory() const override;
  int64_t ReservedMemory() const override;
  size_t ScratchBytes(const ScratchShape& shape) const override;
  void UseScratch(void* memory, size_t bytes) override;
  DType ActivationType() const override;
  Speeds BestSpeeds() const override { return {}; }
  int64_t TokenMultiple() const override;
  const char* Synchronize() override;
  const char* Name() const override;
  const char* Description() const override;
  DeviceReport Report() const override;

  void* AllocateHost(size_t bytes) override;
  void FreeHost(void* data, size_t bytes) override;
  uint64_t StartCopies(CopyLane lane, const Copy* copies, int64_t count) override;
  void OrderAfterCopies(CopyLane lane, uint64_t ticket) override;
  const char* WaitForCopies(CopyLane lane, uint64_t ticket) override;

  void QuantizeRows(const Matrix& x, const Operand& out) override;
  void QuantizeOutputGradient(const Matrix& dy, const float* fold, Rounding rounding,
                              const RandomStream& random, const StepState* step,
                              const Operand& out) override;
  void QuantizeOutputGradientTransposed(const Matrix& dy, const float* fold, Rounding rounding,
                                        const RandomStream& random, const StepState* step,
                                        const Operand& out) override;
  void QuantizeOutputGradients(const Matrix& dy, Rounding rounding, const StepState* step,
                               const OutputGradientOperand& rows,
                               const OutputGradientOperand& columns) override;
  void EncodeWeight(const float* values, const Weight& out) override;
  void DecodeWeight(const Weight& w, int64_t row_begin, int64_t row_count, float* values) override;

  void MatmulForward(const Operand& x, const Weight& w, const Matrix& y, bool accumulate) override;
  void MatmulInputGradient(const Operand& dy, const Weight& w, const Matrix& dx,
                           bool accumulate) override;
  void MatmulWeightGradient(const Operand& dy_t, const Operand& x, const Matrix& dw,
                            bool accumulate) override;
  // Products read inputs as they are.
  size_t PreparedInputBytes(int64_t /*rows*/, int64_t /*cols*/,
                            int32_t /*critical_count*/) const override {
    return 0;
  }
  void PrepareInput(const Operand& /*x*/, void* /*memory*/) override {}

  void EmbeddingForward(const int32_t* tokens, const Weight& table, const Matrix& y) override;
  void EmbeddingBackward(const int32_t* tokens, const Matrix& dy, int64_t row_begin,
                         const Matrix& dtable) override;
  void RmsNormForward(const Matrix& x, const float* weight, float epsilon, const Operand& y,
                      float* rstd) override;
  void RmsNormBackward(const Matrix& x, const float* weight, const float* rstd, const Matrix& dy,
                       const Matrix& dx, float* dweight) override;
  void QkNormForward(const Matrix& x, const float* weight, float epsilon, int32_t head_dim,
                     const Matrix& y, float* rstd) override;
  void QkNormBackward(const Matrix& x, const float* weight, const float* rstd, const Matrix& dy,
                      const Matrix& dx, int32_t head_dim, float* dweight) override;
  void AddBias(const Matrix& y, const float* bias) override;
  void BiasBackward(const Matrix& dy, float* dbias) override;
  void Rope(const Matrix& x, const int32_t* positions, const float* inverse_frequency,
            int32_t heads, int32_t head_dim, bool inverse) override;
  void AttentionForward(const AttentionShape& shape, const int32_t* document_start, const Matrix& q,
                        const Matrix& k, const Matrix& v, const Matrix& out,
                        float* log_sum_exp) override;
  void AttentionBackward(const AttentionShape& shape, const int32_t* document_start,
                         const Matrix& q, const Matrix& k, const Matrix& v, const Matrix& out,
                         const float* log_sum_exp, const Matrix& dout, const Matrix& dq,
                         const Matrix& dk, const Matrix& dv, void* scratch) override;
  size_t AttentionBackwardScratch(const AttentionShape& shape) const override;
  void AttentionDecode(const AttentionShape& shape, int64_t past, const int32_t* first_seen,
                       const Matrix& q, const Matrix& k_cache, const Matrix& v_cache,
                       const Matrix& out) override;
  void SwigluForward(const Matrix& gate, const Matrix& up, const SwigluInputs& kept,
                     const Operand& y) override;
  void SwigluBackward(const SwigluInputs& kept, const Matrix& dy, const Matrix& dgate,
                      const Matrix& dup, const Operand& y) override;
  void Add(const Matrix& x, const Matrix& y, const Matrix& out) override;
  void CrossEntropyChunk(const Matrix& logits, const int32_t* targets, const VocabularyChunk& chunk,
                         float* target_logit) override;
  void CrossEntropyLoss(const CrossEntropyRows& rows, int64_t chunks, const float* chunk_max,
                        const float* chunk_sum, StepState* step) override;
  void CrossEntropyGradient(const VocabularyChunk& chunk, const CrossEntropyRows& rows,
                            const Matrix& gradient) override;

  void EncodeGradient(const Matrix& matrix, Rounding rounding, const RandomStream& random,
                      const StepState* step, bool add, const Gradient& out) override;
  void AccumulateGradient(const Gradient& gradient, float* values) override;
  void AddSquareSum(const Gradient& gradient, StepState* step) override;
  void SetClipFactor(float max_norm, double square_sum_override, StepState* step) override;
  void LionUpdate(const LionOptions& options, const Weight& w, const Momentum& m,
                  const Gradient& gradient, StepState* step) override;
  void EncodeAndUpdate(const Matrix& values, const RandomStream& random, const LionOptions& options,
                       const Weight& w, const Momentum& m, StepState* step) override;

 private:
  // `message` must be a string literal. The first one stays.
  void Fail(const char* message);
  // `bytes` of 64-byte aligned scratch private to a worker, kept and grown as asked; contents are
  // undefined. Inside a task use index `worker`.
  char* WorkerScratch(int worker, size_t bytes);

  float* ColumnInverses(const Matrix& dy, const float* fold, float* scales);
  // What the three integer and the three floating matmuls come down to (matmul.cpp).
  void IntegerMatmul(const IntegerProblem& problem);
  void IntegerDots(const IntegerProblem& problem);
  // c = a * b exactly, by a worker; `scratch` has IntegerPartScratch(shape) bytes.
  bool MultiplyPart(int worker, GemmShape shape, const int8_t* a, const int8_t* b, int32_t* c,
                    char* scratch);
  bool MultiplyLong(int worker, const GemmShape& shape, const IntegerProblem& problem,
                    const Tile& tile, int32_t* c, float* partial, char* scratch);
  size_t IntegerPartScratch(const GemmShape& shape) const;
  void FloatMatmul(const FloatProblem& problem);
  // The columns of dw [N, K] or dx [T, K] that belong to critical features: out[r, column c] +=
  // dy.scale[r] * sum_i dy.code[r, i] * fl(critical[i, c] * fl(1 / divisors[i])), where divisors
  // are what is folded into dy.
  void AddCriticalColumns(const Operand& dy, const CriticalFeatures& critical,
                          const float* divisors, const Matrix& out);
  // What the backward passes of norms come down to (rms_norm.cpp).
  void NormBackward(const NormGradient& gradient);
  // Reports what this engine cannot do.
  bool SupportsDType(DType dtype);

  struct Worker {
    char* scratch = nullptr;
    size_t scratch_bytes = 0;
    OneDnn* onednn = nullptr;
  };
  void FreeWorkers();

  ThreadPool pool_;
  const bool integer_onednn_;
  std::atomic<int64_t> host_bytes_{0};
  CopyThread copies_;
  Worker* workers_;  // owned; last of what can throw
  std::atomic<const char*> error_{nullptr};
  char description_[160];
};

}  // namespace qft::QFT_ISA
