#include "runtime/plan.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <numeric>

#include "runtime/checkpoint_states.h"
#include "tests/runtime/session/tiny_session.h"

namespace qft {
namespace {

std::vector<SessionConfig> Configs() {
  std::vector<SessionConfig> configs;
  const auto add = [&](const std::vector<std::pair<const char*, const char*>>& settings) {
    SessionConfig config = TinyConfig();
    config.micro_batches = 3;
    for (const auto& [key, value] : settings) EXPECT_TRUE(config.SetText(key, value).ok());
    configs.push_back(config);
  };
  add({});
  add({{"mode", "infer"}});
  add({{"gradients", "fused"}});
  add({{"recompute", "never"}});
  add({{"accumulation", "horizontal"}, {"recompute", "always"}});
  add({{"states", "fp32"}, {"arithmetic", "float"}});
  add({{"arithmetic", "float"}, {"gradients", "fused"}});
  SessionConfig frozen = TinyConfig();
  EXPECT_TRUE(frozen.AddGroup({"*", 1, -1, true}).ok());
  EXPECT_TRUE(frozen.AddGroup({"*norm*", 1, -1, false}).ok());
  configs.push_back(frozen);
  return configs;
}

// The tiny model with other or more keys.
std::shared_ptr<const Model> TinyWith(const nlohmann::json& keys) {
  auto json = nlohmann::json::parse(TinyJson(2, true));
  json.update(keys);
  return Model::Random(json.dump(), 1).value();
}

std::vector<std::shared_ptr<const Model>> Models() {
  std::vector<std::shared_ptr<const Model>> models;
  for (const int vocabulary : {64, 8200}) {
    for (const bool tied : {false, true}) models.push_back(TinyModel(2, tied, vocabulary));
  }
  for (const Family* family : Families()) {
    models.push_back(TinyWith({{"architectures", {family->architecture}},
                               {"model_type", family->model_type},
                               {"head_dim", 16}}));
  }
  models.push_back(TinyWith({{"attention_bias", true}, {"mlp_bias", true}}));
  return models;
}

TEST(PlanTest, NullArenaCountsWhatARealOneHolds) {
  const std::unique_ptr<Engine> engine(CreateCpuEngine(1));
  for (const auto& model : Models()) {
    for (const SessionConfig& config : Configs()) {
      SCOPED_TRACE(config.ToJson());
      const Plan plan = MakePlan(model, config, *engine).value();
      Arena arena(engine.get());
      Arena home(engine.get());
      AllocateSession(plan, *engine, arena, home);
      ASSERT_TRUE(arena.status().ok());
      for (int i = 0; i < kPurposes; ++i) {
        EXPECT_EQ(plan.bytes[i], arena.bytes(static_cast<Purpose>(i)))
            << PurposeName(static_cast<Purpose>(i));
      }
      EXPECT_EQ(plan.total_bytes, arena.total_bytes());
      EXPECT_EQ(home.total_bytes(), 0);
      EXPECT_EQ(plan.total_bytes,
                std::accumulate(std::begin(plan.bytes), std::end(plan.bytes), int64_t{0}));
    }
  }
}

// The states once more, in host memory: what the cpu engine's limit counts too, and nothing of what
// the engine holds changes.
TEST(PlanTest, ASnapshotHoldsWhatACheckpointHolds) {
  for (const auto& model : Models()) {
    for (SessionConfig config : Configs()) {
      SCOPED_TRACE(config.ToJson());
      const std::unique_ptr<Engine> engine(CreateCpuEngine(1));
      const Plan plain = MakePlan(model, config, *engine).value();
      EXPECT_EQ(plain.snapshot_bytes, 0);
      config.snapshot = SnapshotPlace::kHost;
      const auto session = OpenTiny(model, config);
      const Plan& plan = session->plan();
      EXPECT_EQ(plan.total_bytes, plain.total_bytes);
      EXPECT_EQ(session->snapshot().capacity(), plan.snapshot_bytes);
      int64_t bytes = 0;
      for (const StatePart& part : StateParts(*session)) {
        bytes += static_cast<int64_t>((part.bytes + 255) / 256 * 256);
      }
      EXPECT_EQ(plan.snapshot_bytes, plan.train ? bytes : 0);
      const auto json = nlohmann::json::parse(session->PlanJson());
      EXPECT_EQ(json["host_bytes"]["snapshot"], plan.snapshot_bytes);
    }
  }
}

TEST(PlanTest, ASnapshotCountsWhereEngineMemoryIsHostMemory) {
  const std::unique_ptr<Engine> engine(CreateCpuEngine(1));
  SessionConfig config = TinyConfig();
  config.gradients = GradientMode::kStack;
  config.recompute = Recompute::kNever;
  config.snapshot = SnapshotPlace::kHost;
  const Plan plan = MakePlan(TinyModel(), config, *engine).value();
  config.memory_limit = plan.total_bytes + plan.snapshot_bytes;
  EXPECT_TRUE(MakePlan(TinyModel(), config, *engine).ok());
  --config.memory_limit;
  EXPECT_EQ(GetErrorInfo(MakePlan(TinyModel(), config, *engine).status()).code,
            ErrorCode::kOutOfMemory);
}

// Four terabytes of it are refused before anything is taken; on NVMe only what is staged counts.
TEST(PlanTest, MomentumTakesHostMemory) {
  const std::unique_ptr<Engine> engine(CreateCpuEngine(1));
  const auto model = Model::Random(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
          "vocab_size": 32000, "hidden_size": 16384, "intermediate_size": 65536,
          "num_hidden_layers": 1000, "num_attention_heads": 128, "num_key_value_heads": 128,
          "max_position_embeddings": 4096, "rms_norm_eps": 1e-5})",
                                   1)
                         .value();
  SessionConfig config = TinyConfig();
  config.memory_limit = int64_t{1} << 60;
  config.momentum = MomentumPlace::kHost;
  const Status refused = MakePlan(model, config, *engine).status();
  EXPECT_EQ(GetErrorInfo(refused).code, ErrorCode::kOutOfMemory) << refused;
  EXPECT_NE(refused.message().find("of host memory, available are "), std::string::npos) << refused;
  config.momentum = MomentumPlace::kNvme;
  config.nvme_folders = "/tmp";
  config.staging = 0;
  EXPECT_TRUE(MakePlan(model, config, *engine).ok());
}

