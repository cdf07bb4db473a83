// A command's options, told once: to the parser, to JSON configuration files and to the run's
// config.json.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

namespace qft::cli {

class OptionTable {
 public:
  explicit OptionTable(CLI::App* app) : app_(app) {}

  // An option with one value; the last one given counts.
  template <typename T>
  CLI::Option* Add(const std::string& group, const std::string& name, T& value,
                   const std::string& help) {
    Remember(name, value);
    return app_->add_option("--" + name, value, help)
        ->group(group)
        ->capture_default_str()
        ->take_last();
  }
  // An option without a value.
  void AddFlag(const std::string& group, const std::string& name, bool& value,
               const std::string& help);
  // An option that may be given several times.
  CLI::Option* AddList(const std::string& group, const std::string& name,
                       std::vector<std::string>& values, const std::string& help);

  // The options that are not empty, by long name.
  nlohmann::json ToJson() const;

 private:
  template <typename T>
  void Remember(const std::string& name, const T& value) {
    values_.emplace_back(name, [&value] { return nlohmann::json(value); });
  }

  CLI::App* app_;
  std::vector<std::pair<std::string, std::function<nlohmann::json()>>> values_;
};

// The arguments that say what a configuration file says, to be put before the command line's, which
// then win. `source` names the file in errors. An option in `given` excludes its rivals.
std::vector<std::string> ArgumentsFromConfig(const nlohmann::json& config,
                                             const std::string& source, const CLI::App& app,
                                             const std::vector<std::string>& given);

// The value of "--name VALUE" or "--name=VALUE" among the arguments; empty when there is none.
std::string FindArgument(const std::vector<std::string>& arguments, const std::string& name);

}  // namespace qft::cli
