// The CUDA engine: one device, one stream for the operations and one for copies beside them. One op
// a file: kernels/cuda/<op>.cu implements CudaEngine::<Op>. Matrices are fp32 or bf16; sums are
// fp32.
#pragma once

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/ops.h"

namespace qft::cuda {

struct GradientOperand;
struct IntegerProblem;

class CudaEngine final : public Engine {
 public:
  explicit CudaEngine(int device);
  ~CudaEngine() override;

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
  Speeds BestSpeeds() const override;
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
  size_t PreparedInputBytes(int64_t rows, int64_t cols, int32_t critical_count) const override;
  void PrepareInput(const Operand& x, void* memory) override;

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

  void EncodeGradient(const Matrix& values, Rounding rounding, const RandomStream& random,
                      const StepState* step, bool add, const Gradient& out) override;
  void AccumulateGradient(const Gradient& gradient, float* values) override;
  void AddSquareSum(const Gradient& gradient, StepState* step) override;
  void SetClipFactor(float max_norm, double square_sum_override, StepState* step) override;
  void LionUpdate(const LionOptions& options, const Weight& w, const Momentum& m,
                  const Gradient& gradient, StepState* step) override;
  void EncodeAndUpdate(const Matrix& values, const RandomStream& random, const LionOptions& options,
                       const Weight& w, const Momentum& m, StepState* step) override;

 private:
  // The first message stays; it is copied.
  void Fail(const char* message);
  // False, and Fail, when `error` is one. `what` names what was tried.
  bool Check(cudaError_t error, const char* what);
  // Behind every launch.
  void CheckLaunch(const char* op) { Check(cudaPeekAtLastError(), op); }
  // Device memory that lasts until the next op asks for some; nullptr, and Fail, when there is
  // none.
  void* Scratch(size_t bytes);
  // Reports what this engine cannot do.
  bool SupportsDType(DType dtype);

  void IntegerMatmul(const IntegerProblem& problem);
  // step->gradient_square_sum += gradient_scale^2 * row_sums [rows].
  void AddRowSums(const double* row_sums, int64_t rows, StepState* step);
  // out [R, C] = dy [R, L] * b [L, C] of codes, with dy's scales; critical features of b have
  // columns of out to themselves.
  // prepared: b in that form already, or nullptr.
  void IntegerGradient(const Operand& dy, const GradientOperand& b, void* prepared,
                       const Matrix& out, bool accumulate);
  // out [m, n] = a * b (+ out), row-major, b transposed or not; all fp32.
  struct FloatProblem {
    int64_t m, n, k;
    const float* a;
    const float* b;
    bool b_transposed;
    float* out;
    bool accumulate;
  };
  void FloatMatmul(const FloatProblem& problem);
  // w's values, decoded into scratch where it holds codes.
  const float* Values(const Weight& w);

  void EndCopies();
  cudaEvent_t EventOf(CopyLane lane, uint64_t ticket) const {
    return Lane(lane).copied[ticket % kCopyEvents];
  }

  int device_ = 0;
  int multiprocessors_ = 0;
  int architecture_ = 0;  // 10 * major + minor
  cudaStream_t stream_ = nullptr;
  void* scratch_ = nullptr;  // own_scratch_, or what UseScratch gave
  size_t scratch_bytes_ = 0;
  void* own_scratch_ = nullptr;
  cublasHandle_t blas_ = nullptr;  // made when floating arithmetic first needs it
  int* token_outside_ = nullptr;   // host memory that kernels write to
  char description_[160] = {};
  int64_t host_bytes_ = 0;
  char error_[256] = {};

  // Copies beside the operations (copies.cu). Events come round again: one of a later ticket is
  // only waited for longer.
  static constexpr uint64_t kCopyEvents = 1024;
  struct CopyStream {
    cudaStream_t stream = nullptr;
    cudaEvent_t operations_done = nullptr;
    cudaEvent_t copied[kCopyEvents] = {};
    uint64_t last_ticket = 0;
  };
  const CopyStream& Lane(CopyLane lane) const { return lanes_[static_cast<int>(lane)]; }
  CopyStream& Lane(CopyLane lane) { return lanes_[static_cast<int>(lane)]; }
  // Makes a lane's stream and events when they are first needed.
  bool PrepareLane(CopyStream& lane);
  CopyStream lanes_[kCopyLanes];
};

// Calls f(p) with the matrix's memory as float* or __nv_bfloat16*.
template <typename F>
void WithElements(const Matrix& matrix, F f) {
  if (matrix.dtype == DType::kBF16) {
    f(static_cast<__nv_bfloat16*>(matrix.data));
  } else {
    f(static_cast<float*>(matrix.data));
  }
}

}  // namespace qft::cuda
