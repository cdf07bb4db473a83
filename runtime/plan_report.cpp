#include "runtime/plan_report.h"

#include "absl/strings/str_join.h"
#include "base/system.h"
#include "kernels/cuda/profile.h"
#include "offload/bandwidth.h"
#include "runtime/cuda_module.h"
#include "runtime/plan_remedies.h"
#include "runtime/plan_time.h"

namespace qft {
namespace {

using Json = nlohmann::ordered_json;

struct PlannedEngine {
  std::unique_ptr<EngineProfile> engine;
  const cuda::DeviceProfile* profile = nullptr;  // nullptr: the machine's own
};

PlannedEngine Profiled(const cuda::DeviceProfile& profile) {
  return {std::make_unique<cuda::ProfiledEngine>(profile), &profile};
}

std::string ProfileNames() {
  int count = 0;
  const cuda::DeviceProfile* profiles = cuda::DeviceProfiles(&count);
  return absl::StrJoin(profiles, profiles + count, ", ",
                       [](std::string* out, const auto& profile) { out->append(profile.name); });
}

StatusOr<PlannedEngine> FindEngine(const SessionConfig& config, const std::string& device) {
  if (config.engine == EngineChoice::kCpu) {
    if (!device.empty()) return InvalidArgument("device: the cpu engine runs on none");
    return PlannedEngine{
        std::unique_ptr<EngineProfile>(CreateCpuEngine(static_cast<int>(config.threads)))};
  }
  if (device.empty()) {
    StatusOr<std::unique_ptr<Engine>> present = MakeCudaEngine(static_cast<int>(config.device));
    if (present.ok()) return PlannedEngine{*std::move(present)};
    return Profiled(cuda::DefaultDeviceProfile());
  }
  const cuda::DeviceProfile* profile = cuda::FindDeviceProfile(device);
  if (profile != nullptr) return Profiled(*profile);
  return MakeError(ErrorCode::kNotFound, absl::StrCat("there is no device profile \"", device,
                                                      "\", only ", ProfileNames()));
}

// A row for each purpose and tier in which bytes are held. Bytes of a new tier are more rows.
class Memory {
 public:
  void Add(const char* purpose, const char* tier, int64_t bytes) {
    rows_.push_back({{"purpose", purpose}, {"tier", tier}, {"bytes", bytes}});
    auto [found, added] = sums_.emplace(tier, bytes);
    if (!added) found.value() = found.value().get<int64_t>() + bytes;
  }
  const Json& rows() const { return rows_; }
  // Bytes by tier, in the order in which tiers were added.
  const Json& sums() const { return sums_; }

