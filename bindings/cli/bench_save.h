// What `qft bench --save` measures: the time of steps while a checkpoint is written, against quiet
// ones in the same run.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "bindings/cli/handles.h"

namespace qft::cli {

// Saves and steps in turns, until `steps` steps were taken during saves and as many between them.
// step: takes one, and gives its seconds. The result's keys, times in seconds:
//   saves, steps_during, steps_quiet
//   begin_seconds   of the call that begins a save: of the whole save where there is no snapshot
//   save_seconds    from that call to the end of the save
//   step_seconds_during, step_seconds_quiet   means; during: with begin_seconds in the first step
//   step_seconds_slowest                      of those during a save, begin_seconds included
//   step_ratio                                of the two means
//   checkpoint_bytes   of all files of the last one
// begin_seconds and save_seconds are means.
nlohmann::json MeasureSaves(const Session& session, const std::string& folder, int64_t steps,
                            const std::function<double()>& step);
void PrintSaves(const nlohmann::json& saves);

}  // namespace qft::cli
