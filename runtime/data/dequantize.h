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
  kQ8_0,
  kQ4_0,
  kQ4_1,
};

struct StoredTypeTraits {
  const char* name;        // as safetensors and GGUF spell it
  int64_t block_elements;  // 1 for plain types
  int64_t block_bytes;
  bool real;  // Dequantize decodes it
};

const StoredTypeTraits& Traits(StoredType type);

// Decodes `elements` values (whole blocks) to fp32. `data` is little-endian and may be unaligned.
// `type` is a real one. Bit for bit what the gguf Python package decodes to.
void Dequantize(StoredType type, const void* data, int64_t elements, float* out);

}  // namespace qft
