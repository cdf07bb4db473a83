#include "kernels/cpu/integer_gemm.h"

#include "kernels/cpu/matmul.h"
#include "kernels/cpu/simd.h"

namespace qft::QFT_ISA {

namespace {

// A tile goes through k in blocks: the block of `a` is widened to 16 bits once, then each panel of
// 16 columns of `b` is widened, stays in the first-level cache and meets all rows, six at a time.
constexpr int64_t kDepth = 512;
constexpr int64_t kPairs = kDepth / 2;
constexpr int kRows = 6;

// Sixteen 32-bit sums, and what adds sixteen dot products of one 16-bit pair to them.
#if defined(__AVX512BW__)
typedef __m512i Sums;
QFT_INLINE Sums ZeroSums() {
  return _mm512_setzero_si512();
}
QFT_INLINE Sums AddProducts(Sums sums, int32_t a_pair, const int32_t* b_pairs) {
  const __m512i products = _mm512_madd_epi16(_mm512_set1_epi32(a_pair), _mm512_load_si512(b_pairs));
  return _mm512_add_epi32(sums, products);
}
QFT_INLINE void AddTo(int32_t* c, Sums sums) {
  _mm512_storeu_si512(c, _mm512_add_epi32(_mm512_loadu_si512(c), sums));
}
#elif defined(__AVX2__)
struct Sums {
  __m256i low;
  __m256i high;
};
QFT_INLINE Sums ZeroSums() {
  return {_mm256_setzero_si256(), _mm256_setzero_si256()};
}
QFT_INLINE Sums AddProducts(Sums sums, int32_t a_pair, const int32_t* b_pairs) {
  const __m256i a = _mm256_set1_epi32(a_pair);
  const auto* b = reinterpret_cast<const __m256i*>(b_pairs);
  return {_mm256_add_epi32(sums.low, _mm256_madd_epi16(a, _mm256_load_si256(b))),
          _mm256_add_epi32(sums.high, _mm256_madd_epi16(a, _mm256_load_si256(b + 1)))};
}
QFT_INLINE void AddTo(int32_t* c, Sums sums) {
  auto* out = reinterpret_cast<__m256i*>(c);
  _mm256_storeu_si256(out, _mm256_add_epi32(_mm256_loadu_si256(out), sums.low));
  _mm256_storeu_si256(out + 1, _mm256_add_epi32(_mm256_loadu_si256(out + 1), sums.high));
}
#else
typedef Int16 Sums;
QFT_INLINE Sums ZeroSums() {
  return BroadcastInt(0);
}
QFT_INLINE Sums AddProducts(Sums sums, int32_t a_pair, const int32_t* b_pairs) {
  const Int16 b = LoadInt(b_pairs);
  const int32_t low = static_cast<int16_t>(a_pair & 0xffff);
  return sums + BroadcastInt(low) * ((b << 16) >> 16) + BroadcastInt(a_pair >> 16) * (b >> 16);
}
QFT_INLINE void AddTo(int32_t* c, Sums sums) {
  StoreInt(c, LoadInt(c) + sums);
}
#endif

QFT_INLINE int32_t Pair(int32_t low, int32_t high) {
  return static_cast<int32_t>((static_cast<uint32_t>(low) & 0xffffu) |
                              (static_cast<uint32_t>(high) << 16));
}

// Row i of `a` as pairs at out + i * kPairs; an odd last element gets a zero beside it.
void WidenRows(const int8_t* a, int64_t lda, int64_t rows, int64_t depth, int32_t* out) {
  for (int64_t i = 0; i < rows; ++i) {
    const int8_t* row = a + i * lda;
    int32_t* pairs = out + i * kPairs;
    for (int64_t p = 0; p < depth / 2; ++p) pairs[p] = Pair(row[2 * p], row[2 * p + 1]);
    if (depth % 2 != 0) pairs[depth / 2] = Pair(row[depth - 1], 0);
  }
}

// Sixteen columns of b [k, n] as pairs of two rows, column j in lane j; columns past `columns` are
// zero.
void WidenPanel(const int8_t* b, int64_t ldb, int64_t columns, int64_t depth, int32_t* out) {
  for (int64_t k = 0; k < depth; k += 2) {
    const bool both = k + 1 < depth;
    const int8_t* first = b + k * ldb;
    Int16 low, high = {};
    if (columns >= kLanes) {
      low = LoadCodes(first);
      if (both) high = LoadCodes(first + ldb);
    } else {
      low = LoadCodesPartial(first, columns);
      if (both) high = LoadCodesPartial(first + ldb, columns);
    }
    const Int16 pairs = (low & BroadcastInt(0xffff)) | (high << 16);
    StoreInt(out + k / 2 * kLanes, pairs);
  }
}

// The same of b [n, k].
void WidenPanelTransposed(const int8_t* b, int64_t ldb, int64_t columns, int64_t depth,
                          int32_t* out) {
  for (int64_t j = 0; j < kLanes; ++j) {
    const int8_t* row = b + j * ldb;
    for (int64_t k = 0; k < depth; k += 2) {
      const int32_t high = k + 1 < depth && j < columns ? row[k + 1] : 0;
      out[k / 2 * kLanes + j] = j < columns ? Pair(row[k], high) : 0;
    }
  }
}

template <int kCount>
QFT_INLINE void MultiplyRows(const int32_t* a, const int32_t* panel, int64_t pairs, int32_t* c,
                             int64_t ldc) {
  Sums sums[kCount];
  for (int i = 0; i < kCount; ++i) sums[i] = ZeroSums();
  for (int64_t p = 0; p < pairs; ++p) {
    for (int i = 0; i < kCount; ++i) {
      sums[i] = AddProducts(sums[i], a[i * kPairs + p], panel + p * kLanes);
    }
  }
  for (int i = 0; i < kCount; ++i) AddTo(c + i * ldc, sums[i]);
}

void MultiplyPanel(const int32_t* a, const int32_t* panel, int64_t rows, int64_t pairs, int32_t* c,
                   int64_t ldc) {
  int64_t i = 0;
  for (; i + kRows <= rows; i += kRows) {
    MultiplyRows<kRows>(a + i * kPairs, panel, pairs, c + i * ldc, ldc);
  }
  for (; i < rows; ++i) MultiplyRows<1>(a + i * kPairs, panel, pairs, c + i * ldc, ldc);
}

}  // namespace

size_t IntegerTileScratch(const GemmShape& shape) {
  return static_cast<size_t>((shape.m + kLanes) * kPairs) * sizeof(int32_t);
}

void MultiplyIntegerTile(const GemmShape& shape, const int8_t* a, const int8_t* b, int32_t* c,
                         char* scratch) {
  auto* panel = reinterpret_cast<int32_t*>(scratch);
  int32_t* rows = panel + kLanes * kPairs;
  std::memset(c, 0, static_cast<size_t>(shape.m * shape.ldc) * sizeof(int32_t));
  for (int64_t k = 0; k < shape.k; k += kDepth) {
    const int64_t depth = Smaller(kDepth, shape.k - k);
    WidenRows(a + k, shape.lda, shape.m, depth, rows);
    for (int64_t j = 0; j < shape.n; j += kLanes) {
      const int64_t columns = Smaller(kLanes, shape.n - j);
      if (shape.b_transposed) {
        WidenPanelTransposed(b + j * shape.ldb + k, shape.ldb, columns, depth, panel);
      } else {
        WidenPanel(b + k * shape.ldb + j, shape.ldb, columns, depth, panel);
      }
      MultiplyPanel(rows, panel, shape.m, (depth + 1) / 2, c + j, shape.ldc);
    }
  }
}

int32_t IntegerDot(const int8_t* a, const int8_t* b, int64_t k) {
  int64_t i = 0;
  int32_t sum = 0;
#if defined(__AVX512BW__)
  __m512i sums = _mm512_setzero_si512();
  for (; i + 32 <= k; i += 32) {
    const __m512i x = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)(a + i)));
    const __m512i y = _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)(b + i)));
    sums = _mm512_add_epi32(sums, _mm512_madd_epi16(x, y));
  }
  sum = _mm512_reduce_add_epi32(sums);
#elif defined(__AVX2__)
  __m256i sums = _mm256_setzero_si256();
  for (; i + 16 <= k; i += 16) {
    const __m256i x = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)(a + i)));
    const __m256i y = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)(b + i)));
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(x, y));
  }
  int32_t lanes[8];
  std::memcpy(lanes, &sums, sizeof(lanes));
  for (const int32_t lane : lanes) sum += lane;
#endif
  for (; i < k; ++i) sum += int32_t{a[i]} * b[i];
  return sum;
}

}  // namespace qft::QFT_ISA