 private:
  Json rows_ = Json::array();
  Json sums_ = Json::object();
};

Memory MemoryOf(const Plan& plan, const char* engine_tier) {
  Memory memory;
  for (int i = 0; i < kPurposes; ++i) {
    memory.Add(PurposeName(static_cast<Purpose>(i)), engine_tier, plan.bytes[i]);
  }
  memory.Add("context", engine_tier, plan.occupied_bytes);
  memory.Add("snapshot", "host", plan.snapshot_bytes);
  if (plan.boundary_tier != Tier::kDevice) {
    memory.Add("boundaries", TierName(plan.boundary_tier), plan.boundary_bytes);
  }
  if (plan.momentum_tier == Tier::kDevice) return memory;
  memory.Add(PurposeName(Purpose::kMomentum), TierName(plan.momentum_tier), plan.home_bytes);
  if (plan.momentum_tier == Tier::kNvme) {
    memory.Add(PurposeName(Purpose::kStaging), "host", plan.nvme_staging_bytes);
  }
  return memory;
}

// Of a machine that is elsewhere nobody knows its host memory.
Json HostLimitOf(const Plan& plan, bool elsewhere) {
  if (plan.host_limit_bytes > 0) return plan.host_limit_bytes;
  if (elsewhere) return nullptr;
  return AvailableHostMemory();
}

Json TimeOf(const Plan& plan, const Speeds& speeds, double nvme_bytes_per_second) {
  const std::optional<StepTime> time = ExpectStepTime(plan, speeds, nvme_bytes_per_second);
  if (!time.has_value()) return nullptr;
  const auto tokens = static_cast<double>(plan.tokens * plan.micro_batches);
  const bool nvme = plan.momentum_tier == Tier::kNvme;
  return {{"seconds_per_step", time->seconds()},
          {"tokens_per_second", tokens / time->seconds()},
          {"compute_seconds", time->compute_seconds},
          {"transfer_seconds", time->transfer_seconds},
          {"waits_seconds", time->waits_seconds},
          {"hidden_from_tokens", time->hidden_from_tokens},
          {"nvme_bytes_per_second", nvme ? Json(nvme_bytes_per_second) : Json(nullptr)}};
}

// What may be in use in the engine's tier; null: nobody knows.
Json LimitOf(const Plan& plan, bool on_host) {
  if (plan.limit_bytes == 0) return nullptr;
  return plan.limit_bytes + plan.occupied_bytes + plan.reserved_bytes +
         (on_host ? plan.snapshot_bytes : 0);
}

std::string Beyond(const Plan& plan, const char* what, int64_t bytes) {
  return absl::StrCat("auto: with ", what, " a session would take ", Gigabytes(bytes),
                      ", there are ", Gigabytes(plan.limit_bytes));
}

Json GradientsChoice(const Plan& plan, const SessionConfig& config) {
  std::string reason = "asked for";
  if (config.gradients == GradientMode::kAuto && plan.fused) {
    reason = Beyond(plan, "the gradients of a whole step", plan.stack_bytes);
  } else if (config.gradients == GradientMode::kAuto) {
    reason = plan.fits() ? "auto: a whole step's gradients fit"
                         : "auto: horizontal accumulation needs a stack";
  }
  return {{"setting", "gradients"}, {"chosen", plan.fused ? "fused" : "stack"}, {"reason", reason}};
}

Json RecomputeChoice(const Plan& plan, const SessionConfig& config) {
  const int64_t lacking = plan.recomputed + plan.regated + plan.renewed;
  std::string reason = "asked for";
  if (config.recompute == Recompute::kAuto) {
    reason = lacking == 0 ? "auto: all activations fit"
                          : Beyond(plan, "all activations kept", plan.all_kept_bytes);
  }
  const std::string chosen =
      absl::StrCat("of ", plan.model->config().layers, " blocks ", plan.recomputed, " recomputed, ",
                   plan.regated, " regated, ", plan.renewed, " renewed");
  return {{"setting", "recompute"}, {"chosen", chosen}, {"reason", reason}};
}

Json MomentumChoice(const Plan& plan, const SessionConfig& config) {
  std::string reason = "asked for";
  if (config.momentum == MomentumPlace::kAuto) {
    reason = plan.momentum_tier != Tier::kDevice
                 ? "auto: with momentum beside the weights the session does not fit"
             : plan.fits() ? "auto: it fits beside the weights"
                           : "auto: not even without it the session fits";
  }
  return {{"setting", "momentum"}, {"chosen", TierName(plan.momentum_tier)}, {"reason", reason}};
}

Json ChoicesOf(const Plan& plan, const SessionConfig& config) {
  if (!plan.train) return Json::array();
  return Json::array(
      {GradientsChoice(plan, config), RecomputeChoice(plan, config), MomentumChoice(plan, config)});
}

Json RemediesOf(const std::vector<Remedy>& remedies, bool on_host) {
  Json list = Json::array();
  for (const Remedy& remedy : remedies) {
    Json settings = Json::object();
    for (const auto& [key, value] : remedy.settings) settings[key] = value;
    const Plan& plan = remedy.plan;
    list.push_back(
        {{"settings", settings},
         {"bytes", plan.total_bytes + plan.occupied_bytes + (on_host ? plan.snapshot_bytes : 0)}});
  }
  return list;
}

Json DeviceOf(const PlannedEngine& planned) {
  const cuda::DeviceProfile* profile = planned.profile;
  return {{"profile", profile == nullptr ? Json(nullptr) : Json(profile->name)},
          {"description", planned.engine->Description()},
          {"measured", profile == nullptr || profile->measured}};
}

}  // namespace

std::string DescribeDeviceProfiles() {
  int count = 0;
  const cuda::DeviceProfile* profiles = cuda::DeviceProfiles(&count);
  Json list = Json::array();
  for (int i = 0; i < count; ++i) {
    const cuda::DeviceProfile& profile = profiles[i];
    list.push_back({{"name", profile.name},
                    {"device", profile.device},
                    {"compute_capability", profile.compute_capability},
                    {"multiprocessors", profile.multiprocessors},
                    {"total_bytes", profile.total_bytes},
                    {"context_bytes", profile.context_bytes},
                    {"measured", profile.measured}});
  }
  return list.dump();
}

StatusOr<Json> ReportPlan(const std::shared_ptr<const Model>& model, const SessionConfig& config,
                          const std::string& device, double nvme_bytes_per_second) {
  QFT_ASSIGN_OR_RETURN(const PlannedEngine planned, FindEngine(config, device));
  const EngineProfile& engine = *planned.engine;
  QFT_ASSIGN_OR_RETURN(const Plan plan, DecidePlan(model, config, engine));
  const bool on_host = config.engine == EngineChoice::kCpu;
  const char* tier = on_host ? "host" : "device";
  const Memory memory = MemoryOf(plan, tier);
  Json json = PlanToJson(plan, engine);
  json["device"] = DeviceOf(planned);
  json["memory"] = memory.rows();
  const Json host_limit = HostLimitOf(plan, planned.profile != nullptr);
  json["tiers"] = Json::array();
  for (const auto& [name, bytes] : memory.sums().items()) {
    const bool engines = name == tier;
    json["tiers"].push_back({{"tier", name},
                             {"bytes", bytes},
                             {"reserved_bytes", engines ? plan.reserved_bytes : 0},
                             {"limit_bytes", engines          ? LimitOf(plan, on_host)
                                             : name == "host" ? host_limit
                                                              : nullptr}});
  }
  json["fits"] = plan.fits() && (host_limit.is_null() || plan.host_bytes() <= host_limit);
  if (plan.momentum_tier == Tier::kNvme && nvme_bytes_per_second == 0) {
    QFT_ASSIGN_OR_RETURN(nvme_bytes_per_second, TryFolders(StoreOptionsOf(config)));
  }
  json["time"] = TimeOf(plan, engine.BestSpeeds(), nvme_bytes_per_second);
  json["choices"] = ChoicesOf(plan, config);
  json["would_fit"] = Json::array();
  if (!json["fits"].get<bool>())
    json["would_fit"] = RemediesOf(FindRemedies(model, config, engine), on_host);
  return json;
}

}  // namespace qft
