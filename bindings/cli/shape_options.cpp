#include "bindings/cli/shape_options.h"

namespace qft::cli {

void ShapeOptions::AddOptions(OptionTable& table) {
  table.Add("Input", "model", model_, "Folder with a config.json, or one of " + ShapeNames())
      ->required();
  const auto positive = [&](const char* name, int64_t& value, const char* help) {
    table.Add("Batches", name, value, help)->check(CLI::PositiveNumber);
  };
  positive("batch", batch_, "Sequences in a micro-batch");
  positive("seq", sequence_, "Tokens in a sequence");
  positive("micro-batches", micro_batches_, "Micro-batches in a step");
  table.Add("Session", "gradients", gradients_, "auto, stack or fused")
      ->check(CLI::IsMember({"auto", "stack", "fused"}));
  table
      .Add("Session", "device-memory-limit", limit_,
           "Most memory in use, as in 30G (the session's memory_limit)")
      ->transform(CLI::AsSizeValue(true));
  table.AddList("Session", "set", set_, "KEY=VALUE of the session");
}

Settings ShapeOptions::MakeSettings() const {
  Settings settings;
  settings.micro_batch_tokens = micro_batch_tokens();
  settings.micro_batches = micro_batches_;
  settings.set = set_;
  settings.set.push_back("gradients=" + gradients_);
  if (limit_ > 0) settings.set.push_back("memory_limit=" + std::to_string(limit_));
  return settings;
}

}  // namespace qft::cli
