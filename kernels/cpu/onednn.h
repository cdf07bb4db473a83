// oneDNN's matrix multiplication behind plain functions. Compiled once, without flags of an
// instruction set; nothing here is inline, so that files compiled several times may include it.
#pragma once

#include <cstdint>

namespace qft {

// c [m, n] = a [m, k] * b, row-major with leading dimensions lda, ldb, ldc. b is [k, n], or [n, k]
// when b_transposed.
struct GemmShape {
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  int64_t lda = 0;
  int64_t ldb = 0;
  int64_t ldc = 0;
  bool b_transposed = false;
};

// To be called by a thread before it uses a OneDnn: from then on oneDNN opens no parallel region in
// this thread.
void PrepareOneDnnThread();

// Whether oneDNN's products of INT8 with INT8 are exact here: with AVX512-VNNI and AMX they are;
// with older instruction sets it adds pairs of products in saturating 16 bits.
bool OneDnnIntegerIsExact();

// What an engine says where Create gave nothing.
constexpr char kNoOneDnn[] = "onednn could not be started";

// The primitives one thread has used, kept because making one is slow.
class OneDnn {
 public:
  // nullptr when oneDNN reports an error.
  static OneDnn* Create();
  virtual ~OneDnn();

  // nullptr, or a static message: oneDNN reports an error, or there is no memory.
  virtual const char* MultiplyInteger(const GemmShape& shape, const int8_t* a, const int8_t* b,
                                      int32_t* c) = 0;
  virtual const char* MultiplyFloat(const GemmShape& shape, const float* a, const float* b,
                                    float* c) = 0;
};

}  // namespace qft
