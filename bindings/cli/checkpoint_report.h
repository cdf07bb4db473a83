// The library's reports on checkpoints, and how they read.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "bindings/cli/handles.h"

namespace qft::cli {

// The folder of checkpoints, or the checkpoint, that a path someone types leads to.
std::string CheckpointsOf(const std::string& path);

// As qft_checkpoint_report_get_json describes them.
nlohmann::json ReportCheckpoints(const std::string& path, int32_t check);
nlohmann::json PruneCheckpoints(const std::string& folder, const qft_prune_options& options);

// Whether nothing that was checked is damaged, and something was.
bool AllWhole(const nlohmann::json& report);
// "whole", or what is wrong and what to do.
std::string StateOf(const nlohmann::json& entry);

// On stdout.
void PrintVerified(const nlohmann::json& report);
void PrintPruned(const nlohmann::json& report);

}  // namespace qft::cli
