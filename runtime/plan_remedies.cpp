#include "runtime/plan_remedies.h"

#include <algorithm>

#include "absl/strings/str_join.h"

namespace qft {
namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;

StatusOr<SessionConfig> With(SessionConfig config, const Settings& settings) {
  for (const auto& [key, value] : settings) QFT_RETURN_IF_ERROR(config.SetText(key, value));
  return config;
}

class Search {
 public:
  Search(const std::shared_ptr<const Model>& model, const SessionConfig& config,
         const EngineProfile& engine)
      : model_(model), config_(config), engine_(engine) {}

  // Adds the settings if they fit.
  bool Try(const Settings& settings) {
    if (settings.empty() || !Fits(settings)) return false;
    StatusOr<Plan> plan = PlanWith(settings, /*recompute_all=*/false);
    if (!plan.ok() || !plan->fits()) return false;
    found_.push_back({settings, *std::move(plan)});
    return true;
  }

  // Adds the settings with the largest value of `key`, a multiple of `unit` below `end`, that fits.
  bool TryLargest(Settings settings, const std::string& key, int64_t unit, int64_t end) {
    int64_t fits = 0;
    int64_t too_large = (end + unit - 1) / unit;
    settings.emplace_back(key, "");
    while (too_large - fits > 1) {
      const int64_t middle = fits + (too_large - fits) / 2;
      settings.back().second = absl::StrCat(middle * unit);
      (Fits(settings) ? fits : too_large) = middle;
    }
    settings.back().second = absl::StrCat(fits * unit);
    return fits > 0 && Try(settings);
  }

  std::vector<Remedy> Take() { return std::move(found_); }

 private:
  StatusOr<Plan> PlanWith(const Settings& settings, bool recompute_all) const {
    QFT_ASSIGN_OR_RETURN(SessionConfig config, With(config_, settings));
    if (recompute_all && config.recompute == Recompute::kAuto) {
      config.recompute = Recompute::kAlways;
    }
    return DecidePlan(model_, config, engine_);
  }

  // Where the planner may recompute, all blocks are what takes least: one count instead of many.
  bool Fits(const Settings& settings) const {
    const StatusOr<Plan> plan = PlanWith(settings, /*recompute_all=*/true);
    return plan.ok() && plan->fits();
  }

  const std::shared_ptr<const Model>& model_;
  const SessionConfig& config_;
  const EngineProfile& engine_;
  std::vector<Remedy> found_;
};

// What takes less memory with the batches as they are, a change each.
std::vector<Settings> Changes(const SessionConfig& config) {
  std::vector<Settings> changes;
  const bool train = config.mode == Mode::kTrain;
  const bool may_fuse = config.accumulation == Accumulation::kVertical || config.micro_batches == 1;
  if (train && config.gradients == GradientMode::kStack && may_fuse) {
    changes.push_back({{"gradients", "fused"}});
  }
  if (train && config.recompute == Recompute::kNever) changes.push_back({{"recompute", "auto"}});
  const bool beside = train && config.engine == EngineChoice::kCuda;
  if (beside && config.momentum == MomentumPlace::kDevice && config.states == StateKind::kInt8) {
    changes.push_back({{"momentum", "host"}});
  }
  if (beside && config.boundaries == Tier::kDevice && config.micro_batches > 1) {
    changes.push_back({{"boundaries", "host"}});
  }
  if (config.residual_bits > 0 && config.states == StateKind::kInt8) {
    changes.push_back({{"residual_bits", "0"}});
  }
  if (config.engine == EngineChoice::kCpu && config.snapshot == SnapshotPlace::kHost) {
    changes.push_back({{"snapshot", "none"}});
  }
  return changes;
}

Settings Joined(const std::vector<Settings>& changes) {
  Settings all;
  for (const Settings& change : changes) all.insert(all.end(), change.begin(), change.end());
  return all;
}

bool MayAccumulateHorizontally(const SessionConfig& config) {
  return config.mode == Mode::kTrain && config.micro_batches > 1 &&
         config.accumulation == Accumulation::kVertical && config.gradients != GradientMode::kFused;
}

}  // namespace

std::vector<Remedy> FindRemedies(const std::shared_ptr<const Model>& model,
                                 const SessionConfig& config, const EngineProfile& engine) {
  Search search(model, config, engine);
  const std::vector<Settings> changes = Changes(config);
  const int64_t unit = engine.TokenMultiple();
  bool found = false;
  for (const Settings& change : changes) found |= search.Try(change);
  if (!found && changes.size() > 1) found = search.Try(Joined(changes));
  if (MayAccumulateHorizontally(config)) found |= search.Try({{"accumulation", "horizontal"}});
  found |= search.TryLargest({}, "micro_batches", 1, config.micro_batches);
  found |= search.TryLargest({}, "micro_batch_tokens", unit, config.micro_batch_tokens);
  if (!found) {
    Settings all = Joined(changes);
    all.emplace_back("critical_features", "0");
    all.emplace_back("micro_batches", "1");
    search.TryLargest(all, "micro_batch_tokens", unit, config.micro_batch_tokens + unit);
  }
  return search.Take();
}

std::string SettingsToText(const Remedy& remedy) {
  return absl::StrJoin(remedy.settings, ", ", absl::PairFormatter("="));
}

std::string RemediesToText(const std::vector<Remedy>& remedies) {
  if (remedies.empty()) {
    return "nothing that was tried would fit, not even the smallest micro-batch without residual "
           "planes and critical features";
  }
  return absl::StrCat("what would fit: ",
                      absl::StrJoin(remedies, "; or ", [](std::string* out, const Remedy& remedy) {
                        out->append(SettingsToText(remedy));
                      }));
}

}  // namespace qft
