// The plan: what a session will do and every byte it will hold, before it holds any.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/status.h"
#include "runtime/model/buffers.h"
#include "runtime/model/model.h"
#include "runtime/schedule.h"
#include "runtime/session_config.h"
#include "runtime/state/gradient_stack.h"
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

  bool trains(int tensor) const { return train && training[tensor].trainable; }
  Kept kept(int64_t block) const;
  // Micro-batches whose buffers exist side by side.
  int64_t slots() const { return vertical ? micro_batches : 1; }
  // critical_columns: of all sites, [sites, critical_count].
  StateFormat format(int tensor, const int32_t* critical_columns) const;
  ScheduleShape schedule_shape(int64_t micro_batch_count) const;
};

// All memory of a session.
struct SessionBuffers {
  std::vector<TensorState> tensors;
  int32_t* critical_columns = nullptr;  // [sites, critical_count]
  GradientStack stack;
  std::vector<Matrix> accumulators;           // by tensor; chunk-sized for embedding and head
  std::vector<Matrix> boundaries;             // residual stream [block 0 .. L][slot]
  std::vector<BlockActivations> activations;  // [block][slot]; without training one for all blocks
  std::vector<MicroBatch> micro_batches;      // [slot]
  Workspace workspace;
  void* engine_scratch = nullptr;
  size_t engine_scratch_bytes = 0;
};

// Decides what the configuration leaves open (gradients = auto, recompute = auto) and adds up.
// engine: asked for its scratch sizes only. Errors: NOT_FOUND, UNSUPPORTED, OUT_OF_MEMORY.
StatusOr<Plan> MakePlan(std::shared_ptr<const Model> model, const SessionConfig& config,
                        const Engine& engine);

// `tokens` as micro-batches hold them.
int64_t PaddedTokens(int64_t tokens, const Engine& engine);

// Columns of the operand at each site: 4 a block and the head's.
std::vector<int64_t> SiteWidths(const Plan& plan);

SessionBuffers AllocateSession(const Plan& plan, const Engine& engine, Arena& arena);

std::string PlanToJson(const Plan& plan, const Engine& engine);

}  // namespace qft
