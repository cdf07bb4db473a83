// The plan: what a session will do and every byte it will hold, before it holds any.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/model/buffers.h"
#include "runtime/model/model.h"
#include "runtime/schedule.h"
#include "runtime/session_config.h"
#include "runtime/state/gradient_stack.h"
#include "runtime/state/momentum_stream.h"
#include "runtime/state/tensor_state.h"

namespace qft {

struct Plan {
  std::shared_ptr<const Model> model;
  std::vector<TensorTraining> training;  // by tensor
  bool train = true;                     // false: weights only
  bool int8_states = true;
  bool integer = true;
  DType activation_type = DType::kF32;
  bool vertical = true;
  // What backward makes again, from the first block on: of so many blocks everything, of so many
  // after those gate, up and the inputs of matmuls, of so many after those the inputs alone.
  int64_t recomputed = 0;
  int64_t regated = 0;
  int64_t renewed = 0;
  // What the head's backward needs of all logits stays from the loss on; else they are made again.
  bool keeps_exps = false;
  bool fused = false;
  int64_t tokens = 0;          // of a micro-batch, padded
  int64_t micro_batches = 1;   // most in a step
  int32_t critical_count = 0;  // critical features of each matmul operand
  bool residual = false;       // weights have a residual plane
  int64_t bytes[kPurposes] = {};
  int64_t total_bytes = 0;
  int64_t snapshot_bytes = 0;  // of host memory beside these; the states' own sum
  Tier momentum_tier = Tier::kDevice;
  Tier boundary_tier = Tier::kDevice;
  int64_t boundary_bytes = 0;      // in host memory, unless it is the device
  int64_t home_bytes = 0;          // of that tier, unless it is the device
  int64_t staging_bytes = 0;       // through which they pass, of engine memory
  int64_t nvme_staging_bytes = 0;  // and, with momentum on NVMe, of host memory
  int64_t limit_bytes = 0;         // for total_bytes; 0: there is none
  int64_t host_limit_bytes = 0;    // for host_bytes(); 0: what the machine has available
  // Of the device beside total_bytes: context and libraries, and what others hold.
  int64_t occupied_bytes = 0;
  int64_t reserved_bytes = 0;  // and what stays free for the driver
  // What total_bytes would be if nothing were made again, and with a gradient stack besides.
  int64_t all_kept_bytes = 0;
  int64_t stack_bytes = 0;

  // Of host memory beside the engine's: pinned, where there is a device.
  int64_t host_bytes() const;
  // Of the engine's memory.
  bool fits() const { return limit_bytes == 0 || total_bytes <= limit_bytes; }

  bool trains(int tensor) const { return train && training[tensor].trainable; }
  Kept kept(int64_t block) const;
  // A step's updates wait on the stack until the forward pass of the next: then what moves
  // momentum runs beside it.
  bool late_updates() const { return train && !fused && momentum_tier != Tier::kDevice; }
  // Micro-batches whose buffers exist side by side.
  int64_t slots() const { return vertical ? micro_batches : 1; }
  // critical_columns: of all sites, [sites, critical_count].
  StateFormat format(int tensor, const int32_t* critical_columns) const;
  ScheduleShape schedule_shape(int64_t micro_batch_count) const;
};

// All memory of a session.
struct SessionBuffers {
  void* staging = nullptr;  // of momentum that lives elsewhere
  std::vector<TensorState> tensors;
  int32_t* critical_columns = nullptr;  // [sites, critical_count]
  GradientStack stack;
  StepState* late_step = nullptr;    // beside the workspace's, with late_updates()
  std::vector<Matrix> accumulators;  // by tensor; chunk-sized for embedding and head
  // Residual stream [block 0 .. L][slot]; without training two that take turns; a ring where they
  // live elsewhere.
  std::vector<Matrix> boundaries;
  std::vector<BlockActivations> activations;  // [block][slot]; without training one for all blocks
  std::vector<MicroBatch> micro_batches;      // [slot]
  Workspace workspace;
  void* engine_scratch = nullptr;
  size_t engine_scratch_bytes = 0;
};

// Decides what the configuration leaves open (gradients = auto, recompute = auto) and adds up,
// whether it fits or not. Errors: NOT_FOUND, UNSUPPORTED, OUT_OF_RANGE.
StatusOr<Plan> DecidePlan(std::shared_ptr<const Model> model, const SessionConfig& config,
                          const EngineProfile& engine);
// OUT_OF_MEMORY unless host_bytes() fit in what is available or allowed.
Status CheckHostMemory(const Plan& plan);
// A plan that fits here. Errors: as DecidePlan; OUT_OF_MEMORY, with what would fit.
StatusOr<Plan> MakePlan(std::shared_ptr<const Model> model, const SessionConfig& config,
                        const EngineProfile& engine);

// `tokens` as micro-batches hold them.
int64_t PaddedTokens(int64_t tokens, const EngineProfile& engine);

// Columns of the operand at each site: 4 a block and the head's.
std::vector<int64_t> SiteWidths(const Plan& plan);

// home: for momentum of quantised tensors, where it is not the device's: aligned as a store needs.
SessionBuffers AllocateSession(const Plan& plan, const EngineProfile& engine, Arena& arena,
                               Arena& home);

// What updates take from the home of momentum, one after the other; in an order of `tensors`.
std::vector<MomentumUnit> MomentumUnits(const Plan& plan, const std::vector<TensorState>& states,
                                        const std::vector<int>& tensors);

// "12.345 GB", in powers of ten.
std::string Gigabytes(int64_t bytes);

nlohmann::ordered_json PlanToJson(const Plan& plan, const EngineProfile& engine);

}  // namespace qft
