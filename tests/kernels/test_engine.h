// What the tests of the operations share: every variant of the CPU engine this processor can run
// and the CUDA engine where there is a device, buffers whose contents start poisoned and whose ends
// are guarded, and repeatable random data.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <type_traits>
#include <vector>

#include "kernels/cpu/create.h"
#include "runtime/cuda_module.h"

namespace qft {

inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

using EnginePointer = std::unique_ptr<Engine>;

// nullptr where this machine lacks what the variant needs.
inline EnginePointer CreateVariant(const std::string& variant, int threads) {
  if (variant != "cuda") return EnginePointer(CreateCpuEngineFor(variant.c_str(), threads));
  StatusOr<EnginePointer> engine = MakeCudaEngine(0);
  return engine.ok() ? *std::move(engine) : nullptr;
}

inline std::vector<std::string> EngineVariants() {
  std::vector<std::string> variants;
  for (const char* name :
       {"plain", "avx2", "avx512", "plain-own", "avx2-own", "avx512-own", "cuda"}) {
    if (CreateVariant(name, 1) != nullptr) variants.push_back(name);
  }
  return variants;
}

inline bool IsCuda(Engine& engine) {
  return std::strcmp(engine.Name(), "cuda") == 0;
}

// Equal, or where the sums' order is the engine's, within `bound`.
inline void ExpectSum(Engine& engine, float got, float expected, float bound) {
  if (IsCuda(engine)) {
    EXPECT_NEAR(got, expected, bound);
  } else {
    EXPECT_EQ(got, expected);
  }
}

// Engine memory: filled with 0xCD, which as a float, a code or a scale is a value no test expects,
// and followed by a guard that must survive.
template <typename T>
class EngineArray {
 public:
  EngineArray(Engine& engine, int64_t count) : engine_(engine), count_(count) {
    data_ = static_cast<T*>(engine.Allocate(Bytes() + kGuard));
    engine.Fill(data_, 0xCD, Bytes() + kGuard);
  }
  EngineArray(Engine& engine, const std::vector<T>& values)
      : EngineArray(engine, static_cast<int64_t>(values.size())) {
    engine.CopyToEngine(data_, values.data(), Bytes());
  }
  ~EngineArray() {
    std::vector<uint8_t> guard(kGuard);
    engine_.CopyToHost(guard.data(), reinterpret_cast<char*>(data_) + Bytes(), kGuard);
    EXPECT_EQ(guard, std::vector<uint8_t>(kGuard, 0xCD)) << "written past the end";
    engine_.Free(data_, Bytes() + kGuard);
  }
  EngineArray(const EngineArray&) = delete;
  EngineArray& operator=(const EngineArray&) = delete;

  T* data() const { return data_; }
  int64_t size() const { return count_; }
  std::vector<T> Read() const {
    std::vector<T> values(static_cast<size_t>(count_));
    engine_.CopyToHost(values.data(), data_, Bytes());
    return values;
  }

 private:
  static constexpr size_t kGuard = 256;
  size_t Bytes() const { return static_cast<size_t>(count_) * sizeof(T); }

  Engine& engine_;
  int64_t count_;
  T* data_;
};

// A step state in engine memory.
class EngineStep {
 public:
  EngineStep(Engine& engine, const StepState& step)
      : memory_(engine, std::vector<StepState>{step}) {}
  StepState* data() const { return memory_.data(); }
  StepState Read() const { return memory_.Read()[0]; }

 private:
  EngineArray<StepState> memory_;
};

// What an operation left behind, as bytes: floats are compared by their bits. Sums whose order is
// the engine's are the same bits on every variant of an engine, and close on another engine.
class Outputs {
 public:
  void AddSums(const EngineArray<float>& array) { AddSums(array.Read()); }
  void AddSums(const std::vector<float>& values) {
    sums_.insert(sums_.end(), values.begin(), values.end());
  }
  bool CloseTo(const Outputs& other) const {
    if (bytes_ != other.bytes_ || sums_.size() != other.sums_.size()) return false;
    float largest = 0;
    for (const float sum : sums_) largest = std::max(largest, std::fabs(sum));
    for (size_t i = 0; i < sums_.size(); ++i) {
      if (std::isnan(sums_[i]) && std::isnan(other.sums_[i])) continue;
      if (!(std::fabs(sums_[i] - other.sums_[i]) <= 1e-5f * largest)) return false;
    }
    return true;
  }
  template <typename T>
  void Add(const EngineArray<T>& array) {
    AddValues(array.Read());
  }
  template <typename T>
  void AddValues(std::vector<T> values) {
    if constexpr (std::is_same_v<T, float>) {
      // Which NaN comes out of an operation is the processor's choice.
      for (float& value : values) value = std::isnan(value) ? kNaN : value;
    }
    const auto* begin = reinterpret_cast<const uint8_t*>(values.data());
    bytes_.insert(bytes_.end(), begin, begin + values.size() * sizeof(T));
  }
  bool operator==(const Outputs& other) const {
    return bytes_ == other.bytes_ && sums_.size() == other.sums_.size() &&
           std::memcmp(sums_.data(), other.sums_.data(), sums_.size() * sizeof(float)) == 0;
  }

 private:
  std::vector<uint8_t> bytes_;
  std::vector<float> sums_;
};

// Runs `body` on every variant with one to three threads: the outputs must be the same bits, but
// for the CUDA engine's sums.
inline void ExpectSameEverywhere(const std::function<Outputs(Engine&)>& body) {
  bool first = true;
  Outputs expected;
  for (const std::string& variant : EngineVariants()) {
    const bool cuda = variant == "cuda";
    for (int threads = 1; threads <= (cuda ? 1 : 3); ++threads) {
      const EnginePointer engine = CreateVariant(variant, threads);
      const Outputs outputs = body(*engine);
      const char* const error = engine->Synchronize();
      ASSERT_EQ(error, nullptr) << error;
      if (first) expected = outputs;
      first = false;
      ASSERT_TRUE(cuda ? outputs.CloseTo(expected) : outputs == expected)
          << variant << " with " << threads << " threads";
    }
  }
  ASSERT_FALSE(first);
}

// Repeatable numbers (splitmix64).
class TestRandom {
 public:
  explicit TestRandom(uint64_t seed) : state_(seed) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  // Uniform in [-1, 1).
  float Symmetric() { return static_cast<float>(Next() >> 40) * 0x1p-23f - 1.0f; }

  std::vector<float> Floats(int64_t count, float magnitude = 1.0f) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = magnitude * Symmetric();
    return values;
  }
  // Positive, within a factor of four of each other.
  std::vector<float> Scales(int64_t count, float magnitude = 1.0f) {
    std::vector<float> values(static_cast<size_t>(count));
    for (float& value : values) value = magnitude * (1.0f + 0.6f * Symmetric());
    return values;
  }
  std::vector<int8_t> Codes(int64_t count, int limit = 127) {
    std::vector<int8_t> codes(static_cast<size_t>(count));
    for (int8_t& code : codes) {
      code = static_cast<int8_t>(static_cast<int64_t>(Next() % (2 * limit + 1)) - limit);
    }
    return codes;
  }

 private:
  uint64_t state_;
};

}  // namespace qft
