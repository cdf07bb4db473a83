// What would fit where a plan doesn't.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "runtime/plan.h"

namespace qft {

struct Remedy {
  std::vector<std::pair<std::string, std::string>> settings;  // key, value
  Plan plan;                                                  // with them; it fits
};

// Changes to a configuration that is planned too large. Each has been planned and fits; those that
// leave the batches as they are come first. Single changes, where any helps, else all at once;
// empty: not even these.
std::vector<Remedy> FindRemedies(const std::shared_ptr<const Model>& model,
                                 const SessionConfig& config, const EngineProfile& engine);

// "a=1, b=2"
std::string SettingsToText(const Remedy& remedy);
// "what would fit: a=1; or b=2, c=3", or that nothing would.
std::string RemediesToText(const std::vector<Remedy>& remedies);

}  // namespace qft
