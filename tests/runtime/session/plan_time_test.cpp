#include "runtime/plan_time.h"

#include <gtest/gtest.h>

#include "kernels/cuda/profile.h"

namespace qft {
namespace {

std::string ConfigText(int hidden, int inner, int layers, int heads) {
  return R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","vocab_size":32000,)"
         R"("hidden_size":)" +
         std::to_string(hidden) + R"(,"intermediate_size":)" + std::to_string(inner) +
         R"(,"num_hidden_layers":)" + std::to_string(layers) + R"(,"num_attention_heads":)" +
         std::to_string(heads) + R"(,"num_key_value_heads":)" + std::to_string(heads) +
         R"(,"max_position_embeddings":2048,"rms_norm_eps":1e-6})";
}

std::shared_ptr<const Model> Llama7B() {
  return Model::Random(ConfigText(4096, 11008, 32, 32), 0).value();
}
std::shared_ptr<const Model> Llama13B() {
  return Model::Random(ConfigText(5120, 13824, 40, 40), 0).value();
}
std::shared_ptr<const Model> Llama33B() {
  return Model::Random(ConfigText(6656, 17920, 60, 52), 0).value();
}

const cuda::DeviceProfile& H100() {
  return *cuda::FindDeviceProfile("h100-80gb");
}

SessionConfig Configured(int64_t tokens, int64_t micro_batches, GradientMode gradients,
                         int64_t limit = 0) {
  SessionConfig config;
  config.engine = EngineChoice::kCuda;
  config.residual_bits = 0;
  config.micro_batch_tokens = tokens;
  config.micro_batches = micro_batches;
  config.gradients = gradients;
  config.memory_limit = limit * 1000000;
  return config;
}

Plan PlanOf(const std::shared_ptr<const Model>& model, const SessionConfig& config) {
  return DecidePlan(model, config, cuda::ProfiledEngine(H100())).value();
}

StepTime TimeOf(const Plan& plan, double nvme_bytes_per_second = 0) {
  return ExpectStepTime(plan, cuda::SpeedsOf(H100()), nvme_bytes_per_second).value();
}

struct Measured {
  std::shared_ptr<const Model> model;
  SessionConfig config;
  double seconds;
};

// bench/results/gpu/h100_one_product.txt, leases 3 and 4.
std::vector<Measured> MeasuredOnH100() {
  constexpr auto kFused = GradientMode::kFused;
  constexpr auto kStack = GradientMode::kStack;
  SessionConfig horizontal = Configured(4096, 16, kStack, 30000);
  horizontal.accumulation = Accumulation::kHorizontal;
  SessionConfig many = Configured(2048, 32, kFused, 18000);
  many.momentum = MomentumPlace::kHost;
  many.boundaries = Tier::kHost;
  SessionConfig host13 = Configured(2048, 1, kFused, 18000);
  host13.momentum = MomentumPlace::kHost;
  SessionConfig host33 = Configured(2048, 1, kFused, 42000);
  host33.momentum = MomentumPlace::kHost;
  SessionConfig small = Configured(2048, 1, kFused, 10500);
  small.momentum = MomentumPlace::kHost;
  return {{Llama7B(), Configured(6144, 1, kFused, 30000), 0.3404},
          {Llama7B(), Configured(10240, 1, kFused, 42000), 0.5322},
          {Llama7B(), horizontal, 4.008},
          {Llama7B(), Configured(2048, 1, kFused, 17000), 0.1731},
          {Llama13B(), Configured(2048, 1, kStack, 48000), 0.2878},
          {Llama7B(), Configured(8192, 1, kFused), 0.4210},
          {Llama7B(), Configured(8192, 1, kStack), 0.4403},
          {Llama7B(), many, 5.4291},
          {Llama13B(), host13, 0.3481},
          {Llama33B(), host33, 0.8636},
          {Llama7B(), small, 0.1866}};
}

TEST(PlanTimeTest, AsMeasuredOnAnH100) {
  int number = 0;
  for (const Measured& measured : MeasuredOnH100()) {
    const StepTime time = TimeOf(PlanOf(measured.model, measured.config));
    EXPECT_NEAR(time.seconds() / measured.seconds, 1, 0.1) << number;
    ++number;
  }
}

TEST(PlanTimeTest, WaitsAreHiddenFromTheStatedTokensOn) {
  for (const GradientMode gradients : {GradientMode::kFused, GradientMode::kStack}) {
    SessionConfig config = Configured(2048, 1, gradients);
    config.momentum = MomentumPlace::kNvme;
    config.nvme_folders = "/unused";
    const double disk = 3e9;
    const auto share = [&](int64_t micro_batches) {
      config.micro_batches = micro_batches;
      Plan plan = PlanOf(Llama7B(), config);
      plan.recomputed = plan.regated = plan.renewed = 0;
      const StepTime time = TimeOf(plan, disk);
      return time.waits_seconds / time.seconds();
    };
    Plan plan = PlanOf(Llama7B(), config);
    plan.recomputed = plan.regated = plan.renewed = 0;
    const int64_t tokens = TimeOf(plan, disk).hidden_from_tokens;
    ASSERT_EQ(tokens % 2048, 0);
    ASSERT_GT(tokens, 2048);
    EXPECT_LE(share(tokens / 2048), kHiddenShare);
    EXPECT_GT(share(tokens / 2048 - 1), kHiddenShare);
  }
}

// Stated are at most 1.2 times the tokens for which computing takes as long as the disk alone.
TEST(PlanTimeTest, StatedTokensAreNearWhatTheDiskImplies) {
  SessionConfig config = Configured(2048, 64, GradientMode::kFused, 18000);
  config.momentum = MomentumPlace::kNvme;
  config.boundaries = Tier::kHost;
  config.nvme_folders = "/unused";
  const Plan plan = PlanOf(Llama7B(), config);
  const double disk = 3e9;
  const StepTime time = TimeOf(plan, disk);
  const double disk_seconds = 2 * static_cast<double>(plan.home_bytes) / disk;
  const double implied = disk_seconds / time.compute_seconds * 64 * 2048;
  EXPECT_LE(static_cast<double>(time.hidden_from_tokens), 1.2 * implied);
}

TEST(PlanTimeTest, MomentumThatStaysMovesInNoTime) {
  const StepTime time = TimeOf(PlanOf(Llama7B(), Configured(2048, 1, GradientMode::kFused)));
  EXPECT_GT(time.compute_seconds, 0);
  EXPECT_EQ(time.transfer_seconds, 0);
  EXPECT_EQ(time.waits_seconds, 0);
  EXPECT_EQ(time.hidden_from_tokens, 0);
}

TEST(PlanTimeTest, NothingIsSaidOfWhatIsNotKnown) {
  SessionConfig config = Configured(2048, 1, GradientMode::kFused);
  const Plan plan = PlanOf(Llama7B(), config);
  EXPECT_FALSE(ExpectStepTime(plan, Speeds(), 0).has_value());
  config.momentum = MomentumPlace::kNvme;
  config.nvme_folders = "/unused";
  EXPECT_FALSE(ExpectStepTime(PlanOf(Llama7B(), config), cuda::SpeedsOf(H100()), 0).has_value());
  config = Configured(2048, 1, GradientMode::kFused);
  config.mode = Mode::kInfer;
  EXPECT_FALSE(ExpectStepTime(PlanOf(Llama7B(), config), cuda::SpeedsOf(H100()), 0).has_value());
}

}  // namespace
}  // namespace qft
