#include "runtime/data/text/learning_rate.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace qft {
namespace {

std::vector<double> Rates(const LearningRateSchedule& schedule) {
  std::vector<double> rates;
  for (int64_t step = 0; step < schedule.steps; ++step) {
    const auto rate = LearningRate(schedule, step);
    EXPECT_TRUE(rate.ok()) << rate.status();
    rates.push_back(rate.value_or(-1));
  }
  return rates;
}

TEST(LearningRate, Constant) {
  EXPECT_EQ(Rates({.kind = ScheduleKind::kConstant, .peak = 8, .steps = 5, .warmup_steps = 4}),
            (std::vector<double>{2, 4, 6, 8, 8}));
}

TEST(LearningRate, LinearReachesTheMinimumAtTheLastStep) {
  EXPECT_EQ(Rates({.kind = ScheduleKind::kLinear, .peak = 8, .steps = 5}),
            (std::vector<double>{8, 6, 4, 2, 0}));
  EXPECT_EQ(Rates({.kind = ScheduleKind::kLinear,
                   .peak = 8,
                   .minimum_share = 0.5,
                   .steps = 6,
                   .warmup_steps = 2}),
            (std::vector<double>{4, 8, 7, 6, 5, 4}));
}

TEST(LearningRate, Cosine) {
  const auto rates = Rates({.kind = ScheduleKind::kCosine,
                            .peak = 1,
                            .minimum_share = 0.1,
                            .steps = 11,
                            .warmup_steps = 1});
  EXPECT_EQ(rates.front(), 1);
  EXPECT_DOUBLE_EQ(rates[5], 0.55);
  EXPECT_DOUBLE_EQ(rates[2], 1 - 0.9 * 0.5 * (1 - std::cos(M_PI * 0.2)));
  EXPECT_DOUBLE_EQ(rates.back(), 0.1);
}

TEST(LearningRate, WarmupStableDecay) {
  EXPECT_EQ(Rates({.kind = ScheduleKind::kWarmupStableDecay,
                   .peak = 8,
                   .steps = 8,
                   .warmup_steps = 2,
                   .decay_steps = 4}),
            (std::vector<double>{4, 8, 8, 8, 6, 4, 2, 0}));
  const auto tenth = Rates({.kind = ScheduleKind::kWarmupStableDecay, .peak = 8, .steps = 20});
  EXPECT_EQ(tenth[17], 8);
  EXPECT_EQ(tenth[18], 4);
  EXPECT_EQ(tenth[19], 0);
}

TEST(LearningRate, ShortRuns) {
  for (const auto kind : {ScheduleKind::kConstant, ScheduleKind::kLinear, ScheduleKind::kCosine}) {
    EXPECT_EQ(Rates({.kind = kind, .peak = 3, .steps = 1}), (std::vector<double>{3}));
    EXPECT_EQ(Rates({.kind = kind, .peak = 3, .steps = 1, .warmup_steps = 1}),
              (std::vector<double>{3}));
    EXPECT_EQ(Rates({.kind = kind, .peak = 4, .steps = 2, .warmup_steps = 2}),
              (std::vector<double>{2, 4}));
  }
  EXPECT_EQ(
      Rates({.kind = ScheduleKind::kWarmupStableDecay, .peak = 4, .steps = 2, .warmup_steps = 2}),
      (std::vector<double>{2, 4}));
}

TEST(LearningRate, RefusesWhatIsOutOfRange) {
  const LearningRateSchedule good = {.kind = ScheduleKind::kWarmupStableDecay,
                                     .peak = 1,
                                     .steps = 10,
                                     .warmup_steps = 2,
                                     .decay_steps = 8};
  ASSERT_TRUE(LearningRate(good, 9).ok());
  const auto expect_refused = [](LearningRateSchedule schedule, int64_t step) {
    EXPECT_EQ(GetErrorInfo(LearningRate(schedule, step).status()).code, ErrorCode::kOutOfRange);
  };
  expect_refused(good, -1);
  expect_refused(good, 10);
  const auto with = [&good](auto change) {
    LearningRateSchedule schedule = good;
    change(schedule);
    return schedule;
  };
  for (const double peak : {0.0, -1.0, std::nan(""), HUGE_VAL}) {
    expect_refused(with([peak](auto& s) { s.peak = peak; }), 0);
  }
  for (const double share : {-0.1, 1.1, std::nan("")}) {
    expect_refused(with([share](auto& s) { s.minimum_share = share; }), 0);
  }
  expect_refused(with([](auto& s) { s.steps = 0; }), 0);
  expect_refused(with([](auto& s) { s.warmup_steps = -1; }), 0);
  expect_refused(with([](auto& s) { s.warmup_steps = 11; }), 0);
  expect_refused(with([](auto& s) { s.warmup_steps = 3; }), 0);
  expect_refused(with([](auto& s) { s.decay_steps = -1; }), 0);
  expect_refused(with([](auto& s) { s.decay_steps = INT64_MAX; }), 0);
}

}  // namespace
}  // namespace qft
