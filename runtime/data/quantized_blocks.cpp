#include "runtime/data/quantized_blocks.h"

#include "base/half.h"

namespace qft {
namespace {

constexpr int kHalf = 16;      // of a block of 32
constexpr int kShortRun = 16;  // of Q2_K, Q3_K and Q6_K
constexpr int kShortRuns = 16;
constexpr int kLongRun = 32;  // of Q4_K and Q5_K
constexpr int kLongRuns = 8;

// Value `i` of half `half` of a block of 32.
int FourBits(const uint8_t* codes, int half, int i) {
  return codes[i] >> (4 * half) & 15;
}

int FiveBits(const uint8_t* codes, const uint8_t* high_bits, int half, int i) {
  const int high = high_bits[2 * half + i / 8] >> (i % 8) & 1;
  return FourBits(codes, half, i) | high << 4;
}

// Value `i` of run `run` of 16 of the 2-bit codes of a k-quant.
int TwoBits(const uint8_t* codes, int run, int i) {
  return codes[run / 8 * 32 + run % 2 * kShortRun + i] >> (run / 2 % 4 * 2) & 3;
}

float ScaleOfQ3_K(const BlockQ3_K& block, int run) {
  const int low = block.scales[run % 8] >> (run / 8 * 4) & 15;
  const int high = block.scales[8 + run % 4] >> (run / 4 * 2) & 3;
  return Fp16ToFloat(block.scale) * static_cast<float>((low | high << 4) - 32);
}

struct LongRun {
  float scale;
  float minimum;
  const uint8_t* codes;
  int shift;  // of the run's half of each byte
};

template <typename Block>  // BlockQ4_K or BlockQ5_K
LongRun RunOf(const Block& block, int run) {
  const uint8_t* packed = block.scales;
  int scale = packed[run % 4] & 63;
  int minimum = packed[4 + run % 4] & 63;
  if (run >= 4) {
    const int place = run - 4;
    scale = (packed[8 + place] & 15) | (packed[place] >> 6 << 4);
    minimum = (packed[8 + place] >> 4) | (packed[4 + place] >> 6 << 4);
  }
  return {Fp16ToFloat(block.scale) * static_cast<float>(scale),
          Fp16ToFloat(block.minimum) * static_cast<float>(minimum),
          block.codes + run / 2 * kLongRun, run % 2 * 4};
}

}  // namespace

void Decode(const BlockQ4_0& block, float* out) {
  const float scale = Fp16ToFloat(block.scale);
  for (int half = 0; half < 2; ++half, out += kHalf) {
    for (int i = 0; i < kHalf; ++i) {
      out[i] = scale * static_cast<float>(FourBits(block.codes, half, i) - 8);
    }
  }
}

void Decode(const BlockQ4_1& block, float* out) {
  const float scale = Fp16ToFloat(block.scale);
  const float minimum = Fp16ToFloat(block.minimum);
  for (int half = 0; half < 2; ++half, out += kHalf) {
    for (int i = 0; i < kHalf; ++i) {
      out[i] = scale * static_cast<float>(FourBits(block.codes, half, i)) + minimum;
    }
  }
}

void Decode(const BlockQ5_0& block, float* out) {
  const float scale = Fp16ToFloat(block.scale);
  for (int half = 0; half < 2; ++half, out += kHalf) {
    for (int i = 0; i < kHalf; ++i) {
      const int code = FiveBits(block.codes, block.high_bits, half, i);
      out[i] = scale * static_cast<float>(code - 16);
    }
  }
}

void Decode(const BlockQ5_1& block, float* out) {
  const float scale = Fp16ToFloat(block.scale);
  const float minimum = Fp16ToFloat(block.minimum);
  for (int half = 0; half < 2; ++half, out += kHalf) {
    for (int i = 0; i < kHalf; ++i) {
      const int code = FiveBits(block.codes, block.high_bits, half, i);
      out[i] = scale * static_cast<float>(code) + minimum;
    }
  }
}

void Decode(const BlockQ8_0& block, float* out) {
  const float scale = Fp16ToFloat(block.scale);
  for (int i = 0; i < BlockQ8_0::kElements; ++i) {
    out[i] = scale * static_cast<float>(block.codes[i]);
  }
}

void Decode(const BlockQ2_K& block, float* out) {
  for (int run = 0; run < kShortRuns; ++run, out += kShortRun) {
    const float scale = Fp16ToFloat(block.scale) * static_cast<float>(block.scales[run] & 15);
    const float minimum = Fp16ToFloat(block.minimum) * static_cast<float>(block.scales[run] >> 4);
    for (int i = 0; i < kShortRun; ++i) {
      out[i] = scale * static_cast<float>(TwoBits(block.codes, run, i)) - minimum;
    }
  }
}

void Decode(const BlockQ3_K& block, float* out) {
  for (int run = 0; run < kShortRuns; ++run, out += kShortRun) {
    const float scale = ScaleOfQ3_K(block, run);
    const uint8_t* high_bits = block.high_bits + run % 2 * kShortRun;
    for (int i = 0; i < kShortRun; ++i) {
      const int high = high_bits[i] >> (run / 2) & 1;
      out[i] = scale * static_cast<float>((TwoBits(block.codes, run, i) | high << 2) - 4);
    }
  }
}

void Decode(const BlockQ4_K& block, float* out) {
  for (int index = 0; index < kLongRuns; ++index, out += kLongRun) {
    const LongRun run = RunOf(block, index);
    for (int i = 0; i < kLongRun; ++i) {
      out[i] = run.scale * static_cast<float>(run.codes[i] >> run.shift & 15) - run.minimum;
    }
  }
}

void Decode(const BlockQ5_K& block, float* out) {
  for (int index = 0; index < kLongRuns; ++index, out += kLongRun) {
    const LongRun run = RunOf(block, index);
    for (int i = 0; i < kLongRun; ++i) {
      const int high = block.high_bits[i] >> index & 1;
      const int code = (run.codes[i] >> run.shift & 15) | high << 4;
      out[i] = run.scale * static_cast<float>(code) - run.minimum;
    }
  }
}

void Decode(const BlockQ6_K& block, float* out) {
  for (int run = 0; run < kShortRuns; ++run, out += kShortRun) {
    const float scale = Fp16ToFloat(block.scale) * static_cast<float>(block.scales[run]);
    const uint8_t* codes = block.codes + run / 8 * 64 + run % 4 * kShortRun;
    const int shift = run / 4 % 2 * 4;
    for (int i = 0; i < kShortRun; ++i) {
      const int code = (codes[i] >> shift & 15) | TwoBits(block.high_bits, run, i) << 4;
      out[i] = scale * static_cast<float>(code - 32);
    }
  }
}

void Decode(const BlockQ8_K& block, float* out) {
  for (int i = 0; i < BlockQ8_K::kElements; ++i) {
    out[i] = block.scale * static_cast<float>(block.codes[i]);
  }
}

}  // namespace qft
