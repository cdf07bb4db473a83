// RAII over include/qft_c.h for these tests. Calls that must succeed throw what the library said,
// which GoogleTest reports as the test's failure.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "qft_c.h"
#include "tests/model/reference_llama.h"
#include "tests/model/shape.h"

namespace qft {

struct Outcome {
  qft_status status = QFT_OK;
  std::string message;
};

// call(qft_error**) -> qft_status
template <typename Call>
Outcome Try(const Call& call) {
  qft_error* error = nullptr;
  Outcome outcome;
  outcome.status = call(&error);
  if (error != nullptr) outcome.message = qft_error_message(error);
  qft_error_destroy(error);
  return outcome;
}

template <typename Call>
void Must(const Call& call) {
  const Outcome outcome = Try(call);
  if (outcome.status == QFT_OK) return;
  throw std::runtime_error(std::string(qft_status_name(outcome.status)) + ": " + outcome.message);
}

using Settings = std::vector<std::pair<std::string, std::string>>;

// Settings that make the library compute in plain fp32.
inline const Settings kPlain = {{"states", "fp32"}, {"arithmetic", "float"}};
Settings operator+(Settings a, const Settings& b);

struct Group {
  std::string pattern;
  double learning_rate_factor = 1;
  double weight_decay = -1;
  bool frozen = false;
};

struct TensorEntry {
  std::string name;
  int64_t rows = 0;
  int64_t cols = 0;
  int32_t dimensions = 0;
  bool quantised = false;
};

class TestModel {
 public:
  explicit TestModel(const LlamaShape& shape, uint64_t seed = 1);
  ~TestModel() { qft_model_destroy(handle_); }
  TestModel(const TestModel&) = delete;
  TestModel& operator=(const TestModel&) = delete;

  const qft_model* handle() const { return handle_; }
  const LlamaShape& shape() const { return shape_; }
  const std::vector<TensorEntry>& tensors() const { return tensors_; }

 private:
  LlamaShape shape_;
  qft_model* handle_ = nullptr;
  std::vector<TensorEntry> tensors_;
};

// The engine of the tests is not the CPU's.
bool OnGpu();

class TestSession {
 public:
  // Defaults that settings may replace: 2 threads, micro-batches of 64 tokens, 4 of them.
  explicit TestSession(const TestModel& model, const Settings& settings = {},
                       const std::vector<Group>& groups = {});
  ~TestSession() { qft_session_destroy(handle_); }
  TestSession(const TestSession&) = delete;
  TestSession& operator=(const TestSession&) = delete;

  qft_session* handle() const { return handle_; }
  const TestModel& model() const { return model_; }
  const std::vector<TensorEntry>& tensors() const { return model_.tensors(); }
  int64_t Index(const std::string& name) const;

  Outcome TryBegin(double learning_rate, const std::vector<double>& group_factors = {},
                   double loss_normalizer = 0);
  Outcome TryAccumulate(const std::vector<TestBatch>& batches);
  Outcome TryEnd(qft_step_result* result = nullptr);
  Outcome TryAbandon();
  Outcome TryStep(const std::vector<TestBatch>& batches, double learning_rate,
                  qft_step_result* result = nullptr);
  void Begin(double learning_rate, const std::vector<double>& group_factors = {});
  void Accumulate(const std::vector<TestBatch>& batches);
  qft_step_result End();
  qft_step_result Step(const std::vector<TestBatch>& batches, double learning_rate,
                       const std::vector<double>& group_factors = {});
  // Forward and backward, reads all gradients, abandons the step.
  std::map<std::string, std::vector<float>> Gradients(const std::vector<TestBatch>& batches);
  std::map<std::string, std::vector<float>> ReadGradients();

  std::vector<float> Read(const std::string& name, int32_t what = QFT_TENSOR_WEIGHT);
  Outcome TryRead(const std::string& name, int32_t what);
  std::vector<int8_t> ReadCodes(const std::string& name);
  void Write(const std::string& name, const std::vector<float>& values,
             int32_t what = QFT_TENSOR_WEIGHT);
  // Weights of deviation `deviation`, norms around 1, biases around 0, so that every part of the
  // model matters.
  void Randomise(uint32_t seed, float deviation = 0.25f);
  // The float64 model with this session's weights, decoded.
  ReferenceLlama Reference();

  std::vector<float> Forward(const TestBatch& batch, int32_t what = QFT_OUTPUT_LOG_PROBABILITIES);
  qft_eval_result Evaluate(const std::vector<TestBatch>& batches,
                           std::vector<float>* token_losses = nullptr);
  Outcome TryEvaluate(const std::vector<TestBatch>& batches);
  std::string Hash();
  qft_session_metrics Metrics();
  std::string PlanJson();
  void Save(const std::string& folder, int64_t keep = 0, const std::string& blob = {});
  // The same beside what follows; the event is the caller's.
  qft_event* SaveBegin(const std::string& folder, int64_t keep = 0);
  // From a checkpoint or a folder of them; the warning.
  std::string Restore(const std::string& path);

 private:
  const TestModel& model_;
  qft_session* handle_ = nullptr;
};

// Opens a session that may fail; it is closed at once.
Outcome TryOpen(const TestModel& model, const Settings& settings,
                const std::vector<Group>& groups = {});

class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string Path(const std::string& name = {}) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

}  // namespace qft
