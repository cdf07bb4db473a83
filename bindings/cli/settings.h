// What the options of a command set in a session, and how it becomes a qft_config.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bindings/cli/handles.h"

namespace qft::cli {

struct Settings {
  bool infer = false;  // weights only
  int64_t threads = 0;
  int64_t seed = 0;
  int64_t micro_batch_tokens = 2048;
  int64_t micro_batches = 1;
  double weight_decay = 0;
  double clip_norm = 1;
  std::vector<std::string> set;     // "key=value"
  std::vector<std::string> freeze;  // patterns
  std::vector<std::string> groups;  // "pattern:factor[:weight_decay]"
};

// Bad usage is a Failure that names the option.
Config MakeConfig(const Settings& settings);

// Settings for use without training. run_config: the run's config.json, whose kinds of states a
// checkpoint has; empty: a model as it is.
Settings InferenceSettings(const nlohmann::json& run_config);

// Every key that --set takes, a line each, for --help.
std::string DescribeKeys();

}  // namespace qft::cli
