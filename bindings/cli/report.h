// What a fine-tuning run tells: before it starts, in metrics.jsonl, and at its end.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "bindings/cli/training.h"

namespace qft::cli {

struct Sample {
  std::string prompt;
  std::string before;
  std::string after;
};

// What a run comes to.
struct Outcome {
  StopReason reason = StopReason::kDone;
  std::optional<double> loss_after;
  std::optional<double> codes_changed;
  std::vector<Sample> samples;
};

// Model, data, length and memory, on stdout.
void PrintPlan(const FinetuneOptions& options, const Session& session, const Dataset& dataset,
               int64_t steps);
// The content of summary.json.
nlohmann::json Summarize(const FinetuneOptions& options, const Session& session,
                         const Training& training, const Outcome& outcome);
// The same for a person, on stdout.
void PrintSummary(const nlohmann::json& summary, const RunFolder& folder);

// The engine's name and what it runs on, as the session's plan says.
std::string Engine(const Session& session);

}  // namespace qft::cli
