#include "kernels/cuda/engine.h"

namespace qft::cuda {

// cuBLAS is column-major: it is asked for the transpose of everything.
void CudaEngine::FloatMatmul(const FloatProblem& p) {
  if (p.a == nullptr || p.b == nullptr || p.m == 0 || p.n == 0) return;
  if (blas_ == nullptr && cublasCreate(&blas_) != CUBLAS_STATUS_SUCCESS) {
    blas_ = nullptr;
    return Fail("cuBLAS could not be started; free some device memory");
  }
  const float one = 1.0f;
  const float beta = p.accumulate ? 1.0f : 0.0f;
  const auto k = static_cast<int>(p.k);
  const auto n = static_cast<int>(p.n);
  const int ldb = p.b_transposed ? k : n;
  cublasStatus_t status = cublasSetStream(blas_, stream_);
  if (status == CUBLAS_STATUS_SUCCESS) {
    status = cublasSgemm(blas_, p.b_transposed ? CUBLAS_OP_T : CUBLAS_OP_N, CUBLAS_OP_N, n,
                         static_cast<int>(p.m), k, &one, p.b, ldb, p.a, k, &beta, p.out, n);
  }
  if (status != CUBLAS_STATUS_SUCCESS) Fail("cuBLAS failed in a floating matmul");
}

}  // namespace qft::cuda
