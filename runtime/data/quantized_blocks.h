// The blocks that ggml's quantised types are made of, as GGUF files hold them: fields in the file's
// order, little-endian, without padding. `scale` and `minimum` are fp16 bits unless said otherwise.
//
// Decode writes a block's kElements values in fp32, bit for bit what the gguf Python package makes
// of them: a run's scale is the product of the block's and the run's rounded to fp32, and so are
// its minimum, the product of scale and code, and the sum.
#pragma once

#include <cstdint>

namespace qft {

// The types with one scale for 32 values. Of 4-bit codes byte i holds value i in its low half and
// value i + 16 in its high half; a fifth bit of value i is bit i % 8 of `high_bits[i / 8]`.

// scale * (code - 8)
struct BlockQ4_0 {
  static constexpr int64_t kElements = 32;
  uint16_t scale;
  uint8_t codes[16];
};
static_assert(sizeof(BlockQ4_0) == 18);

// scale * code + minimum
struct BlockQ4_1 {
  static constexpr int64_t kElements = 32;
  uint16_t scale;
  uint16_t minimum;
  uint8_t codes[16];
};
static_assert(sizeof(BlockQ4_1) == 20);

// scale * (code - 16)
struct BlockQ5_0 {
  static constexpr int64_t kElements = 32;
  uint16_t scale;
  uint8_t high_bits[4];
  uint8_t codes[16];
};
static_assert(sizeof(BlockQ5_0) == 22);

// scale * code + minimum
struct BlockQ5_1 {
  static constexpr int64_t kElements = 32;
  uint16_t scale;
  uint16_t minimum;
  uint8_t high_bits[4];
  uint8_t codes[16];
};
static_assert(sizeof(BlockQ5_1) == 24);

// scale * code
struct BlockQ8_0 {
  static constexpr int64_t kElements = 32;
  uint16_t scale;
  int8_t codes[32];
};
static_assert(sizeof(BlockQ8_0) == 34);

// The k-quants: 256 values in runs of 16 or 32 that have integer scales of their own. Of 2-bit
// codes byte 32 c + i holds values 128 c + i, 128 c + 32 + i, 128 c + 64 + i and 128 c + 96 + i,
// from the lowest bits up.

// Runs of 16: (scale * low half of scales[run]) * code - minimum * high half of scales[run].
struct BlockQ2_K {
  static constexpr int64_t kElements = 256;
  uint8_t scales[16];
  uint8_t codes[64];
  uint16_t scale;
  uint16_t minimum;
};
static_assert(sizeof(BlockQ2_K) == 84);

// Runs of 16: (scale * (run's scale - 32)) * (code - 4 where the value's high bit is 0). Value
// 32 r + i has bit r of high_bits[i]. The 6-bit scale of run s has its low half in byte s % 8 of
// `scales`, in the low half for s < 8, and its high two bits in bits 2 (s / 4) of byte 8 + s % 4.
struct BlockQ3_K {
  static constexpr int64_t kElements = 256;
  uint8_t high_bits[32];
  uint8_t codes[64];
  uint8_t scales[12];
  uint16_t scale;
};
static_assert(sizeof(BlockQ3_K) == 110);

// Runs of 32: (scale * run's scale) * code - minimum * run's minimum. Byte 32 c + i of the codes
// holds value 64 c + i in its low half and 64 c + 32 + i in its high half. The 6-bit scale and
// minimum of run r < 4 are the low bits of bytes r and 4 + r of `scales`; those of run 4 + r are
// the low and high half of byte 8 + r, and their high two bits the top bits of bytes r and 4 + r.
struct BlockQ4_K {
  static constexpr int64_t kElements = 256;
  uint16_t scale;
  uint16_t minimum;
  uint8_t scales[12];
  uint8_t codes[128];
};
static_assert(sizeof(BlockQ4_K) == 144);

// Q4_K with a fifth bit: that of value 32 r + i is bit r of high_bits[i].
struct BlockQ5_K {
  static constexpr int64_t kElements = 256;
  uint16_t scale;
  uint16_t minimum;
  uint8_t scales[12];
  uint8_t high_bits[32];
  uint8_t codes[128];
};
static_assert(sizeof(BlockQ5_K) == 176);

// Runs of 16: (scale * scales[run]) * (code - 32). Byte 64 c + i of the codes holds the low bits of
// value 128 c + i in its low half and of 128 c + 64 + i in its high half; the high two are 2-bit
// codes.
struct BlockQ6_K {
  static constexpr int64_t kElements = 256;
  uint8_t codes[128];
  uint8_t high_bits[64];
  int8_t scales[16];
  uint16_t scale;
};
static_assert(sizeof(BlockQ6_K) == 210);

// scale * code. The sums of each 16 codes serve ggml's dot products.
struct BlockQ8_K {
  static constexpr int64_t kElements = 256;
  float scale;
  int8_t codes[256];
  int16_t sums[16];
};
static_assert(sizeof(BlockQ8_K) == 292);

void Decode(const BlockQ4_0& block, float* out);
void Decode(const BlockQ4_1& block, float* out);
void Decode(const BlockQ5_0& block, float* out);
void Decode(const BlockQ5_1& block, float* out);
void Decode(const BlockQ8_0& block, float* out);
void Decode(const BlockQ2_K& block, float* out);
void Decode(const BlockQ3_K& block, float* out);
void Decode(const BlockQ4_K& block, float* out);
void Decode(const BlockQ5_K& block, float* out);
void Decode(const BlockQ6_K& block, float* out);
void Decode(const BlockQ8_K& block, float* out);

}  // namespace qft
