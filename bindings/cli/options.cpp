#include "bindings/cli/options.h"

#include <algorithm>

#include "bindings/cli/failure.h"

namespace qft::cli {
namespace {

using nlohmann::json;

bool IsGiven(const std::vector<std::string>& arguments, const std::string& name) {
  const std::string flag = "--" + name;
  return std::any_of(arguments.begin(), arguments.end(), [&](const std::string& argument) {
    return argument == flag || argument.rfind(flag + "=", 0) == 0;
  });
}

// --steps and --epochs say the same thing: one on the command line displaces the other in the file.
// So do files of data, which would otherwise be added to those in the file.
bool IsDisplaced(const std::string& name, const std::vector<std::string>& given) {
  return (name == "data" && IsGiven(given, "data")) ||
         (name == "steps" && IsGiven(given, "epochs")) ||
         (name == "epochs" && IsGiven(given, "steps"));
}

std::string Scalar(const json& value, const std::string& where) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number() || value.is_boolean()) return value.dump();
  throw Usage(where + " must be a string, a number, true, false, or a list of strings");
}

}  // namespace

void OptionTable::AddFlag(const std::string& group, const std::string& name, bool& value,
                          const std::string& help) {
  Remember(name, value);
  app_->add_flag("--" + name, value, help)->group(group);
}

CLI::Option* OptionTable::AddList(const std::string& group, const std::string& name,
                                  std::vector<std::string>& values, const std::string& help) {
  Remember(name, values);
  return app_->add_option("--" + name, values, help)
      ->group(group)
      ->allow_extra_args(false)
      ->take_all();
}

json OptionTable::ToJson() const {
  json result = json::object();
  for (const auto& [name, get] : values_) {
    json value = get();
    const bool empty = (value.is_string() && value.get_ref<const std::string&>().empty()) ||
                       (value.is_array() && value.empty()) || value == json(false);
    if (!empty) result[name] = std::move(value);
  }
  return result;
}

std::vector<std::string> ArgumentsFromConfig(const json& config, const std::string& source,
                                             const CLI::App& app,
                                             const std::vector<std::string>& given) {
  if (!config.is_object()) throw Usage(source + ": not a JSON object of options");
  std::vector<std::string> arguments;
  for (const auto& [name, value] : config.items()) {
    if (app.get_option_no_throw("--" + name) == nullptr || name == "config") {
      throw Usage(source + ": unknown option '" + name + "'");
    }
    if (IsDisplaced(name, given)) continue;
    const std::string where = source + ": '" + name + "'";
    const json list = value.is_array() ? value : json::array({value});
    for (const json& item : list) arguments.push_back("--" + name + "=" + Scalar(item, where));
  }
  return arguments;
}

std::string FindArgument(const std::vector<std::string>& arguments, const std::string& name) {
  const std::string flag = "--" + name;
  std::string found;
  for (size_t i = 0; i < arguments.size(); ++i) {
    if (arguments[i].rfind(flag + "=", 0) == 0) found = arguments[i].substr(flag.size() + 1);
    const bool has_value = i + 1 < arguments.size() && arguments[i + 1].rfind('-', 0) != 0;
    if (arguments[i] == flag && has_value) found = arguments[i + 1];
  }
  return found;
}

}  // namespace qft::cli
