#include "runtime/data/dequantize.h"

#include <bit>
#include <cstring>

#include "base/half.h"
#include "runtime/data/quantized_blocks.h"

namespace qft {
namespace {

static_assert(std::endian::native == std::endian::little, "model files are little-endian");

template <typename T>
T Load(const uint8_t* data) {
  T value;
  std::memcpy(&value, data, sizeof(value));
  return value;
}

void DecodeF32(const uint8_t* data, int64_t elements, float* out) {
  std::memcpy(out, data, static_cast<size_t>(elements) * sizeof(float));
}

float NarrowF64(double value) {
  return static_cast<float>(value);
}

template <typename Stored, float (*kToFloat)(Stored)>
void DecodePlain(const uint8_t* data, int64_t elements, float* out) {
  for (int64_t i = 0; i < elements; ++i, data += sizeof(Stored)) {
    out[i] = kToFloat(Load<Stored>(data));
  }
}

template <typename Block>
void DecodeBlocks(const uint8_t* data, int64_t elements, float* out) {
  for (int64_t i = 0; i < elements; i += Block::kElements, data += sizeof(Block)) {
    Decode(Load<Block>(data), out + i);
  }
}

template <typename Block>
constexpr StoredTypeTraits Quantized(const char* name) {
  return {name, Block::kElements, sizeof(Block), DecodeBlocks<Block>};
}

}  // namespace

const StoredTypeTraits& Traits(StoredType type) {
  static constexpr StoredTypeTraits kTraits[] = {
      {"F32", 1, 4, DecodeF32},
      {"F16", 1, 2, DecodePlain<uint16_t, Fp16ToFloat>},
      {"BF16", 1, 2, DecodePlain<uint16_t, Bf16ToFloat>},
      {"F64", 1, 8, DecodePlain<double, NarrowF64>},
      {"I8", 1, 1, nullptr},
      {"U8", 1, 1, nullptr},
      {"I32", 1, 4, nullptr},
      {"I64", 1, 8, nullptr},
      Quantized<BlockQ4_0>("Q4_0"),
      Quantized<BlockQ4_1>("Q4_1"),
      Quantized<BlockQ5_0>("Q5_0"),
      Quantized<BlockQ5_1>("Q5_1"),
      Quantized<BlockQ8_0>("Q8_0"),
      Quantized<BlockQ2_K>("Q2_K"),
      Quantized<BlockQ3_K>("Q3_K"),
      Quantized<BlockQ4_K>("Q4_K"),
      Quantized<BlockQ5_K>("Q5_K"),
      Quantized<BlockQ6_K>("Q6_K"),
      Quantized<BlockQ8_K>("Q8_K"),
  };
  return kTraits[static_cast<int>(type)];
}

void Dequantize(StoredType type, const void* data, int64_t elements, float* out) {
  Traits(type).decode(static_cast<const uint8_t*>(data), elements, out);
}

}  // namespace qft
