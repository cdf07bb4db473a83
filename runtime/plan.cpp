#include "runtime/plan.h"

#include <algorithm>
#include <functional>

#include "base/system.h"
#include "runtime/boundary_stream.h"
#include "runtime/plan_remedies.h"

namespace qft {
namespace {

// Micro-batches times blocks, so that a plan itself stays small.
constexpr int64_t kMostBlockBuffers = int64_t{1} << 20;

// In a small model fewer features are critical than the configuration allows.
constexpr int64_t kColumnsPerCritical = 8;

StatusOr<std::vector<TensorTraining>> ApplyGroups(const TensorTable& table,
                                                  const SessionConfig& config) {
  std::vector<TensorTraining> training(table.size());
  // Decay draws norms and biases towards 0, where they are no smaller function: matrices only,
  // unless a group says otherwise.
  for (int i = 0; i < table.size(); ++i) {
    training[i].weight_decay = table[i].dimensions == 1 ? 0 : config.weight_decay;
  }
  for (size_t g = 0; g < config.groups.size(); ++g) {
    const TensorGroup& group = config.groups[g];
    bool matched = false;
    for (int i = 0; i < table.size(); ++i) {
      if (!GlobMatch(group.pattern, table[i].name)) continue;
      matched = true;
      training[i].trainable = !group.frozen;
      training[i].group = static_cast<int>(g);
      training[i].learning_rate_factor = group.learning_rate_factor;
      if (group.weight_decay >= 0) training[i].weight_decay = group.weight_decay;
    }
    if (!matched) {
      return MakeError(ErrorCode::kNotFound,
                       absl::StrCat("group pattern '", group.pattern, "' matches no tensor"));
    }
  }
  return training;
}

int LowestTrained(const Plan& plan) {
  const LlamaTensors& tensors = plan.model->tensors();
  if (plan.trains(tensors.embedding)) return -1;
  for (size_t b = 0; b < tensors.blocks.size(); ++b) {
    for (const int tensor : BackwardOrder(tensors.blocks[b])) {
      if (plan.trains(tensor)) return static_cast<int>(b);
    }
  }
  return static_cast<int>(tensors.blocks.size());
}

// Rows of a tensor whose gradient is accumulated at a time: the embedding and the head go through
// in chunks of the vocabulary.
int64_t AccumulatorRows(const LlamaTensors& tensors, int tensor) {
  const int64_t rows = tensors.table[tensor].rows;
  const bool chunked = tensor == tensors.embedding || tensor == tensors.head;
  return chunked ? std::min(rows, kVocabularyChunk) : rows;
}

// Tensors whose gradients are accumulated side by side, from the head down: with one micro-batch
// each is pushed before the next is begun.
std::vector<std::vector<int>> AccumulatorUnits(const Plan& plan) {
  const LlamaTensors& tensors = plan.model->tensors();
  std::vector<std::vector<int>> units = {{tensors.head}, {tensors.final_norm}};
  for (const LlamaBlockTensors& block : tensors.blocks) {
    if (plan.slots() > 1) {
      units.push_back(BackwardOrder(block));
      continue;
    }
    for (const int tensor : BackwardOrder(block)) units.push_back({tensor});
  }
  if (!tensors.tied()) units.push_back({tensors.embedding});
  return units;
}

// What a tensor's gradient is summed in: fp32, but where there is nothing to sum, a block's
// matrices are as precise in the engine's activation type as their codes can tell.
DType AccumulatorType(const Plan& plan, int tensor) {
  const LlamaTensors& tensors = plan.model->tensors();
  const bool single = plan.slots() == 1 && tensors.table[tensor].dimensions == 2;
  const bool block = tensor != tensors.embedding && tensor != tensors.head;
  return single && block && plan.int8_states ? plan.activation_type : DType::kF32;
}

// Units follow each other, so they lie over each other.
std::vector<Matrix> AllocateAccumulators(const Plan& plan, Arena& arena) {
  const LlamaTensors& tensors = plan.model->tensors();
  std::vector<Matrix> accumulators(tensors.table.size());
  std::vector<std::function<void(Arena&)>> groups;
  for (const std::vector<int>& unit : AccumulatorUnits(plan)) {
    groups.emplace_back([&plan, &tensors, &accumulators, unit](Arena& part) {
      for (const int tensor : unit) {
        if (!plan.trains(tensor)) continue;
        accumulators[tensor] =
            AllocateMatrix(Purpose::kWorkspace, AccumulatorType(plan, tensor),
                           AccumulatorRows(tensors, tensor), tensors.table[tensor].cols, part);
      }
    });
  }
  arena.Overlay(Purpose::kWorkspace, groups);
  return accumulators;
}

// Of all blocks; without training one, which they take in turns.
std::vector<BlockActivations> AllocateActivations(const Plan& plan, const BufferShape& shape,
                                                  Arena& arena) {
  const Kept least = plan.train ? plan.kept(0) : Kept::kNothing;
  const BlockActivations shared = AllocateSharedActivations(shape, least, arena);
  if (!plan.train) return {shared};
  std::vector<BlockActivations> activations;
  for (int64_t block = 0; block < shape.config->layers; ++block) {
    for (int64_t slot = 0; slot < plan.slots(); ++slot) {
      activations.push_back(AllocateBlockActivations(shape, plan.kept(block), shared, arena));
    }
  }
  return activations;
}

// Stack: room for everything. Fused: for a tied head's gradient, which waits for the embedding's
// contribution.
void AllocateStack(const Plan& plan, GradientStack& stack, Arena& arena) {
  const LlamaTensors& tensors = plan.model->tensors();
  int64_t total = 0;
  int64_t waiting = 0;
  for (int tensor = 0; tensor < tensors.table.size(); ++tensor) {
    if (!plan.trains(tensor)) continue;
    const int64_t bytes =
        GradientStack::EntryBytes(tensors.table[tensor], plan.format(tensor, nullptr));
    total += bytes;
    if (tensors.tied() && tensor == tensors.head) waiting = bytes;
  }
  stack.Allocate(plan.fused ? waiting : total, tensors.table.size(), arena);
}

void CountBytes(Plan& plan, const EngineProfile& engine) {
  Arena arena(nullptr);
  Arena home(nullptr, 0, kStoreAlignment);
  AllocateSession(plan, engine, arena, home);
  for (int i = 0; i < kPurposes; ++i) plan.bytes[i] = arena.bytes(static_cast<Purpose>(i));
  plan.total_bytes = arena.total_bytes();
  plan.home_bytes = home.total_bytes();
}

// Rows that one update takes.
int64_t UpdatedRows(const Plan& plan, int tensor) {
  const LlamaTensors& tensors = plan.model->tensors();
  return plan.fused ? AccumulatorRows(tensors, tensor) : tensors.table[tensor].rows;
}

// As configured, but no more than all momentum and no less than what one update takes.
int64_t StagingBytes(const Plan& plan, int64_t configured) {
  const TensorTable& table = plan.model->table();
  int64_t largest = 0;
  int64_t all = 0;
  for (int i = 0; i < table.size(); ++i) {
    if (!plan.trains(i) || !table[i].quantised) continue;
    MomentumUnit unit{{}, UpdatedRows(plan, i), table[i].cols, plan.critical_count};
    largest = std::max(largest, unit.bytes());
    unit.rows = table[i].rows;
    all += unit.bytes();
  }
  return std::max(std::min(configured, all), largest);
}

// What a checkpoint holds stands in these.
int64_t StateBytes(const Plan& plan) {
  int64_t sum = 0;
  for (const Purpose purpose :
       {Purpose::kWeights, Purpose::kCritical, Purpose::kResidual, Purpose::kMomentum}) {
    sum += plan.bytes[static_cast<int>(purpose)];
  }
  return sum;
}

void PlaceBoundaries(Plan& plan, const SessionConfig& config) {
  if (!plan.train || config.boundaries == Tier::kDevice) return;
  const ModelConfig& model = plan.model->config();
  plan.boundary_tier = config.boundaries;
  plan.boundary_bytes = WholePages((model.layers + 1) * plan.slots() * plan.tokens *
                                   model.hidden_size * ElementBytes(plan.activation_type));
}

// Where momentum lives in this plan; the caller chooses in place of kAuto.
Status PlaceMomentum(Plan& plan, const SessionConfig& config) {
  if (!plan.train || config.momentum == MomentumPlace::kDevice) return absl::OkStatus();
  if (!plan.int8_states) return Unsupported("momentum = host and nvme need states = int8");
  const bool nvme = config.momentum == MomentumPlace::kNvme;
  if (nvme && config.nvme_folders.empty()) {
    return InvalidArgument("momentum = nvme needs nvme_folders");
  }
  if (nvme && config.snapshot == SnapshotPlace::kHost) {
    return Unsupported("snapshot = host keeps momentum in host memory: use momentum = host");
  }
  plan.momentum_tier = nvme ? Tier::kNvme : Tier::kHost;
  plan.staging_bytes = StagingBytes(plan, config.staging);
  if (nvme) plan.nvme_staging_bytes = StagingBytes(plan, config.nvme_staging) + kStoreAlignment;
  return absl::OkStatus();
}

// Gives up activations of as few blocks as fit, in the order of what a byte costs to make again:
// first the inputs of matmuls, which norms make, then gate and up, two matmuls, then the logits,
// then the others.
void KeepWhatFits(Plan& plan, const EngineProfile& engine) {
  const int64_t blocks = plan.model->config().layers;
  for (int64_t given_up = 1; given_up <= 3 * blocks; ++given_up) {
    if (given_up > 2 * blocks) plan.keeps_exps = false;
    plan.recomputed = std::max<int64_t>(given_up - 2 * blocks, 0);
    plan.regated = std::max<int64_t>(std::min(given_up - blocks, 3 * blocks - given_up), 0);
    plan.renewed = std::max<int64_t>(std::min(given_up, 2 * blocks - given_up), 0);
    CountBytes(plan, engine);
    if (plan.fits()) return;
  }
}

AttentionShape PlannedAttention(const Plan& plan) {
  const ModelConfig& config = plan.model->config();
  AttentionShape shape;
  shape.tokens = plan.tokens;
  shape.heads = static_cast<int32_t>(config.heads);
  shape.kv_heads = static_cast<int32_t>(config.kv_heads);
  shape.head_dim = static_cast<int32_t>(config.head_dim);
  return shape;
}

Status CheckHeadDim(const ModelConfig& config) {
  if (config.head_dim <= kMostHeadDim) return absl::OkStatus();
  return Unsupported("the head dimension is ", config.head_dim, "; supported are even ones up to ",
                     kMostHeadDim);
}

ScratchShape PlannedScratch(const Plan& plan) {
  ScratchShape shape;
  shape.tokens = plan.tokens;
  shape.integer = plan.integer;
  const LlamaTensors& tensors = plan.model->tensors();
  for (int i = 0; i < tensors.table.size(); ++i) {
    const TensorSpec& spec = tensors.table[i];
    // The head is multiplied in chunks, the embedding not at all.
    const int64_t rows = AccumulatorRows(tensors, i);
    shape.largest_weight = std::max(shape.largest_weight, rows * spec.cols);
    shape.widest = std::max({shape.widest, rows, spec.cols});
  }
  return shape;
}

}  // namespace

StateFormat Plan::format(int tensor, const int32_t* critical_columns) const {
  StateFormat format;
  format.int8 = int8_states;
  format.residual = residual;
  const int site = SiteOf(model->tensors(), tensor);
  if (site < 0 || critical_count == 0) return format;
  format.critical_count = critical_count;
  if (critical_columns != nullptr) {
    format.critical_columns = critical_columns + static_cast<int64_t>(site) * critical_count;
  }
  return format;
}

int64_t Plan::host_bytes() const {
  return snapshot_bytes + boundary_bytes +
         (momentum_tier == Tier::kHost ? home_bytes : nvme_staging_bytes);
}

Status CheckHostMemory(const Plan& plan) {
  const int64_t available =
      plan.host_limit_bytes > 0 ? plan.host_limit_bytes : AvailableHostMemory();
  if (available == 0 || plan.host_bytes() <= available) return absl::OkStatus();
  const int64_t momentum = plan.host_bytes() - plan.snapshot_bytes - plan.boundary_bytes;
  return MakeError(
      ErrorCode::kOutOfMemory,
      absl::StrCat("momentum, boundaries and snapshot need ", Gigabytes(momentum), ", ",
                   Gigabytes(plan.boundary_bytes), " and ", Gigabytes(plan.snapshot_bytes),
                   " of host memory, available are ", Gigabytes(available)));
}

Kept Plan::kept(int64_t block) const {
  if (block < recomputed) return Kept::kNothing;
  if (block < recomputed + regated) return Kept::kNoGates;
  return block < recomputed + regated + renewed ? Kept::kNoInputs : Kept::kAll;
}

ScheduleShape Plan::schedule_shape(int64_t micro_batch_count) const {
  const LlamaTensors& tensors = model->tensors();
  ScheduleShape shape;
  shape.blocks = static_cast<int>(tensors.blocks.size());
  shape.micro_batches = static_cast<int>(micro_batch_count);
  shape.vocabulary_chunks = static_cast<int>(VocabularyChunks(model->config()));
  shape.vertical = vertical;
  shape.recomputed = static_cast<int>(recomputed);
  shape.lowest_trained = LowestTrained(*this);
  shape.head_trains = trains(tensors.head);
  return shape;
}

std::string Gigabytes(int64_t bytes) {
  const int64_t megabytes = bytes / 1000000;
  return absl::StrCat(static_cast<double>(megabytes) / 1000.0, " GB");
}

namespace {

// config.momentum is not kAuto.
StatusOr<Plan> DecideWithPlace(std::shared_ptr<const Model> model, const SessionConfig& config,
                               const EngineProfile& engine) {
  Plan plan;
  plan.model = std::move(model);
  QFT_RETURN_IF_ERROR(CheckHeadDim(plan.model->config()));
  QFT_ASSIGN_OR_RETURN(plan.training, ApplyGroups(plan.model->table(), config));
  plan.train = config.mode == Mode::kTrain;
  plan.int8_states = config.states == StateKind::kInt8;
  plan.integer = config.arithmetic == Arithmetic::kInteger;
  if (plan.integer) plan.activation_type = engine.ActivationType();
  plan.vertical = config.accumulation == Accumulation::kVertical;
  plan.tokens = PaddedTokens(config.micro_batch_tokens, engine);
  plan.micro_batches = plan.train ? config.micro_batches : 1;
  if (config.residual_bits != 0 && config.residual_bits != kResidualBits) {
    return MakeError(ErrorCode::kOutOfRange, absl::StrCat("residual_bits is ", config.residual_bits,
                                                          ", must be 0 or ", kResidualBits));
  }
  plan.residual = plan.int8_states && config.residual_bits > 0;
  if (plan.int8_states) {
    const std::vector<int64_t> widths = SiteWidths(plan);
    const int64_t narrowest = *std::min_element(widths.begin(), widths.end());
    plan.critical_count =
        static_cast<int32_t>(std::min(config.critical_features, narrowest / kColumnsPerCritical));
  }
  if (plan.integer && !plan.int8_states) {
    return Unsupported("arithmetic = integer needs states = int8");
  }
  plan.fused = config.gradients == GradientMode::kFused;
  PlaceBoundaries(plan, config);
  QFT_RETURN_IF_ERROR(PlaceMomentum(plan, config));
  if (plan.fused && !plan.vertical && plan.micro_batches > 1) {
    return Unsupported("gradients = fused needs accumulation = vertical");
  }
  if (config.recompute == Recompute::kAlways) plan.recomputed = plan.model->config().layers;
  plan.keeps_exps = plan.train && plan.slots() == 1 && config.recompute != Recompute::kAlways;
  if (plan.micro_batches * plan.model->config().layers > kMostBlockBuffers) {
    return MakeError(ErrorCode::kOutOfRange,
                     absl::StrCat(plan.micro_batches, " micro-batches of a model of ",
                                  plan.model->config().layers, " blocks are too many"));
  }
  CountBytes(plan, engine);
  if (plan.train && config.snapshot == SnapshotPlace::kHost) {
    plan.snapshot_bytes = StateBytes(plan) + plan.home_bytes;
  }
  plan.host_limit_bytes = config.host_memory_limit;
  plan.occupied_bytes = engine.OccupiedMemory();
  plan.reserved_bytes = engine.ReservedMemory();
  const int64_t beside = plan.occupied_bytes + plan.reserved_bytes;
  plan.limit_bytes = config.memory_limit > 0 ? std::max<int64_t>(config.memory_limit - beside, 1)
                                             : engine.AvailableMemory();
  // The cpu engine's memory is the host's too.
  if (plan.limit_bytes > 0 && config.engine == EngineChoice::kCpu) {
    plan.limit_bytes = std::max<int64_t>(plan.limit_bytes - plan.snapshot_bytes, 1);
  }
  plan.all_kept_bytes = plan.stack_bytes = plan.total_bytes;
  if (!plan.fits() && config.gradients == GradientMode::kAuto && plan.train &&
      (plan.vertical || plan.micro_batches == 1)) {
    plan.fused = true;
    QFT_RETURN_IF_ERROR(PlaceMomentum(plan, config));
    CountBytes(plan, engine);
    plan.all_kept_bytes = plan.total_bytes;
  }
  if (!plan.fits() && config.recompute == Recompute::kAuto && plan.train) {
    KeepWhatFits(plan, engine);
  }
  return plan;
}

}  // namespace

StatusOr<Plan> DecidePlan(std::shared_ptr<const Model> model, const SessionConfig& config,
                          const EngineProfile& engine) {
  if (config.momentum != MomentumPlace::kAuto) return DecideWithPlace(model, config, engine);
  SessionConfig decided = config;
  decided.momentum = MomentumPlace::kDevice;
  QFT_ASSIGN_OR_RETURN(Plan plan, DecideWithPlace(model, decided, engine));
  if (plan.fits() || !plan.train || !plan.int8_states) return plan;
  decided.momentum = MomentumPlace::kHost;
  QFT_ASSIGN_OR_RETURN(Plan elsewhere, DecideWithPlace(model, decided, engine));
  if (!elsewhere.fits()) return plan;
  const bool may_use_nvme = !config.nvme_folders.empty() && config.snapshot == SnapshotPlace::kNone;
  if (CheckHostMemory(elsewhere).ok() || !may_use_nvme) return elsewhere;
  decided.momentum = MomentumPlace::kNvme;
  return DecideWithPlace(std::move(model), decided, engine);
}

StatusOr<Plan> MakePlan(std::shared_ptr<const Model> model, const SessionConfig& config,
                        const EngineProfile& engine) {
  QFT_ASSIGN_OR_RETURN(Plan plan, DecidePlan(std::move(model), config, engine));
  QFT_RETURN_IF_ERROR(CheckHostMemory(plan));
  if (plan.fits()) return plan;
  const int64_t taken = plan.occupied_bytes + plan.reserved_bytes;
  const std::string beside =
      config.memory_limit > 0 && taken > 0
          ? absl::StrCat(" beside ", Gigabytes(taken), " of the device's own")
          : "";
  return MakeError(ErrorCode::kOutOfMemory,
                   absl::StrCat("the session needs ", Gigabytes(plan.total_bytes),
                                ", the limit is ", Gigabytes(plan.limit_bytes), beside, "; ",
                                RemediesToText(FindRemedies(plan.model, config, engine))));
}

int64_t PaddedTokens(int64_t tokens, const EngineProfile& engine) {
  const int64_t multiple = engine.TokenMultiple();
  return (tokens + multiple - 1) / multiple * multiple;
}

std::vector<int64_t> SiteWidths(const Plan& plan) {
  const ModelConfig& config = plan.model->config();
  std::vector<int64_t> widths;
  for (int64_t block = 0; block < config.layers; ++block) {
    for (const int64_t width : {config.hidden_size, config.heads * config.head_dim,
                                config.hidden_size, config.intermediate_size}) {
      widths.push_back(width);
    }
  }
  widths.push_back(config.hidden_size);
  return widths;
}

SessionBuffers AllocateSession(const Plan& plan, const EngineProfile& engine, Arena& arena,
                               Arena& home) {
  const Model& model = *plan.model;
  const int64_t blocks = static_cast<int64_t>(model.tensors().blocks.size());
  SessionBuffers buffers;
  buffers.critical_columns = arena.Allocate<int32_t>(
      Purpose::kCritical, static_cast<int64_t>(SiteWidths(plan).size()) * plan.critical_count);
  for (int i = 0; i < model.table().size(); ++i) {
    buffers.tensors.push_back(AllocateTensorState(
        model.table()[i], plan.trains(i), plan.format(i, buffers.critical_columns), arena,
        plan.momentum_tier == Tier::kDevice ? arena : home));
  }
  buffers.staging = arena.Allocate(Purpose::kStaging, plan.staging_bytes);
  if (plan.train) {
    AllocateStack(plan, buffers.stack, arena);
    if (plan.late_updates()) {
      buffers.late_step = arena.Allocate<StepState>(Purpose::kWorkspace, 1);
    }
    buffers.accumulators = AllocateAccumulators(plan, arena);
  }
  const BufferShape shape{&model.config(),     plan.tokens,          plan.train,     plan.integer,
                          plan.critical_count, plan.activation_type, plan.keeps_exps};
  const int64_t slots = plan.slots();
  const bool resident = plan.boundary_tier == Tier::kDevice;
  const int64_t boundaries = !plan.train ? 2
                             : resident  ? (blocks + 1) * slots
                                         : BoundaryStream::kRing;
  const Purpose boundary_purpose = resident ? Purpose::kActivations : Purpose::kStaging;
  for (int64_t i = 0; i < boundaries; ++i) {
    buffers.boundaries.push_back(AllocateMatrix(boundary_purpose, plan.activation_type, plan.tokens,
                                                model.config().hidden_size, arena));
  }
  buffers.activations = AllocateActivations(plan, shape, arena);
  const EngineBytes bytes{
      engine.AttentionBackwardScratch(PlannedAttention(plan)),
      engine.PreparedInputBytes(plan.tokens, model.config().hidden_size, plan.critical_count)};
  buffers.workspace = AllocateWorkspace(shape, slots, bytes, arena);
  for (int64_t i = 0; i < slots; ++i) {
    buffers.micro_batches.push_back(AllocateMicroBatch(shape, arena));
    if (plan.train)
      buffers.micro_batches.back().head_gradient = buffers.workspace.head_gradients[i];
  }
  buffers.engine_scratch_bytes = engine.ScratchBytes(PlannedScratch(plan));
  buffers.engine_scratch =
      arena.Allocate(Purpose::kWorkspace, static_cast<int64_t>(buffers.engine_scratch_bytes));
  return buffers;
}

std::vector<MomentumUnit> MomentumUnits(const Plan& plan, const std::vector<TensorState>& states,
                                        const std::vector<int>& tensors) {
  std::vector<MomentumUnit> units;
  const TensorTable& table = plan.model->table();
  for (const int tensor : tensors) {
    if (!plan.trains(tensor) || states[tensor].momentum.dtype != DType::kI8) continue;
    const int64_t step = UpdatedRows(plan, tensor);
    for (int64_t row = 0; row < table[tensor].rows; row += step) {
      const int64_t rows = std::min(step, table[tensor].rows - row);
      const TensorState part = TensorRows(states[tensor], row, rows);
      units.push_back({part.momentum, rows, table[tensor].cols, part.weight.critical.count});
    }
  }
  return units;
}

nlohmann::ordered_json PlanToJson(const Plan& plan, const EngineProfile& engine) {
  nlohmann::ordered_json json;
  json["engine"] = engine.Name();
  json["engine_description"] = engine.Description();
  json["states"] = plan.int8_states ? "int8" : "fp32";
  json["arithmetic"] = plan.integer ? "integer" : "float";
  json["gradients"] = plan.fused ? "fused" : "stack";
  json["accumulation"] = plan.vertical ? "vertical" : "horizontal";
  json["critical_features"] = plan.critical_count;
  json["residual_bits"] = plan.residual ? kResidualBits : 0;
  json["recomputed_blocks"] = plan.recomputed;
  json["regated_blocks"] = plan.regated;
  json["renewed_blocks"] = plan.renewed;
  json["logits_kept"] = plan.keeps_exps;
  json["micro_batch_tokens"] = plan.tokens;
  json["micro_batches"] = plan.micro_batches;
  json["parameters"] = plan.model->parameters();
  for (int i = 0; i < kPurposes; ++i) {
    json["bytes"][PurposeName(static_cast<Purpose>(i))] = plan.bytes[i];
  }
  json["bytes"]["total"] = plan.total_bytes;
  json["host_bytes"]["snapshot"] = plan.snapshot_bytes;
  json["boundary_tier"] = TierName(plan.boundary_tier);
  json["host_bytes"]["boundaries"] = plan.boundary_bytes;
  json["host_bytes"]["total"] = plan.host_bytes();
  json["momentum_tier"] = TierName(plan.momentum_tier);
  json["momentum_home_bytes"] = plan.home_bytes;
  json["late_updates"] = plan.late_updates();
  json["occupied_bytes"] = plan.occupied_bytes;
  json["reserved_bytes"] = plan.reserved_bytes;
  return json;
}

}  // namespace qft
