#include "runtime/plan_report.h"

#include <gtest/gtest.h>

#include <limits>

#include "kernels/cuda/profile.h"
#include "kernels/cuda/sizes.h"
#include "runtime/plan_remedies.h"
#include "tests/runtime/session/tiny_session.h"

namespace qft {
namespace {

using Json = nlohmann::ordered_json;

constexpr char kLlama7B[] =
    R"({"architectures":["LlamaForCausalLM"],"model_type":"llama","vocab_size":32000,)"
    R"("hidden_size":4096,"intermediate_size":11008,"num_hidden_layers":32,)"
    R"("num_attention_heads":32,"num_key_value_heads":32,"max_position_embeddings":2048,)"
    R"("rms_norm_eps":1e-6})";

constexpr char kDevice[] = "h100-80gb";

std::shared_ptr<const Model> Llama7B() {
  return Model::Random(kLlama7B, 0).value();
}

SessionConfig OnDevice(int64_t limit = 0) {
  SessionConfig config;
  config.engine = EngineChoice::kCuda;
  config.micro_batch_tokens = 2048;
  config.memory_limit = limit;
  return config;
}

// How much is made again, in steps of the planner's.
int64_t GivenUp(const Plan& plan) {
  return 3 * plan.recomputed + 2 * plan.regated + plan.renewed;
}

std::vector<std::string> KeysOf(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& item : object.items()) keys.push_back(item.key());
  return keys;
}

Json RowOf(const Json& plan, const std::string& purpose) {
  for (const Json& row : plan.at("memory")) {
    if (row.at("purpose") == purpose) return row;
  }
  return nullptr;
}

TEST(PlanReportTest, SaysWhatASessionHolds) {
  SessionConfig config = TinyConfig();
  config.snapshot = SnapshotPlace::kHost;
  for (const GradientMode gradients : {GradientMode::kStack, GradientMode::kFused}) {
    config.gradients = gradients;
    const auto model = TinyModel(3, false);
    const auto session = OpenTiny(model, config);
    const Json report = ReportPlan(model, config, "", 0).value();
    const Json held = Json::parse(session->PlanJson());
    for (const auto& [key, value] : held.items()) {
      EXPECT_EQ(report.at(key), value) << key;
    }
    const Plan& plan = session->plan();
    for (int i = 0; i < kPurposes; ++i) {
      const Json row = RowOf(report, PurposeName(static_cast<Purpose>(i)));
      EXPECT_EQ(row.at("bytes"), plan.bytes[i]);
      EXPECT_EQ(row.at("tier"), "host");
    }
    EXPECT_EQ(RowOf(report, "snapshot").at("bytes"), plan.snapshot_bytes);
    EXPECT_EQ(report.at("tiers").size(), 1U);
    EXPECT_EQ(report.at("tiers")[0].at("bytes"), plan.total_bytes + plan.snapshot_bytes);
    EXPECT_TRUE(report.at("fits"));
  }
}

TEST(PlanReportTest, KeysAreStable) {
  const Json report = ReportPlan(Llama7B(), OnDevice(int64_t{8} * 1000000000), kDevice, 0).value();
  EXPECT_EQ(KeysOf(report), (std::vector<std::string>{"engine",
                                                      "engine_description",
                                                      "states",
                                                      "arithmetic",
                                                      "gradients",
                                                      "accumulation",
                                                      "critical_features",
                                                      "residual_bits",
                                                      "recomputed_blocks",
                                                      "regated_blocks",
                                                      "renewed_blocks",
                                                      "logits_kept",
                                                      "micro_batch_tokens",
                                                      "micro_batches",
                                                      "parameters",
                                                      "bytes",
                                                      "host_bytes",
                                                      "boundary_tier",
                                                      "momentum_tier",
                                                      "momentum_home_bytes",
                                                      "late_updates",
                                                      "occupied_bytes",
                                                      "reserved_bytes",
                                                      "device",
                                                      "memory",
                                                      "tiers",
                                                      "fits",
                                                      "time",
                                                      "choices",
                                                      "would_fit"}));
  EXPECT_EQ(KeysOf(report.at("device")),
            (std::vector<std::string>{"profile", "description", "measured"}));
  EXPECT_EQ(KeysOf(report.at("memory")[0]), (std::vector<std::string>{"purpose", "tier", "bytes"}));
  EXPECT_EQ(KeysOf(report.at("tiers")[0]),
            (std::vector<std::string>{"tier", "bytes", "reserved_bytes", "limit_bytes"}));
  EXPECT_EQ(KeysOf(report.at("choices")[0]),
            (std::vector<std::string>{"setting", "chosen", "reason"}));
  for (const Json& row : report.at("memory")) EXPECT_TRUE(row.at("bytes").is_number_integer());
}

TEST(PlanReportTest, HostMemoryHasALimitToo) {
  SessionConfig config = OnDevice();
  config.momentum = MomentumPlace::kHost;
  config.host_memory_limit = int64_t{8} * 1000000000;
  const Json roomy = ReportPlan(Llama7B(), config, kDevice, 0).value();
  EXPECT_EQ(roomy.at("tiers")[1].at("tier"), "host");
  EXPECT_EQ(roomy.at("tiers")[1].at("limit_bytes"), config.host_memory_limit);
  EXPECT_TRUE(roomy.at("fits"));
  config.host_memory_limit = int64_t{6} * 1000000000;
  EXPECT_FALSE(ReportPlan(Llama7B(), config, kDevice, 0).value().at("fits"));
}

TEST(PlanReportTest, TimeOfADiskIsMeasuredWhereNobodySaysIt) {
  SessionConfig config = OnDevice();
  config.momentum = MomentumPlace::kNvme;
  config.nvme_folders = testing::TempDir();
  const Json measured = ReportPlan(Llama7B(), config, kDevice, 0).value().at("time");
  const double found = measured.at("nvme_bytes_per_second");
  EXPECT_GT(found, 1e6);
  const Json told = ReportPlan(Llama7B(), config, kDevice, found).value().at("time");
  EXPECT_EQ(told, measured);
  config.nvme_folders = "/nowhere";
  EXPECT_EQ(GetErrorInfo(ReportPlan(Llama7B(), config, kDevice, 0).status()).code,
            ErrorCode::kFileNotFound);
}

TEST(PlanReportTest, PlansForEveryDeviceWithoutIt) {
  const auto model = Llama7B();
  for (const Json& device : Json::parse(DescribeDeviceProfiles())) {
    const std::string name = device.at("name");
    SCOPED_TRACE(name);
    SessionConfig config = OnDevice();
    config.micro_batch_tokens = 2041;
    const Json report = ReportPlan(model, config, name, 0).value();
    EXPECT_EQ(report.at("engine"), "cuda");
    EXPECT_EQ(report.at("device").at("profile"), name);
    EXPECT_EQ(report.at("device").at("measured"), device.at("measured"));
    EXPECT_EQ(report.at("micro_batch_tokens"), 2048);
    EXPECT_EQ(report.at("occupied_bytes"), device.at("context_bytes"));
    const Json& tier = report.at("tiers")[0];
    EXPECT_EQ(tier.at("tier"), "device");
    EXPECT_EQ(tier.at("limit_bytes"), device.at("total_bytes"));
    int64_t sum = 0;
    for (const Json& row : report.at("memory")) {
      if (row.at("tier") == "device") sum += row.at("bytes").get<int64_t>();
    }
    EXPECT_EQ(tier.at("bytes"), sum);
    const int64_t reserved = tier.at("reserved_bytes");
    EXPECT_EQ(reserved, cuda::kDriverBytes);
    EXPECT_EQ(report.at("fits"), sum + reserved <= device.at("total_bytes").get<int64_t>());
    EXPECT_TRUE(!report.at("fits").get<bool>() || report.at("would_fit").empty());
  }
}

TEST(PlanReportTest, WhatCantBePlannedIsRefused) {
  const auto model = TinyModel();
  const auto code = [&](const SessionConfig& config, const char* device) {
    return GetErrorInfo(ReportPlan(model, config, device, 0).status()).code;
  };
  EXPECT_EQ(code(OnDevice(), "h100-81gb"), ErrorCode::kNotFound);
  EXPECT_EQ(code(TinyConfig(), kDevice), ErrorCode::kInvalidArgument);
  SessionConfig config = OnDevice();
  ASSERT_TRUE(config.AddGroup({"nothing.*", 1, -1, true}).ok());
  EXPECT_EQ(code(config, kDevice), ErrorCode::kNotFound);
  config = OnDevice();
  config.states = StateKind::kFp32;
  EXPECT_EQ(code(config, kDevice), ErrorCode::kUnsupported);
}

TEST(PlanTest, MoreMemoryNeverMakesMoreAgain) {
  const auto model = Llama7B();
  const cuda::ProfiledEngine engine(*cuda::FindDeviceProfile(kDevice));
  constexpr int64_t kStep = 500000000;
  for (const GradientMode gradients :
       {GradientMode::kAuto, GradientMode::kStack, GradientMode::kFused}) {
    SessionConfig config = OnDevice();
    config.gradients = gradients;
    bool fitted = false;
    bool stacked = false;
    int64_t least = std::numeric_limits<int64_t>::max();
    for (int64_t limit = 10 * kStep; limit <= 100 * kStep; limit += kStep) {
      SCOPED_TRACE(limit);
      config.memory_limit = limit;
      const Plan plan = DecidePlan(model, config, engine).value();
      EXPECT_TRUE(plan.fits() || !fitted);
      fitted = plan.fits();
      EXPECT_LE(GivenUp(plan), least);
      least = GivenUp(plan);
      EXPECT_TRUE(!plan.fused || !stacked || gradients != GradientMode::kAuto);
      stacked = fitted && !plan.fused;
      EXPECT_EQ(fitted, plan.total_bytes + plan.occupied_bytes + plan.reserved_bytes <= limit);
    }
    EXPECT_TRUE(fitted);
    EXPECT_EQ(least, 0);
  }
}

// Every remedy is planned again as a user would, by its settings.
TEST(PlanRemediesTest, FitAsTheyAreTold) {
  const auto model = Llama7B();
  const cuda::ProfiledEngine engine(*cuda::FindDeviceProfile(kDevice));
  SessionConfig config = OnDevice();
  config.micro_batches = 4;
  int told = 0;
  for (const char* gradients : {"auto", "stack", "fused"}) {
    for (const char* recompute : {"auto", "never"}) {
      ASSERT_TRUE(config.SetText("gradients", gradients).ok());
      ASSERT_TRUE(config.SetText("recompute", recompute).ok());
      for (int64_t limit = 4; limit < 80; limit += 4) {
        config.memory_limit = limit * 1000000000;
        if (DecidePlan(model, config, engine).value().fits()) continue;
        for (const Remedy& remedy : FindRemedies(model, config, engine)) {
          SCOPED_TRACE(absl::StrCat(limit, ": ", SettingsToText(remedy)));
          SessionConfig changed = config;
          for (const auto& [key, value] : remedy.settings) {
            EXPECT_TRUE(changed.SetText(key, value).ok());
          }
          const StatusOr<Plan> plan = MakePlan(model, changed, engine);
          ASSERT_TRUE(plan.ok()) << plan.status();
          EXPECT_EQ(plan->total_bytes, remedy.plan.total_bytes);
          ++told;
        }
      }
    }
  }
  EXPECT_GT(told, 50);
}

TEST(PlanRemediesTest, TheLargestMicroBatchIsTold) {
  const auto model = Llama7B();
  const cuda::ProfiledEngine engine(*cuda::FindDeviceProfile(kDevice));
  SessionConfig config = OnDevice(int64_t{24} * 1000000000);
  config.micro_batch_tokens = 65536;
  const std::vector<Remedy> remedies = FindRemedies(model, config, engine);
  ASSERT_FALSE(remedies.empty());
  const auto& [key, value] = remedies.back().settings[0];
  ASSERT_EQ(key, "micro_batch_tokens");
  config.micro_batch_tokens = std::stoll(value);
  EXPECT_TRUE(DecidePlan(model, config, engine).value().fits());
  config.micro_batch_tokens += cuda::kTokenMultiple;
  EXPECT_FALSE(DecidePlan(model, config, engine).value().fits());
}

TEST(PlanRemediesTest, ATooSmallLimitSaysWhatWouldFit) {
  const cuda::ProfiledEngine engine(*cuda::FindDeviceProfile(kDevice));
  const auto message = [&](int64_t limit) {
    const Status status = MakePlan(Llama7B(), OnDevice(limit), engine).status();
    EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kOutOfMemory);
    return std::string(status.message());
  };
  EXPECT_NE(message(19100000000)
                .find("what would fit: momentum=host; or residual_bits=0; or micro_batch_tokens="),
            std::string::npos)
      << message(19100000000);
  EXPECT_NE(message(1000000000).find("nothing that was tried would fit"), std::string::npos)
      << message(1000000000);
}