TEST(PlanTest, HeadDimensionsThatAttentionLacksAreRefused) {
  const std::unique_ptr<Engine> engine(CreateCpuEngine(1));
  const auto plan = [&](int head_dim) {
    return MakePlan(TinyWith({{"head_dim", head_dim}}), TinyConfig(), *engine).status();
  };
  for (const int head_dim : {2, 8, 100, 256}) EXPECT_TRUE(plan(head_dim).ok()) << head_dim;
  const Status status = plan(258);
  EXPECT_EQ(GetErrorInfo(status).code, ErrorCode::kUnsupported);
  EXPECT_EQ(status.message(), "the head dimension is 258; supported are even ones up to 256");
}

TEST(PlanTest, JsonSaysWhatIsPlanned) {
  const std::unique_ptr<Engine> engine(CreateCpuEngine(1));
  for (const SessionConfig& config : Configs()) {
    const Plan plan = MakePlan(TinyModel(), config, *engine).value();
    const auto json = PlanToJson(plan, *engine);
    EXPECT_EQ(json["gradients"], plan.fused ? "fused" : "stack");
    EXPECT_EQ(json["recomputed_blocks"], plan.recomputed);
    EXPECT_EQ(json["regated_blocks"], plan.regated);
    EXPECT_EQ(json["renewed_blocks"], plan.renewed);
    EXPECT_EQ(json["bytes"]["total"], plan.total_bytes);
    int64_t sum = 0;
    for (int i = 0; i < kPurposes; ++i) {
      sum += json["bytes"][PurposeName(static_cast<Purpose>(i))].get<int64_t>();
    }
    EXPECT_EQ(sum, plan.total_bytes);
  }
}

