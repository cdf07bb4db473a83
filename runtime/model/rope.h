// Rotary embeddings: the frequencies of a model's kind of scaling. The formulas are those of the
// models' reference implementation (transformers, modeling_rope_utils).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace qft {

enum class RopeKind { kPlain, kLinear, kDynamic, kLlama3, kYarn };

// Names in a config.json, by value.
inline constexpr const char* kRopeKindNames[] = {"default", "linear", "dynamic", "llama3", "yarn"};

struct RopeScaling {
  RopeKind kind = RopeKind::kPlain;
  double factor = 1;
  int64_t original_max_position = 0;       // llama3, yarn: the context before it was stretched
  double low_frequency_factor = 1;         // llama3
  double high_frequency_factor = 4;        // llama3
  std::optional<double> attention_factor;  // yarn, as the four that follow
  double beta_fast = 32;
  double beta_slow = 1;
  std::optional<double> mscale;
  std::optional<double> mscale_all_dim;
  bool truncate = true;

  bool operator==(const RopeScaling&) const = default;
};

// [head_dim / 2]. kDynamic: those of documents no longer than the model's context.
std::vector<float> InverseFrequencies(const RopeScaling& scaling, double theta, int64_t head_dim);

// What multiplies the rotated queries and the rotated keys: 1 but for yarn.
double RopeMagnitude(const RopeScaling& scaling);

}  // namespace qft
