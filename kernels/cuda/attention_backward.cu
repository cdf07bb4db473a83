#include "kernels/cuda/attention_backward_mma.cuh"
#include "kernels/cuda/attention_backward_simt.cuh"
#include "kernels/cuda/attention_wgmma.h"
#include "kernels/cuda/engine.h"
#include "kernels/cuda/sizes.h"

namespace qft::cuda {
namespace {

constexpr int kDeltaWarps = 8;

// a.delta; where `dout_copy` [tokens, heads * head_dim] is wanted, dout as bf16. A warp a row of a
// head, 8 elements a lane.
__global__ void __launch_bounds__(32 * kDeltaWarps)
    DeltaKernel(const AttentionArguments a, BFloat16* dout_copy) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kDeltaWarps + threadIdx.x / 32;
  if (row >= static_cast<int64_t>(a.tokens) * a.heads) return;
  const int column = static_cast<int>(threadIdx.x) % 32 * kVector;
  float sum = 0.0f;
  if (column < a.head_dim) {
    const int64_t offset = row * a.head_dim + column;
    const int count = a.head_dim - column;
    float out[kVector], dout[kVector];
    LoadElements(a.out, offset, count, out);
    LoadElements(a.dout, offset, count, dout);
#pragma unroll
    for (int i = 0; i < kVector; ++i) sum = fmaf(dout[i], out[i], sum);
    if (dout_copy != nullptr) Store8(dout_copy + offset, 0, count, dout);
  }
  sum = WarpReduce(sum, AddValues());
  const int query = static_cast<int>(row / a.heads), head = static_cast<int>(row % a.heads);
  if (threadIdx.x % 32 == 0) a.delta[a.StatisticOffset(query, head)] = sum;
}

cudaError_t LaunchDelta(const AttentionArguments& a, BFloat16* dout_copy, cudaStream_t stream) {
  const int64_t rows = static_cast<int64_t>(a.tokens) * a.heads;
  return LaunchKernel(DeltaKernel, dim3(static_cast<unsigned>(CeilDivide(rows, kDeltaWarps))),
                      32 * kDeltaWarps, 0, stream, a, dout_copy);
}

dim3 Grid(const AttentionArguments& a, int rows, int heads) {
  return dim3(static_cast<unsigned>(CeilDivide(a.tokens, rows)), static_cast<unsigned>(heads));
}

template <int kTile, int kVectors>
cudaError_t LaunchSimt(const AttentionArguments& a, cudaStream_t stream) {
  const size_t shared = SimtBackwardShared(kTile, a.head_dim);
  const cudaError_t error =
      LaunchKernel(SimtKeyGradientKernel<kTile, kVectors>, Grid(a, kTile, a.kv_heads), kSimtThreads,
                   shared, stream, a);
  if (error != cudaSuccess) return error;
  return LaunchKernel(SimtQueryGradientKernel<kTile, kVectors>, Grid(a, kTile, a.heads),
                      kSimtThreads, shared, stream, a);
}

template <int kDim, int kWarps, bool kPart>
cudaError_t LaunchMma(const AttentionArguments& a, cudaStream_t stream) {
  const cudaError_t error = LaunchKernel(MmaKeyGradientKernel<kDim, kWarps, kPart>,
                                         Grid(a, kWarps * kMmaRows, a.kv_heads), 32 * kWarps,
                                         KeyGradientLayout<kDim, kWarps>::kBytes, stream, a);
  if (error != cudaSuccess) return error;
  return LaunchKernel(MmaQueryGradientKernel<kDim, kPart>, Grid(a, kQueryGradientRows, a.heads),
                      kQueryGradientThreads, QueryGradientShared<kDim>(), stream, a);
}

// Eight warps a block where shared memory holds no two blocks of four.
template <bool kPart>
cudaError_t LaunchMma(const AttentionArguments& a, int architecture, cudaStream_t stream) {
  if (HasLittleSharedMemory(architecture)) {
    return a.head_dim <= 64 ? LaunchMma<64, 8, kPart>(a, stream)
                            : LaunchMma<128, 8, kPart>(a, stream);
  }
  return a.head_dim <= 64 ? LaunchMma<64, 4, kPart>(a, stream)
                          : LaunchMma<128, 4, kPart>(a, stream);
}

cudaError_t LaunchGradients(const AttentionArguments& a, bool tensor_cores, int architecture,
                            cudaStream_t stream) {
  if (tensor_cores && !FillsTiles(a)) return LaunchMma<true>(a, architecture, stream);
  if (tensor_cores && architecture == 90) {
    const cudaError_t error = LaunchWgmmaKeyGradient(a, stream);
    return error == cudaSuccess ? LaunchWgmmaQueryGradient(a, stream) : error;
  }
  if (tensor_cores) return LaunchMma<false>(a, architecture, stream);
  return a.head_dim <= 128 ? LaunchSimt<32, 2>(a, stream) : LaunchSimt<16, 4>(a, stream);
}

}  // namespace

size_t CudaEngine::AttentionBackwardScratch(const AttentionShape& shape) const {
  return cuda::AttentionBackwardScratch(shape);
}

void CudaEngine::AttentionBackward(const AttentionShape& shape, const int32_t* document_start,
                                   const Matrix& q, const Matrix& k, const Matrix& v,
                                   const Matrix& out, const float* log_sum_exp, const Matrix& dout,
                                   const Matrix& dq, const Matrix& dk, const Matrix& dv,
                                   void* scratch) {
  if (!AttentionSupports(shape)) return Fail(kAttentionUnsupported);
  for (const Matrix* matrix : {&q, &k, &v, &out, &dout, &dq, &dk, &dv}) {
    if (!IsFloating(*matrix)) return Fail(kAttentionDTypeUnsupported);
  }
  if (shape.tokens == 0) return;
  AttentionArguments a = MakeAttentionArguments(shape, q, k, v, out);
  a.document_start = document_start;
  a.log_sum_exp = const_cast<float*>(log_sum_exp);
  a.dout = ElementsOf(dout);
  a.dq = ElementsOf(dq);
  a.dk = ElementsOf(dk);
  a.dv = ElementsOf(dv);
  a.delta = static_cast<float*>(scratch);
  const bool tensor_cores = UsesTensorCores(a);
  BFloat16* dout_copy = nullptr;
  if (tensor_cores && !FitsTensorCores(a.dout)) {
    const auto elements = static_cast<size_t>(shape.tokens * shape.heads * shape.head_dim);
    dout_copy = static_cast<BFloat16*>(Scratch(elements * sizeof(BFloat16)));
    if (dout_copy == nullptr) return;
  }
  if (!Check(LaunchDelta(a, dout_copy, stream_), "attention backward")) return;
  if (dout_copy != nullptr) a.dout = {dout_copy, true};
  if (!Check(LaunchGradients(a, tensor_cores, architecture_, stream_), "attention backward")) {
    return;
  }
  CheckLaunch("attention backward");
}

}  // namespace qft::cuda
