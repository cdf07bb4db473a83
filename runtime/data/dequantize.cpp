#include "runtime/data/dequantize.h"

#include <bit>
#include <cstring>

#include "base/half.h"

namespace qft {
namespace {

static_assert(std::endian::native == std::endian::little, "model files are little-endian");

constexpr int64_t kBlock = 32;
constexpr int64_t kHalfBlock = kBlock / 2;

template <typename T>
T Load(const uint8_t* data) {
  T value;
  std::memcpy(&value, data, sizeof(value));
  return value;
}

float LoadHalf(const uint8_t* data) {
  return Fp16ToFloat(Load<uint16_t>(data));
}

// One fp16 scale, 32 int8 codes.
void DecodeQ8_0(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const uint8_t* codes = block + 2;
  for (int64_t i = 0; i < kBlock; ++i) {
    out[i] = static_cast<float>(static_cast<int8_t>(codes[i])) * scale;
  }
}

// One fp16 scale, 32 codes of 4 bits: low halves are the first 16 values, high halves the others.
void DecodeQ4_0(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const uint8_t* codes = block + 2;
  for (int64_t i = 0; i < kHalfBlock; ++i) {
    out[i] = scale * static_cast<float>((codes[i] & 15) - 8);
    out[i + kHalfBlock] = scale * static_cast<float>((codes[i] >> 4) - 8);
  }
}

// The same with an fp16 minimum after the scale and codes from 0.
void DecodeQ4_1(const uint8_t* block, float* out) {
  const float scale = LoadHalf(block);
  const float minimum = LoadHalf(block + 2);
  const uint8_t* codes = block + 4;
  for (int64_t i = 0; i < kHalfBlock; ++i) {
    out[i] = scale * static_cast<float>(codes[i] & 15) + minimum;
    out[i + kHalfBlock] = scale * static_cast<float>(codes[i] >> 4) + minimum;
  }
}

template <typename Decode>
void DecodeBlocks(const uint8_t* data, int64_t block_bytes, int64_t elements, float* out,
                  Decode decode) {
  for (int64_t i = 0; i < elements; i += kBlock, data += block_bytes) decode(data, out + i);
}

}  // namespace

const StoredTypeTraits& Traits(StoredType type) {
  static constexpr StoredTypeTraits kTraits[] = {
      {"F32", 1, 4, true},        {"F16", 1, 2, true},        {"BF16", 1, 2, true},
      {"F64", 1, 8, true},        {"I8", 1, 1, false},        {"U8", 1, 1, false},
      {"I32", 1, 4, false},       {"I64", 1, 8, false},       {"Q8_0", kBlock, 34, true},
      {"Q4_0", kBlock, 18, true}, {"Q4_1", kBlock, 20, true},
  };
  return kTraits[static_cast<int>(type)];
}

void Dequantize(StoredType type, const void* data, int64_t elements, float* out) {
  const uint8_t* in = static_cast<const uint8_t*>(data);
  const int64_t block_bytes = Traits(type).block_bytes;
  switch (type) {
    case StoredType::kF32:
      std::memcpy(out, in, static_cast<size_t>(elements) * sizeof(float));
      break;
    case StoredType::kF16:
      for (int64_t i = 0; i < elements; ++i) out[i] = LoadHalf(in + 2 * i);
      break;
    case StoredType::kBF16:
      for (int64_t i = 0; i < elements; ++i) out[i] = Bf16ToFloat(Load<uint16_t>(in + 2 * i));
      break;
    case StoredType::kF64:
      for (int64_t i = 0; i < elements; ++i) out[i] = static_cast<float>(Load<double>(in + 8 * i));
      break;
    case StoredType::kQ8_0:
      DecodeBlocks(in, block_bytes, elements, out, DecodeQ8_0);
      break;
    case StoredType::kQ4_0:
      DecodeBlocks(in, block_bytes, elements, out, DecodeQ4_0);
      break;
    case StoredType::kQ4_1:
      DecodeBlocks(in, block_bytes, elements, out, DecodeQ4_1);
      break;
    case StoredType::kI8:
    case StoredType::kU8:
    case StoredType::kI32:
    case StoredType::kI64:
      break;
  }
}

}  // namespace qft
