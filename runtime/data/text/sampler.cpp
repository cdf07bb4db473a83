#include "runtime/data/text/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/philox.h"

namespace qft {
namespace {

constexpr char kSampleStream[] = "generate.sample";

// Uniform in [0, 1), 53 bits.
double Uniform(uint64_t seed, uint64_t index) {
  const PhiloxBlock random = Philox(StreamKey(seed, kSampleStream), index, 0);
  const uint64_t bits = static_cast<uint64_t>(random.word[1]) << 32 | random.word[0];
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

Status CheckLogits(const float* logits, int64_t count) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  bool any = false;
  for (int64_t i = 0; i < count; ++i) {
    if (!(logits[i] < kInfinity)) {
      return MakeError(ErrorCode::kNonFinite,
                       absl::StrCat("the logit of token ", i, " is not finite"));
    }
    any = any || logits[i] > -kInfinity;
  }
  return any ? absl::OkStatus() : MakeError(ErrorCode::kNonFinite, "all logits are -inf");
}

// The candidates, the most likely first.
std::vector<int32_t> Candidates(const float* logits, int64_t count, int64_t top_k) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) ids[static_cast<size_t>(i)] = static_cast<int32_t>(i);
  const auto before = [logits](int32_t a, int32_t b) {
    return logits[a] != logits[b] ? logits[a] > logits[b] : a < b;
  };
  const int64_t kept = top_k > 0 ? std::min(top_k, count) : count;
  std::partial_sort(ids.begin(), ids.begin() + kept, ids.end(), before);
  ids.resize(static_cast<size_t>(kept));
  return ids;
}

}  // namespace

Status CheckSamplerOptions(const SamplerOptions& options) {
  const auto refuse = [](const char* name, double value, const char* range) {
    return MakeError(ErrorCode::kOutOfRange,
                     absl::StrCat(name, " is ", value, ", must be ", range));
  };
  if (!(options.temperature >= 0) || !std::isfinite(options.temperature)) {
    return refuse("temperature", options.temperature, "at least 0");
  }
  if (options.top_k < 0) {
    return refuse("top_k", static_cast<double>(options.top_k), "at least 0");
  }
  if (!(options.top_p >= 0 && options.top_p <= 1)) {
    return refuse("top_p", options.top_p, "0 to 1");
  }
  return absl::OkStatus();
}

StatusOr<int32_t> SampleToken(const float* logits, int64_t count, const SamplerOptions& options,
                              uint64_t index) {
  QFT_RETURN_IF_ERROR(CheckLogits(logits, count));
  if (options.temperature == 0) {
    return static_cast<int32_t>(std::max_element(logits, logits + count) - logits);
  }
  const std::vector<int32_t> ids = Candidates(logits, count, options.top_k);
  std::vector<double> weights(ids.size());
  double total = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const double below_best = static_cast<double>(logits[ids[i]]) - logits[ids[0]];
    weights[i] = std::exp(below_best / options.temperature);
    total += weights[i];
  }
  if (options.top_p > 0) {
    double kept = 0;
    size_t last = 0;
    for (; last < ids.size() && kept < options.top_p * total; ++last) kept += weights[last];
    weights.resize(last);
    total = kept;
  }
  double left = Uniform(options.seed, index) * total;
  for (size_t i = 0; i < weights.size(); ++i) {
    left -= weights[i];
    if (left < 0) return ids[i];
  }
  // Rounding used up the sum: the last one that could be chosen at all.
  size_t last = weights.size() - 1;
  while (weights[last] == 0) --last;
  return ids[last];
}

}  // namespace qft
