// What the tests of the layer ops share: the engines they run on, buffers in engine memory, random
// inputs and two ways to compare.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/create.h"
#include "kernels/ops.h"
#include "runtime/cuda_module.h"

namespace qft {

using Floats = std::vector<float>;
using Doubles = std::vector<double>;

// A buffer in engine memory.
template <typename T>
class EngineArray {
 public:
  EngineArray(Engine* engine, const std::vector<T>& values) : EngineArray(engine, values.size()) {
    engine_->CopyToEngine(data_, values.data(), values.size() * sizeof(T));
  }
  // Every byte 0xff: NaN as fp32, so that an output nobody writes is noticed.
  EngineArray(Engine* engine, size_t count) : engine_(engine), count_(count) {
    data_ = static_cast<T*>(engine->Allocate(count * sizeof(T)));
    engine_->Fill(data_, 0xff, count * sizeof(T));
  }
  ~EngineArray() { engine_->Free(data_, count_ * sizeof(T)); }
  EngineArray(const EngineArray&) = delete;
  EngineArray& operator=(const EngineArray&) = delete;

  T* data() const { return data_; }
  std::vector<T> Download() const {
    std::vector<T> values(count_);
    EXPECT_EQ(engine_->Synchronize(), nullptr);
    engine_->CopyToHost(values.data(), data_, count_ * sizeof(T));
    return values;
  }
  Matrix AsMatrix(int64_t rows) const {
    return {data_, DType::kF32, rows, static_cast<int64_t>(count_) / rows};
  }

 private:
  Engine* engine_;
  size_t count_;
  T* data_;
};

struct NamedEngine {
  std::string name;
  std::unique_ptr<Engine> engine;
};

// Every instruction set this processor has, on 1, 2 and 3 threads, and the GPU, if there is one.
inline std::vector<NamedEngine> LayerEngines() {
  std::vector<NamedEngine> engines;
  for (const char* isa : {"plain", "avx2", "avx512"}) {
    for (int threads = 1; threads <= 3; ++threads) {
      std::unique_ptr<Engine> engine(CreateCpuEngineFor(isa, threads));
      if (engine == nullptr) continue;
      engines.push_back({std::string(isa) + "/" + std::to_string(threads), std::move(engine)});
    }
  }
  StatusOr<std::unique_ptr<Engine>> cuda = MakeCudaEngine(0);
  if (cuda.ok()) engines.push_back({"cuda", *std::move(cuda)});
  return engines;
}

// Any NaN equals any other: which of two NaN operands an instruction hands on is the compiler's
// choice.
inline bool SameBits(const Floats& a, const Floats& b) {
  const auto same = [](float x, float y) {
    return (std::isnan(x) && std::isnan(y)) ||
           std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y);
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

// Within `tolerance` of the largest, or of 1 where all are smaller, as where everything cancels;
// NaN where the other is NaN, infinite where the other is.
inline bool Close(const Floats& a, const Floats& b, float tolerance = 1e-5f) {
  float largest = 1;
  for (const float x : a) {
    if (std::isfinite(x)) largest = std::max(largest, std::abs(x));
  }
  const auto close = [&](float x, float y) {
    if (std::isnan(x) || std::isnan(y)) return std::isnan(x) && std::isnan(y);
    return x == y || std::abs(x - y) <= tolerance * largest;
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), close);
}

// Runs `op` (Engine* -> std::vector<Floats>, its outputs) on every engine, expects the same bits of
// all variants of the CPU engine, close values of the CUDA engine, and returns the former.
inline std::vector<Floats> RunEverywhere(const std::function<std::vector<Floats>(Engine*)>& op,
                                         float tolerance = 1e-5f) {
  std::vector<Floats> expected;
  for (const NamedEngine& named : LayerEngines()) {
    const std::vector<Floats> got = op(named.engine.get());
    EXPECT_EQ(named.engine->Synchronize(), nullptr);
    if (expected.empty()) expected = got;
    EXPECT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      const bool same = named.name == "cuda" ? Close(expected[i], got[i], tolerance)
                                             : SameBits(got[i], expected[i]);
      EXPECT_TRUE(same) << "output " << i << " on " << named.name;
    }
  }
  return expected;
}

inline Floats RandomFloats(size_t count, uint32_t seed, float deviation = 1.0f) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  Floats values(count);
  for (float& value : values) value = normal(random);
  return values;
}

inline Doubles ToDoubles(const Floats& values) {
  return Doubles(values.begin(), values.end());
}

// Largest difference, relative to the largest expected magnitude. Infinite when something is NaN.
template <typename T>
double RelativeError(const std::vector<T>& got, const Doubles& expected) {
  EXPECT_EQ(got.size(), expected.size());
  double largest = 0, difference = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double d = std::abs(static_cast<double>(got[i]) - expected[i]);
    if (std::isnan(d)) return std::numeric_limits<double>::infinity();
    difference = std::max(difference, d);
    largest = std::max(largest, std::abs(expected[i]));
  }
  return largest > 0 ? difference / largest : difference;
}

// d loss / d input[i] by central differences, for every i.
inline Doubles NumericGradient(const std::function<double(const Doubles&)>& loss, Doubles input,
                               double step = 1e-5) {
  Doubles gradient(input.size());
  for (size_t i = 0; i < input.size(); ++i) {
    const double value = input[i];
    input[i] = value + step;
    const double up = loss(input);
    input[i] = value - step;
    gradient[i] = (up - loss(input)) / (2 * step);
    input[i] = value;
  }
  return gradient;
}

inline double DotProduct(const Doubles& a, const Doubles& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

// What QuantizeRows makes of one fp32 row, written plainly.
struct QuantizedRow {
  std::vector<int8_t> codes;
  float scale;
};

inline QuantizedRow QuantizeReference(const float* row, size_t cols) {
  float absmax = 0;
  for (size_t c = 0; c < cols; ++c) {
    if (!std::isfinite(row[c])) return {std::vector<int8_t>(cols), std::nanf("")};
    absmax = std::max(absmax, std::abs(row[c]));
  }
  const float inverse = 127.0f / absmax;
  if (!std::isfinite(inverse)) return {std::vector<int8_t>(cols), 0.0f};
  QuantizedRow result{{}, absmax / 127.0f};
  for (size_t c = 0; c < cols; ++c) {
    result.codes.push_back(static_cast<int8_t>(std::nearbyint(row[c] * inverse)));
  }
  return result;
}

// Expects codes and scales to be what QuantizeRows makes of `values`, to the bit.
inline void ExpectQuantized(const Floats& values, size_t cols, const std::vector<int8_t>& codes,
                            const Floats& scales) {
  for (size_t r = 0; r < scales.size(); ++r) {
    const QuantizedRow row = QuantizeReference(values.data() + r * cols, cols);
    EXPECT_TRUE(std::equal(row.codes.begin(), row.codes.end(), codes.begin() + r * cols)) << r;
    if (std::isnan(row.scale)) {
      EXPECT_TRUE(std::isnan(scales[r])) << r;
    } else {
      EXPECT_EQ(row.scale, scales[r]) << r;
    }
  }
}

}  // namespace qft
