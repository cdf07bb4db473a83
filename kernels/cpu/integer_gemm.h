// Exact INT8 products on every processor: products of sign-extended 16-bit pairs summed in 32 bits,
// never in 16 (which saturate).
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/cpu/onednn.h"

namespace qft::QFT_ISA {

size_t IntegerTileScratch(const GemmShape& shape);
// c of `shape`; k <= kMaxIntegerSum. ldc is a multiple of 16, and c is overwritten up to there.
void MultiplyIntegerTile(const GemmShape& shape, const int8_t* a, const int8_t* b, int32_t* c,
                         char* scratch);

// k <= kMaxIntegerSum.
int32_t IntegerDot(const int8_t* a, const int8_t* b, int64_t k);

}  // namespace qft::QFT_ISA
