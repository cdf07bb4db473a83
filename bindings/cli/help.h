// Help texts with less machinery in them than CLI11's own: the value's kind behind the option, the
// default behind the description.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace qft::cli {

class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter() { column_width(kColumn); }

  std::string make_option_opts(const CLI::Option* option) const override {
    if (option->get_type_size() == 0) return "";
    const std::string type = option->get_type_name();
    const std::string kind = type.substr(0, type.find(':'));
    return " " + (kind == "INT" ? "N" : kind == "FLOAT" ? "X" : kind);
  }

  std::string make_option_desc(const CLI::Option* option) const override {
    std::string text = option->get_description();
    if (option->get_required()) text += " (needed)";
    const std::string value = option->get_default_str();
    if (!value.empty() && value != "\"\"") text += " [" + value + "]";
    return text;
  }

 private:
  static constexpr size_t kColumn = 28;
};

}  // namespace qft::cli
