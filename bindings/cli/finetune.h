// The arguments of `qft finetune` with those that its --config file or the resumed run stand for.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace qft::cli {

// arguments: after the program's name, the first one "finetune".
std::vector<std::string> WithConfiguration(const std::vector<std::string>& arguments,
                                           const CLI::App& app);

}  // namespace qft::cli
