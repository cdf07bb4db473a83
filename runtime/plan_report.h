// A plan for somebody who wants to know whether a session would fit, without one.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "runtime/plan.h"

namespace qft {

// JSON array of {name, device, compute_capability, multiprocessors, total_bytes, context_bytes,
// measured}: what can be planned for without being there.
std::string DescribeDeviceProfiles();

// What PlanToJson says, and
//   device   profile (null: the machine's own), description, measured: whether memory and context
//            were, on such a device
//   memory   array of {purpose, tier, bytes}: every allocation, context of the device included
//   tiers    array of {tier, bytes, reserved_bytes, limit_bytes (null: unknown)}, tier "device" or
//            "host"
//   fits     bytes and reserved_bytes are within limit_bytes
//   time     null where nothing is known of the device or the disk; else {seconds_per_step,
//            tokens_per_second, compute_seconds, transfer_seconds (momentum's, beside that),
//            waits_seconds (what of it nothing hides), hidden_from_tokens (tokens a step with which
//            waits are at most 5 %; 0: momentum does not move), nvme_bytes_per_second (null: no
//            disk)}
//   choices  array of {setting, chosen, reason}
//   would_fit  array of {settings, bytes (of the engine's tier)}; empty where the plan fits
// `device`: a profile's name; empty: with engine = cuda the machine's own device, or, where it has
// none, the default profile. `nvme_bytes_per_second`: of a disk, read and written at once; 0: with
// momentum on NVMe it is measured in nvme_folders. A plan that doesn't fit is an answer, no error.
// Errors: as DecidePlan; NOT_FOUND (no such profile), INVALID_ARGUMENT (a device for the cpu
// engine).
StatusOr<nlohmann::ordered_json> ReportPlan(const std::shared_ptr<const Model>& model,
                                            const SessionConfig& config, const std::string& device,
                                            double nvme_bytes_per_second);

}  // namespace qft
