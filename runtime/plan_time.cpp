#include "runtime/plan_time.h"

#include <algorithm>

namespace qft {
namespace {

// Fitted to sessions on an H100, 7B to 33B, 2,048 to 65,536 tokens a step; none of the eleven in
// PlanTimeTest.AsMeasuredOnAnH100 is more than 10 % off. Everything that goes with tokens counts as
// matmuls do.
constexpr double kMatmulTimes = 2.29;
constexpr double kUpdateBytes = 27.8;  // for each parameter that trains
constexpr double kAccumulateBytes =
    21.9;  // for each, a micro-batch that adds to another's gradient

// Of what a disk does where nothing but the disk is waited for.
constexpr double kDiskShare = 0.9;

constexpr int64_t kMostMicroBatches = 1 << 20;

struct Operations {
  double forward = 0;
  double backward = 0;
};

double ElementsOf(const Plan& plan, int tensor) {
  return static_cast<double>(plan.model->table()[tensor].elements());
}

// Of one token: two for each weight that it is multiplied with.
Operations OperationsOf(const Plan& plan) {
  const LlamaTensors& tensors = plan.model->tensors();
  const ScheduleShape shape = plan.schedule_shape(1);
  Operations operations;
  const auto add = [&](int tensor, bool carries) {
    if (SiteOf(tensors, tensor) < 0) return 0.0;
    const double once = 2 * ElementsOf(plan, tensor);
    operations.forward += once;
    if (carries) operations.backward += once;
    if (plan.trains(tensor)) operations.backward += once;
    return once;
  };
  for (int block = 0; block < shape.blocks; ++block) {
    const LlamaBlockTensors& block_tensors = tensors.blocks[static_cast<size_t>(block)];
    double all = 0;
    for (const int tensor : BackwardOrder(block_tensors)) {
      all += add(tensor, block >= shape.lowest_trained);
    }
    const double gated = 2 * (ElementsOf(plan, block_tensors.gate.weight) +
                              ElementsOf(plan, block_tensors.up.weight));
    const Kept kept = plan.kept(block);
    if (block < shape.lowest_trained) continue;
    if (kept == Kept::kNothing) operations.backward += all;
    if (kept == Kept::kNoGates) operations.backward += gated;
  }
  add(tensors.head, true);
  return operations;
}

double TrainedParameters(const Plan& plan) {
  double sum = 0;
  for (int i = 0; i < plan.model->table().size(); ++i) {
    if (plan.trains(i)) sum += ElementsOf(plan, i);
  }
  return sum;
}

// Of momentum, what staging holds: it is there before the first update, or leaves after the last.
double StagedShare(const Plan& plan) {
  const int64_t staging =
      plan.momentum_tier == Tier::kNvme ? plan.nvme_staging_bytes : plan.staging_bytes;
  return std::min(1.0, static_cast<double>(staging) / static_cast<double>(plan.home_bytes));
}

// Time of the parts of a step with so many micro-batches.
StepTime TimeOf(const Plan& plan, const Speeds& speeds, double transfer_seconds,
                int64_t micro_batches) {
  const Operations operations = OperationsOf(plan);
  const double tokens = static_cast<double>(plan.tokens * micro_batches);
  const double matmul = kMatmulTimes * tokens / speeds.integer_operations;
  const double added = static_cast<double>(plan.vertical ? micro_batches - 1 : micro_batches);
  const double forward = matmul * operations.forward;
  const double others =
      TrainedParameters(plan) * (kUpdateBytes + kAccumulateBytes * added) / speeds.memory_bytes;
  StepTime time;
  time.compute_seconds = forward + matmul * operations.backward + others;
  time.transfer_seconds = transfer_seconds;
  if (transfer_seconds == 0) return time;
  // What is not staged moves beside updates; all of it beside the step.
  const double hides = plan.fused ? time.compute_seconds - forward : forward;
  const double beside_updates = transfer_seconds * (1 - StagedShare(plan));
  time.waits_seconds =
      std::max({0.0, beside_updates - hides, transfer_seconds - time.compute_seconds});
  return time;
}

bool Hidden(const StepTime& time) {
  return time.waits_seconds <= kHiddenShare * time.seconds();
}

double TransferSeconds(const Plan& plan, const Speeds& speeds, double nvme_bytes_per_second) {
  const auto bytes = static_cast<double>(plan.home_bytes);
  switch (plan.momentum_tier) {
    case Tier::kDevice:
      return 0;
    case Tier::kHost:
      return bytes / speeds.host_bytes;
    case Tier::kNvme:
      return 2 * bytes / (kDiskShare * nvme_bytes_per_second);
  }
  return 0;
}

}  // namespace

std::optional<StepTime> ExpectStepTime(const Plan& plan, const Speeds& speeds,
                                       double nvme_bytes_per_second) {
  if (!plan.train || !plan.integer || speeds.integer_operations == 0) return std::nullopt;
  if (plan.momentum_tier == Tier::kNvme && nvme_bytes_per_second <= 0) return std::nullopt;
  const double transfer = TransferSeconds(plan, speeds, nvme_bytes_per_second);
  StepTime time = TimeOf(plan, speeds, transfer, plan.micro_batches);
  if (plan.momentum_tier == Tier::kDevice) return time;
  int64_t shown = 0;
  int64_t enough = 1;
  while (enough < kMostMicroBatches && !Hidden(TimeOf(plan, speeds, transfer, enough))) {
    shown = enough;
    enough *= 2;
  }
  while (enough - shown > 1) {
    const int64_t middle = (shown + enough) / 2;
    (Hidden(TimeOf(plan, speeds, transfer, middle)) ? enough : shown) = middle;
  }
  time.hidden_from_tokens = enough * plan.tokens;
  return time;
}

}  // namespace qft
