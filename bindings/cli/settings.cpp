#include "bindings/cli/settings.h"

#include <array>
#include <string_view>

#include "bindings/cli/text.h"

namespace qft::cli {
namespace {

using nlohmann::json;

// Keys whose options do more than set them.
constexpr std::array<std::string_view, 6> kOwnOptions = {
    "threads", "seed", "micro_batch_tokens", "micro_batches", "weight_decay", "clip_norm"};

constexpr std::string_view kMode = "mode";

bool HasOwnOption(std::string_view key) {
  for (const std::string_view own : kOwnOptions) {
    if (own == key) return true;
  }
  return false;
}

std::string OptionName(std::string key) {
  for (char& c : key) {
    if (c == '_') c = '-';
  }
  return "--" + key;
}

void SetInt(const Config& config, std::string_view key, int64_t value) {
  std::string message;
  if (Try(&message, qft_config_set_int, config.get(), key.data(), key.size(), value) != QFT_OK) {
    throw Usage(OptionName(std::string(key)) + ": " + message);
  }
}

void SetFloat(const Config& config, std::string_view key, double value) {
  std::string message;
  if (Try(&message, qft_config_set_float, config.get(), key.data(), key.size(), value) != QFT_OK) {
    throw Usage(OptionName(std::string(key)) + ": " + message);
  }
}

void SetPair(const Config& config, const std::string& pair) {
  const size_t equals = pair.find('=');
  if (equals == 0 || equals == std::string::npos) {
    throw Usage("--set " + pair + ": expected KEY=VALUE");
  }
  const std::string key = pair.substr(0, equals);
  const std::string value = pair.substr(equals + 1);
  if (key == kMode) throw Usage("--set " + pair + ": the command decides the mode");
  if (HasOwnOption(key)) throw Usage("--set " + pair + ": use " + OptionName(key));
  std::string message;
  if (Try(&message, qft_config_set_text, config.get(), key.data(), key.size(), value.data(),
          value.size()) != QFT_OK) {
    throw Usage("--set " + pair + ": " + message);
  }
}

double Number(const std::string& text, const std::string& group) {
  size_t used = 0;
  try {
    const double value = std::stod(text, &used);
    if (used == text.size()) return value;
  } catch (const std::logic_error&) {
    used = 0;
  }
  throw Usage("--group " + group + ": '" + text +
              "' is not a number; expected PATTERN:LR_FACTOR[:WEIGHT_DECAY]");
}

void AddGroup(const Config& config, const std::string& option, const std::string& pattern,
              double factor, double weight_decay, bool frozen) {
  std::string message;
  if (Try(&message, qft_config_add_group, config.get(), pattern.data(), pattern.size(), factor,
          weight_decay, int32_t{frozen}) != QFT_OK) {
    throw Usage(option + ": " + message);
  }
}

void AddGroup(const Config& config, const std::string& group) {
  const size_t first = group.find(':');
  if (first == std::string::npos) {
    throw Usage("--group " + group + ": expected PATTERN:LR_FACTOR[:WEIGHT_DECAY]");
  }
  const size_t second = group.find(':', first + 1);
  const bool has_decay = second != std::string::npos;
  const size_t factor_length = has_decay ? second - first - 1 : std::string::npos;
  const double factor = Number(group.substr(first + 1, factor_length), group);
  const double decay = has_decay ? Number(group.substr(second + 1), group) : -1.0;
  AddGroup(config, "--group " + group, group.substr(0, first), factor, decay, false);
}

void SetMode(const Config& config, bool infer) {
  const std::string_view mode = infer ? "infer" : "train";
  Call(qft_config_set_string, config.get(), kMode.data(), kMode.size(), mode.data(), mode.size());
}

std::string Plain(const json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

// "auto | stack | fused" for choices, the type otherwise.
std::string Values(const json& key) {
  const json& range = key.at("range");
  if (!range.contains("choices")) return key.at("type").get<std::string>();
  std::string text;
  for (const json& choice : range.at("choices"))
    text += (text.empty() ? "" : " | ") + Plain(choice);
  return text;
}

}  // namespace

Config MakeConfig(const Settings& settings) {
  Config config = Make<Config>(qft_config_create);
  SetMode(config, settings.infer);
  SetInt(config, "threads", settings.threads);
  SetInt(config, "seed", settings.seed);
  SetInt(config, "micro_batch_tokens", settings.micro_batch_tokens);
  SetInt(config, "micro_batches", settings.micro_batches);
  SetFloat(config, "weight_decay", settings.weight_decay);
  SetFloat(config, "clip_norm", settings.clip_norm);
  for (const std::string& pair : settings.set) SetPair(config, pair);
  for (const std::string& group : settings.groups) AddGroup(config, group);
  for (const std::string& pattern : settings.freeze) {
    AddGroup(config, "--freeze " + pattern, pattern, 1.0, -1.0, true);
  }
  return config;
}

Settings InferenceSettings(const json& run_config) {
  Settings settings;
  settings.set = run_config.value("set", std::vector<std::string>());
  settings.seed = run_config.value("seed", int64_t{0});
  settings.infer = true;
  return settings;
}

std::string DescribeKeys() {
  std::string text;
  for (const json& key : json::parse(qft_config_describe())) {
    const std::string name = key.at("key").get<std::string>();
    if (HasOwnOption(name) || name == kMode) continue;
    text += Format("  %-14s %s\n  %-14s   %s, default %s\n", name.c_str(),
                   key.at("meaning").get_ref<const std::string&>().c_str(), "", Values(key).c_str(),
                   Plain(key.at("default")).c_str());
  }
  return text;
}

}  // namespace qft::cli