TEST(PlanTest, ModesHoldNoMoreThanTheyNeed) {
  const std::unique_ptr<Engine> engine(CreateCpuEngine(1));
  const auto model = TinyModel(4, false);
  const auto bytes = [&](const SessionConfig& config, Purpose purpose) {
    return MakePlan(model, config, *engine).value().bytes[static_cast<int>(purpose)];
  };
  SessionConfig infer = TinyConfig();
  infer.mode = Mode::kInfer;
  EXPECT_EQ(bytes(infer, Purpose::kGradients), 0);
  EXPECT_EQ(bytes(infer, Purpose::kMomentum), 0);
  EXPECT_EQ(bytes(infer, Purpose::kWeights), bytes(TinyConfig(), Purpose::kWeights));
  SessionConfig fused = TinyConfig();
  fused.gradients = GradientMode::kFused;
  EXPECT_LT(bytes(fused, Purpose::kGradients), bytes(TinyConfig(), Purpose::kGradients) / 3);
  SessionConfig recompute = TinyConfig();
  recompute.recompute = Recompute::kAlways;
  EXPECT_LT(bytes(recompute, Purpose::kActivations), bytes(TinyConfig(), Purpose::kActivations));
  SessionConfig frozen = TinyConfig();
  ASSERT_TRUE(frozen.AddGroup({"*", 1, -1, true}).ok());
  EXPECT_EQ(bytes(frozen, Purpose::kMomentum), 0);
  EXPECT_EQ(bytes(frozen, Purpose::kGradients), 0);
}

// What LLaMA-2-7B holds between steps, by the planner; docs/numerics.md quotes it.
TEST(PlanTest, StatesOfSevenBillionParameters) {
  const std::unique_ptr<Engine> engine(CreateCpuEngine(1));
  const auto model = Model::Random(R"({"architectures": ["LlamaForCausalLM"], "model_type": "llama",
          "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
          "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
          "max_position_embeddings": 4096, "rms_norm_eps": 1e-5})",
                                   1)
                         .value();
  const auto states = [&](GradientMode gradients, int64_t residual_bits, bool whole_stack) {
    SessionConfig config;
    config.gradients = gradients;
    config.residual_bits = residual_bits;
    config.memory_limit = int64_t{1} << 50;
    const Plan plan = MakePlan(model, config, *engine).value();
    int64_t bytes = 0;
    for (const Purpose purpose : {Purpose::kWeights, Purpose::kCritical, Purpose::kResidual,
                                  Purpose::kMomentum, Purpose::kGradients}) {
      if (purpose == Purpose::kGradients && !whole_stack) continue;
      bytes += plan.bytes[static_cast<int>(purpose)];
    }
    return static_cast<double>(bytes) * 1e-9;
  };
  EXPECT_NEAR(states(GradientMode::kFused, 0, false), 13.87, 0.03);
  EXPECT_NEAR(states(GradientMode::kFused, 4, false), 17.24, 0.03);
  EXPECT_NEAR(states(GradientMode::kStack, 4, true), 24.09, 0.03);
  EXPECT_EQ(states(GradientMode::kFused, 4, true), states(GradientMode::kFused, 4, false));
}

