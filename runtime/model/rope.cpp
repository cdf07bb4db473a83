#include "runtime/model/rope.h"

#include <algorithm>
#include <cmath>

namespace qft {
namespace {

constexpr double kPi = 3.14159265358979323846;

// Long waves are stretched, short ones are not, and in between it is blended.
double Llama3Frequency(const RopeScaling& s, double frequency) {
  const auto context = static_cast<double>(s.original_max_position);
  const double wave = 2 * kPi / frequency;
  if (wave > context / s.low_frequency_factor) return frequency / s.factor;
  if (wave < context / s.high_frequency_factor) return frequency;
  const double smooth = (context / wave - s.low_frequency_factor) /
                        (s.high_frequency_factor - s.low_frequency_factor);
  return (1 - smooth) * frequency / s.factor + smooth * frequency;
}

// The index, of head_dim, whose wave turns `rotations` times within the original context.
double CorrectionIndex(const RopeScaling& s, double rotations, double theta, double head_dim) {
  return head_dim * std::log(static_cast<double>(s.original_max_position) / (rotations * 2 * kPi)) /
         (2 * std::log(theta));
}

// 0: stretched, 1: as it is, for each frequency.
std::vector<double> YarnShares(const RopeScaling& s, double theta, int64_t head_dim) {
  const auto dim = static_cast<double>(head_dim);
  double low = CorrectionIndex(s, s.beta_fast, theta, dim);
  double high = CorrectionIndex(s, s.beta_slow, theta, dim);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, dim - 1);
  if (low == high) high += 0.001;
  std::vector<double> shares;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    shares.push_back(1 - std::clamp((static_cast<double>(i) - low) / (high - low), 0.0, 1.0));
  }
  return shares;
}

double YarnScale(double factor, double mscale) {
  return factor <= 1 ? 1 : 0.1 * mscale * std::log(factor) + 1;
}

}  // namespace

std::vector<float> InverseFrequencies(const RopeScaling& scaling, double theta, int64_t head_dim) {
  std::vector<double> shares;
  if (scaling.kind == RopeKind::kYarn) shares = YarnShares(scaling, theta, head_dim);
  std::vector<float> frequencies;
  for (int64_t i = 0; i < head_dim / 2; ++i) {
    const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(head_dim);
    double frequency = 1.0 / std::pow(theta, exponent);
    switch (scaling.kind) {
      case RopeKind::kPlain:
      case RopeKind::kDynamic:
        break;
      case RopeKind::kLinear:
        frequency /= scaling.factor;
        break;
      case RopeKind::kLlama3:
        frequency = Llama3Frequency(scaling, frequency);
        break;
      case RopeKind::kYarn: {
        const double share = shares[static_cast<size_t>(i)];
        frequency = frequency / scaling.factor * (1 - share) + frequency * share;
        break;
      }
    }
    frequencies.push_back(static_cast<float>(frequency));
  }
  return frequencies;
}

double RopeMagnitude(const RopeScaling& scaling) {
  if (scaling.kind != RopeKind::kYarn) return 1;
  if (scaling.attention_factor.has_value()) return *scaling.attention_factor;
  const double mscale = scaling.mscale.value_or(0);
  const double all_dim = scaling.mscale_all_dim.value_or(0);
  if (mscale != 0 && all_dim != 0) {
    return YarnScale(scaling.factor, mscale) / YarnScale(scaling.factor, all_dim);
  }
  return YarnScale(scaling.factor, 1);
}

}  // namespace qft
