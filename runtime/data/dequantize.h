// How values are stored in model files, and their decoding to fp32.
#pragma once

#include <cstdint>

namespace qft {

enum class StoredType {
  kF32,
  kF16,
  kBF16,
  kF64,
  kI8,
  kU8,
  kI32,
  kI64,
  kQ4_0,
  kQ4_1,
  kQ5_0,
  kQ5_1,
  kQ8_0,
  kQ2_K,
  kQ3_K,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kQ8_K,
};

struct StoredTypeTraits {
  const char* name;        // as safetensors and GGUF spell it
  int64_t block_elements;  // 1 for plain types
  int64_t block_bytes;
  // Decodes `elements` values (whole blocks) to fp32. `data` is little-endian and may be unaligned.
  // nullptr for integers, which are no real numbers.
  void (*decode)(const uint8_t* data, int64_t elements, float* out);
};

const StoredTypeTraits& Traits(StoredType type);

// Decodes values of a type that has a decoder, as `decode` says. Bit for bit what the gguf Python
// package decodes to.
void Dequantize(StoredType type, const void* data, int64_t elements, float* out);

}  // namespace qft