// What a block of LLaMA-2-7B keeps of a token, and what blocks share; docs/numerics.md quotes it.
TEST(PlanTest, BytesThatBlocksKeep) {
  ModelConfig config;
  config.hidden_size = 4096;
  config.intermediate_size = 11008;
  config.heads = config.kv_heads = 32;
  config.head_dim = 128;
  constexpr int64_t kTokens = 256;  // so that nothing is rounded up
  const BufferShape shape{&config, kTokens, true, true, 16, DType::kBF16};
  const auto own = [&](Kept kept) {
    Arena arena(nullptr);
    AllocateBlockActivations(shape, kept, {}, arena);
    return arena.total_bytes() / kTokens;
  };
  const auto shared = [&](Kept least) {
    Arena arena(nullptr);
    AllocateSharedActivations(shape, least, arena);
    return arena.total_bytes() / kTokens;
  };
  constexpr int64_t kInputs = 3 * (4096 + 4 + 16 * 4);
  constexpr int64_t kGates = 2 * (11008 + 43 * 4);
  constexpr int64_t kOthers = 5 * 4096 * 2 + (2 + 32) * 4 + 4 + 16 * 4;
  EXPECT_EQ(own(Kept::kAll), kInputs + kGates + kOthers);
  EXPECT_EQ(own(Kept::kNoInputs), kGates + kOthers);
  EXPECT_EQ(own(Kept::kNoGates), kOthers);
  EXPECT_EQ(own(Kept::kNothing), 0);
  EXPECT_EQ(shared(Kept::kAll), 0);
  EXPECT_EQ(shared(Kept::kNoInputs), kInputs);
  EXPECT_EQ(shared(Kept::kNoGates), kInputs + kGates);
  EXPECT_EQ(shared(Kept::kNothing), kInputs + kGates + kOthers);
}

TEST(PlanTest, LowestTrained) {
  const std::unique_ptr<Engine> engine(CreateCpuEngine(1));
  const auto lowest = [&](const std::vector<const char*>& frozen) {
    SessionConfig config = TinyConfig();
    for (const char* pattern : frozen) EXPECT_TRUE(config.AddGroup({pattern, 1, -1, true}).ok());
    return MakePlan(TinyModel(3, false), config, *engine).value().schedule_shape(1).lowest_trained;
  };
  EXPECT_EQ(lowest({}), -1);
  EXPECT_EQ(lowest({"model.embed*"}), 0);
  EXPECT_EQ(lowest({"model.embed*", "model.layers.0.*"}), 1);
  EXPECT_EQ(lowest({"model.layers.0.*"}), -1);
  EXPECT_EQ(lowest({"model.embed*", "model.layers.*"}), 3);
}

// What the engine has given out of it is what was planned, to the byte.
TEST(PlanTest, HostMemoryIsExact) {
  const std::string folder = testing::TempDir();
  for (const char* snapshot : {"none", "host"}) {
    for (const char* boundaries : {"device", "host"}) {
      for (const char* momentum : {"device", "host", "nvme"}) {
        if (snapshot[0] == 'h' && momentum[0] == 'n') continue;  // refused
        SessionConfig config = TinyConfig();
        config.micro_batches = 3;
        config.nvme_folders = folder;
        for (const auto& [key, value] : std::map<std::string, std::string>{
                 {"snapshot", snapshot}, {"boundaries", boundaries}, {"momentum", momentum}}) {
          ASSERT_TRUE(config.SetText(key, value).ok());
        }
        const auto session = OpenTiny(TinyModel(3, false), config);
        EXPECT_EQ(session->engine().Report().host_bytes, session->plan().host_bytes())
            << snapshot << ", " << boundaries << ", " << momentum;
      }
    }
  }
}

TEST(PlanTest, MeasuredIsSaidAtTheEndOfASessionThatTrained) {
  for (const int steps : {0, 2}) {
    std::vector<std::string> log;
    const auto sink = [&log](int, const std::string& message) { log.push_back(message); };
    auto session = Session::Open(TinyModel(3, false), TinyConfig(), sink).value();
    const std::string planned = Gigabytes(session->plan().total_bytes) + " planned";
    for (int step = 0; step < steps; ++step) StepTiny(*session, step);
    log.clear();
    session.reset();
    ASSERT_EQ(log.size(), steps > 0 ? 1U : 0U);
    if (steps == 0) continue;
    EXPECT_NE(log[0].find(planned), std::string::npos) << log[0];
    EXPECT_NE(log[0].find("tokens/s"), std::string::npos) << log[0];
  }
}

}  // namespace
}  // namespace qft