// Beside the weights, where that fits; elsewhere where that helps; and said so.
TEST(PlanReportTest, MomentumIsPlacedWhereTheSessionFits) {
  const auto choice = [](int64_t limit) {
    SessionConfig config = OnDevice(limit);
    config.momentum = MomentumPlace::kAuto;
    const Json report = ReportPlan(Llama7B(), config, kDevice, 0).value();
    EXPECT_EQ(report.at("choices")[2].at("chosen"), report.at("momentum_tier"));
    return std::pair(report.at("momentum_tier").get<std::string>(), report.at("fits").get<bool>());
  };
  EXPECT_EQ(choice(40000000000), std::pair(std::string("device"), true));
  EXPECT_EQ(choice(19100000000), std::pair(std::string("host"), true));
  EXPECT_EQ(choice(5000000000), std::pair(std::string("device"), false));
}

// What leaves the device comes back elsewhere, but for the ring that it passes through.
TEST(PlanReportTest, MomentumElsewhereTakesItsBytesAlong) {
  const cuda::ProfiledEngine engine(*cuda::FindDeviceProfile(kDevice));
  SessionConfig config = OnDevice(0);
  config.gradients = GradientMode::kFused;
  const Plan beside = DecidePlan(Llama7B(), config, engine).value();
  config.momentum = MomentumPlace::kHost;
  const Plan elsewhere = DecidePlan(Llama7B(), config, engine).value();
  const auto of = [](const Plan& plan, Purpose purpose) {
    return plan.bytes[static_cast<int>(purpose)];
  };
  const int64_t left = of(beside, Purpose::kMomentum) + of(beside, Purpose::kCritical) -
                       of(elsewhere, Purpose::kMomentum) - of(elsewhere, Purpose::kCritical);
  EXPECT_GT(left, 6700000000);
  EXPECT_GE(elsewhere.home_bytes, left);
  EXPECT_LT(elsewhere.home_bytes, left + 10000000);  // whole pages
  EXPECT_EQ(elsewhere.total_bytes, beside.total_bytes - left + elsewhere.staging_bytes);
  EXPECT_EQ(of(elsewhere, Purpose::kStaging), elsewhere.staging_bytes);
}

TEST(CudaSizesTest, PartsOfAPreparedInputDoNotOverlap) {
  for (const int64_t length : {1, 16, 2048}) {
    for (const int64_t cols : {1, 128, 4096}) {
      for (const int32_t critical : {0, 1, 16, 17, 64}) {
        const cuda::PreparedLayout layout = cuda::LayoutOfPrepared(length, cols, critical);
        EXPECT_GE(layout.transposed_bytes, length * cols);
        EXPECT_EQ(layout.transposed_bytes % 16, 0);
        EXPECT_GE(layout.stride, length);
        EXPECT_GE(layout.features, critical);
        EXPECT_EQ(layout.Bytes(), static_cast<size_t>(layout.transposed_bytes) +
                                      static_cast<size_t>(layout.features) *
                                          (3 * static_cast<size_t>(layout.stride) + 4));
      }
    }
  }
}

}  // namespace
}  // namespace qft
