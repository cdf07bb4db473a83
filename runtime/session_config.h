// The settings of a session. One table in session_config.cpp names every key with its type,
// default, range and meaning; setting, description and JSON all derive from it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"
#include "kernels/ops.h"
#include "offload/store.h"
#include "runtime/state/state_home.h"

namespace qft {

enum class EngineChoice : int32_t { kCpu, kCuda };
enum class Arithmetic : int32_t { kInteger, kFloat };
enum class StateKind : int32_t { kInt8, kFp32 };
enum class GradientMode : int32_t { kAuto, kStack, kFused };
enum class Accumulation : int32_t { kVertical, kHorizontal };
enum class Recompute : int32_t { kAuto, kNever, kAlways };
enum class Mode : int32_t { kTrain, kInfer };
enum class SnapshotPlace : int32_t { kNone, kHost };
enum class MomentumPlace : int32_t { kDevice, kHost, kNvme, kAuto };
// kPaper: QFT (arXiv 2310.07147) as it is written: floating arithmetic, rounding to nearest, no
// residual plane.
enum class Preset : int32_t { kDefault, kPaper };

// What is set apart for the tensors whose name matches `pattern`. Later groups win.
struct TensorGroup {
  std::string pattern;
  double learning_rate_factor = 1.0;
  double weight_decay = -1.0;  // < 0: the configuration's
  bool frozen = false;
};

struct SessionConfig {
  Preset preset = Preset::kDefault;
  EngineChoice engine = EngineChoice::kCpu;
  int64_t device = 0;
  Mode mode = Mode::kTrain;
  Arithmetic arithmetic = Arithmetic::kInteger;
  StateKind states = StateKind::kInt8;
  GradientMode gradients = GradientMode::kAuto;
  Accumulation accumulation = Accumulation::kVertical;
  Recompute recompute = Recompute::kAuto;
  Rounding rounding = Rounding::kStochastic;
  double beta1 = 0.9;
  double beta2 = 0.99;
  double weight_decay = 0.0;
  double clip_norm = 1.0;
  int64_t threads = 0;
  int64_t seed = 0;
  int64_t micro_batch_tokens = 2048;
  int64_t micro_batches = 1;
  int64_t critical_features = 16;
  int64_t residual_bits = 4;
  int64_t memory_limit = 0;
  int64_t host_memory_limit = 0;
  SnapshotPlace snapshot = SnapshotPlace::kNone;
  MomentumPlace momentum = MomentumPlace::kDevice;
  Tier boundaries = Tier::kDevice;
  std::string nvme_folders;  // separated by colons
  StoreBackend nvme_backend = StoreBackend::kAuto;
  int64_t staging = int64_t{512} << 20;
  int64_t nvme_staging = int64_t{1} << 30;
  std::vector<TensorGroup> groups;

  // Errors of the setters: kUnknownKey, kInvalidArgument (the key has another type), kOutOfRange.
  // On error nothing has changed.
  Status SetString(std::string_view key, std::string_view value);
  Status SetInt(std::string_view key, int64_t value);
  Status SetFloat(std::string_view key, double value);
  // Parses `value` by the type of the key; text that does not parse is kInvalidArgument.
  Status SetText(std::string_view key, std::string_view value);
  // Errors: kInvalidArgument (empty pattern), kOutOfRange.
  Status AddGroup(TensorGroup group);

  // A JSON object of every key, and "groups": an array of {pattern, learning_rate_factor,
  // weight_decay (null: the configuration's), frozen}.
  std::string ToJson() const;
};

// Folders and backend, for a store of momentum.
StoreOptions StoreOptionsOf(const SessionConfig& config);

// A JSON array of {key, type, default, range, meaning} in the order of the table. type: "string",
// "int" or "float". range: {"choices": [...]} of a string, {} where it is any text, {"minimum": x,
// "maximum": y} of a number, with "below" in place of "maximum" where y itself is excluded.
std::string DescribeSessionConfig();

// Whether `name` matches `pattern`: * stands for any text, ? for one byte. The time is at most
// proportional to the product of both lengths.
bool GlobMatch(std::string_view pattern, std::string_view name);

}  // namespace qft
