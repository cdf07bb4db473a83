#include "tests/model/session_util.h"

#include <stdlib.h>
#include <string.h>

#include <random>
#include <sstream>

namespace qft {

bool OnGpu() {
  const char* engine = getenv("QFT_TEST_ENGINE");
  return engine != nullptr && strcmp(engine, "cpu") != 0;
}

namespace {

class Config {
 public:
  Config(const Settings& settings, const std::vector<Group>& groups) {
    Must([&](qft_error** e) { return qft_config_create(&handle_, e); });
    // The same tests on another engine.
    if (const char* engine = getenv("QFT_TEST_ENGINE"); engine != nullptr) {
      Must([&](qft_error** e) {
        return qft_config_set_string(handle_, "engine", 6, engine, strlen(engine), e);
      });
    }
    for (const auto& setting : settings) {
      // No structured binding: clang before 16 lets no lambda capture one.
      const auto& key = setting.first;
      const auto& value = setting.second;
      Must([&](qft_error** e) {
        return qft_config_set_text(handle_, key.data(), key.size(), value.data(), value.size(), e);
      });
    }
    for (const Group& group : groups) {
      Must([&](qft_error** e) {
        return qft_config_add_group(handle_, group.pattern.data(), group.pattern.size(),
                                    group.learning_rate_factor, group.weight_decay,
                                    group.frozen ? 1 : 0, e);
      });
    }
  }
  ~Config() { qft_config_destroy(handle_); }
  Config(const Config&) = delete;
  Config& operator=(const Config&) = delete;
  const qft_config* handle() const { return handle_; }

 private:
  qft_config* handle_ = nullptr;
};

const Settings kDefaults = {{"threads", "2"}, {"micro_batch_tokens", "64"}, {"micro_batches", "4"}};

template <typename T>
const T* DataOrNull(const std::vector<T>& values) {
  return values.empty() ? nullptr : values.data();
}

qft_batch View(const TestBatch& batch) {
  qft_batch view{};
  view.struct_size = sizeof(view);
  view.tokens = batch.size();
  view.token_ids = batch.tokens.data();
  view.targets = DataOrNull(batch.targets);
  view.loss_weights = DataOrNull(batch.weights);
  view.document_ids = DataOrNull(batch.documents);
  return view;
}

// The views borrow from `batches`.
std::vector<qft_batch> Views(const std::vector<TestBatch>& batches) {
  std::vector<qft_batch> views;
  views.reserve(batches.size());
  for (const TestBatch& batch : batches) views.push_back(View(batch));
  return views;
}

qft_step_options Options(double learning_rate, const std::vector<double>& group_factors,
                         double loss_normalizer = 0) {
  qft_step_options options{};
  options.struct_size = sizeof(options);
  options.learning_rate = learning_rate;
  options.loss_normalizer = loss_normalizer;
  options.group_factors = DataOrNull(group_factors);
  options.group_count = static_cast<int64_t>(group_factors.size());
  return options;
}

qft_tensor_view View(const TensorEntry& tensor, int32_t what, int32_t dtype, const void* data) {
  qft_tensor_view view{};
  view.struct_size = sizeof(view);
  view.data = const_cast<void*>(data);
  view.dtype = dtype;
  view.dimensions = 2;
  view.shape[0] = tensor.rows;
  view.shape[1] = what == QFT_TENSOR_GRID ? 1 : tensor.cols;
  return view;
}

qft_step_result EmptyResult() {
  qft_step_result result{};
  result.struct_size = sizeof(result);
  return result;
}

}  // namespace

std::string LlamaShape::Json() const {
  const std::map<std::string, std::string> architectures = {{"llama", "LlamaForCausalLM"},
                                                            {"qwen2", "Qwen2ForCausalLM"},
                                                            {"qwen3", "Qwen3ForCausalLM"},
                                                            {"smollm3", "SmolLM3ForCausalLM"}};
  const auto boolean = [](bool value) { return value ? "true" : "false"; };
  std::ostringstream json;
  json << R"({"architectures":[")" << architectures.at(family) << R"("],"model_type":")" << family
       << R"(","hidden_act":"silu","max_position_embeddings":512,"vocab_size":)" << vocabulary
       << R"(,"hidden_size":)" << hidden << R"(,"intermediate_size":)" << inner
       << R"(,"num_hidden_layers":)" << layers << R"(,"num_attention_heads":)" << heads
       << R"(,"num_key_value_heads":)" << kv_heads << R"(,"head_dim":)" << head_dim
       << R"(,"rms_norm_eps":)" << epsilon << R"(,"rope_theta":)" << rope_theta
       << R"(,"attention_bias":)" << boolean(attention_bias) << R"(,"mlp_bias":)"
       << boolean(mlp_bias) << (family == "smollm3" ? R"(,"no_rope_layers":[1,0])" : "")
       << R"(,"tie_word_embeddings":)" << boolean(tied) << "}";
  return json.str();
}

LlamaShape Qwen2Shape() {
  LlamaShape shape;
  shape.family = "qwen2";
  shape.rope_theta = 1000000;
  shape.tied = true;
  return shape;
}

LlamaShape Qwen3Shape() {
  LlamaShape shape;
  shape.family = "qwen3";
  shape.head_dim = 24;
  shape.heads = 3;
  shape.kv_heads = 1;
  shape.epsilon = 1e-6;
  return shape;
}

LlamaShape SmolLm3Shape() {
  LlamaShape shape;
  shape.family = "smollm3";
  shape.tied = true;
  return shape;
}

LlamaShape BiasedShape() {
  LlamaShape shape;
  shape.attention_bias = shape.mlp_bias = true;
  return shape;
}

LlamaShape HeadDim100Shape() {
  LlamaShape shape;
  shape.head_dim = 100;
  shape.heads = 2;
  shape.kv_heads = 1;
  return shape;
}

LlamaShape HeadDim10Shape() {
  LlamaShape shape = Qwen3Shape();
  shape.head_dim = 10;
  return shape;
}

TestBatch RandomBatch(int vocabulary, const std::vector<int>& lengths, uint32_t seed) {
  std::mt19937 random(seed);
  TestBatch batch;
  for (size_t document = 0; document < lengths.size(); ++document) {
    for (int i = 0; i < lengths[document]; ++i) {
      batch.tokens.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(vocabulary)));
      batch.documents.push_back(static_cast<int32_t>(document));
    }
  }
  return batch;
}

Settings operator+(Settings a, const Settings& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

TestModel::TestModel(const LlamaShape& shape, uint64_t seed) : shape_(shape) {
  const std::string json = shape.Json();
  Must([&](qft_error** e) {
    return qft_model_create_random(json.data(), json.size(), seed, &handle_, e);
  });
  int64_t count = 0;
  Must([&](qft_error** e) { return qft_model_get_tensor_count(handle_, &count, e); });
  for (int64_t i = 0; i < count; ++i) {
    qft_tensor_info info{};
    info.struct_size = sizeof(info);
    Must([&](qft_error** e) { return qft_model_get_tensor_info(handle_, i, &info, e); });
    tensors_.push_back({info.name, info.rows, info.cols, info.dimensions, info.quantised != 0});
  }
}

TestSession::TestSession(const TestModel& model, const Settings& settings,
                         const std::vector<Group>& groups)
    : model_(model) {
  const Config config(kDefaults + settings, groups);
  Must([&](qft_error** e) {
    return qft_session_open(model.handle(), config.handle(), nullptr, &handle_, e);
  });
}

int64_t TestSession::Index(const std::string& name) const {
  int64_t index = -1;
  Must([&](qft_error** e) {
    return qft_model_find_tensor(model_.handle(), name.data(), name.size(), &index, e);
  });
  return index;
}

Outcome TestSession::TryBegin(double learning_rate, const std::vector<double>& group_factors,
                              double loss_normalizer) {
  const qft_step_options options = Options(learning_rate, group_factors, loss_normalizer);
  return Try([&](qft_error** e) { return qft_session_begin_step(handle_, &options, e); });
}

Outcome TestSession::TryAccumulate(const std::vector<TestBatch>& batches) {
  const std::vector<qft_batch> views = Views(batches);
  return Try([&](qft_error** e) {
    return qft_session_accumulate(handle_, views.data(), static_cast<int64_t>(views.size()), e);
  });
}

Outcome TestSession::TryEnd(qft_step_result* result) {
  qft_step_result ended = EmptyResult();
  Outcome outcome = Try([&](qft_error** e) { return qft_session_end_step(handle_, &ended, e); });
  if (result != nullptr) *result = ended;
  return outcome;
}

Outcome TestSession::TryAbandon() {
  return Try([&](qft_error** e) { return qft_session_abandon_step(handle_, e); });
}

Outcome TestSession::TryStep(const std::vector<TestBatch>& batches, double learning_rate,
                             qft_step_result* result) {
  const qft_step_options options = Options(learning_rate, {});
  const std::vector<qft_batch> views = Views(batches);
  qft_step_result ended = EmptyResult();
  Outcome outcome = Try([&](qft_error** e) {
    return qft_session_step(handle_, &options, views.data(), static_cast<int64_t>(views.size()),
                            &ended, e);
  });
  if (result != nullptr) *result = ended;
  return outcome;
}

void TestSession::Begin(double learning_rate, const std::vector<double>& group_factors) {
  const qft_step_options options = Options(learning_rate, group_factors);
  Must([&](qft_error** e) { return qft_session_begin_step(handle_, &options, e); });
}

void TestSession::Accumulate(const std::vector<TestBatch>& batches) {
  const std::vector<qft_batch> views = Views(batches);
  Must([&](qft_error** e) {
    return qft_session_accumulate(handle_, views.data(), static_cast<int64_t>(views.size()), e);
  });
}

qft_step_result TestSession::End() {
  qft_step_result result = EmptyResult();
  Must([&](qft_error** e) { return qft_session_end_step(handle_, &result, e); });
  return result;
}

qft_step_result TestSession::Step(const std::vector<TestBatch>& batches, double learning_rate,
                                  const std::vector<double>& group_factors) {
  Begin(learning_rate, group_factors);
  Accumulate(batches);
  return End();
}

std::map<std::string, std::vector<float>> TestSession::ReadGradients() {
  std::map<std::string, std::vector<float>> gradients;
  for (const TensorEntry& tensor : tensors()) {
    gradients[tensor.name] = Read(tensor.name, QFT_TENSOR_GRADIENT);
  }
  return gradients;
}

std::map<std::string, std::vector<float>> TestSession::Gradients(
    const std::vector<TestBatch>& batches) {
  Begin(0);
  Accumulate(batches);
  auto gradients = ReadGradients();
  Must([&](qft_error** e) { return qft_session_abandon_step(handle_, e); });
  return gradients;
}

std::vector<float> TestSession::Read(const std::string& name, int32_t what) {
  const int64_t index = Index(name);
  const TensorEntry& tensor = tensors()[static_cast<size_t>(index)];
  const int64_t cols = what == QFT_TENSOR_GRID ? 1 : tensor.cols;
  std::vector<float> values(static_cast<size_t>(tensor.rows * cols));
  const qft_tensor_view view = View(tensor, what, QFT_DTYPE_F32, values.data());
  Must([&](qft_error** e) { return qft_tensor_read(handle_, index, what, &view, nullptr, e); });
  return values;
}

Outcome TestSession::TryRead(const std::string& name, int32_t what) {
  const int64_t index = Index(name);
  const TensorEntry& tensor = tensors()[static_cast<size_t>(index)];
  std::vector<float> values(static_cast<size_t>(tensor.rows * tensor.cols));
  const qft_tensor_view view = View(tensor, what, QFT_DTYPE_F32, values.data());
  return Try(
      [&](qft_error** e) { return qft_tensor_read(handle_, index, what, &view, nullptr, e); });
}

std::vector<int8_t> TestSession::ReadCodes(const std::string& name) {
  const int64_t index = Index(name);
  const TensorEntry& tensor = tensors()[static_cast<size_t>(index)];
  std::vector<int8_t> codes(static_cast<size_t>(tensor.rows * tensor.cols));
  const qft_tensor_view view = View(tensor, QFT_TENSOR_WEIGHT, QFT_DTYPE_I8, codes.data());
  Must([&](qft_error** e) {
    return qft_tensor_read(handle_, index, QFT_TENSOR_WEIGHT, &view, nullptr, e);
  });
  return codes;
}

void TestSession::Write(const std::string& name, const std::vector<float>& values, int32_t what) {
  const int64_t index = Index(name);
  const TensorEntry& tensor = tensors()[static_cast<size_t>(index)];
  const qft_tensor_view view = View(tensor, what, QFT_DTYPE_F32, values.data());
  Must([&](qft_error** e) { return qft_tensor_write(handle_, index, what, &view, nullptr, e); });
}

void TestSession::Randomise(uint32_t seed, float deviation) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  for (const TensorEntry& tensor : tensors()) {
    std::vector<float> values(static_cast<size_t>(tensor.rows * tensor.cols));
    const bool matrix = tensor.dimensions == 2;
    const float mean = matrix || tensor.name.ends_with(".bias") ? 0.0f : 1.0f;
    for (float& value : values) value = mean + (matrix ? deviation : 0.2f) * normal(random);
    Write(tensor.name, values);
  }
}

ReferenceLlama TestSession::Reference() {
  ReferenceLlama reference(model_.shape());
  for (const TensorEntry& tensor : tensors()) {
    const std::vector<float> values = Read(tensor.name);
    reference.weights[tensor.name].assign(values.begin(), values.end());
  }
  return reference;
}

std::vector<float> TestSession::Forward(const TestBatch& batch, int32_t what) {
  const qft_batch view = View(batch);
  std::vector<float> output(batch.tokens.size() * static_cast<size_t>(model_.shape().vocabulary));
  Must([&](qft_error** e) {
    return qft_session_forward(handle_, &view, what, output.data(), output.size(), e);
  });
  return output;
}

qft_eval_result TestSession::Evaluate(const std::vector<TestBatch>& batches,
                                      std::vector<float>* token_losses) {
  const std::vector<qft_batch> views = Views(batches);
  int64_t tokens = 0;
  for (const TestBatch& batch : batches) tokens += batch.size();
  if (token_losses != nullptr) token_losses->assign(static_cast<size_t>(tokens), 0.0f);
  qft_eval_result result{};
  result.struct_size = sizeof(result);
  Must([&](qft_error** e) {
    return qft_session_evaluate(handle_, views.data(), static_cast<int64_t>(views.size()), &result,
                                token_losses == nullptr ? nullptr : token_losses->data(), e);
  });
  return result;
}

Outcome TestSession::TryEvaluate(const std::vector<TestBatch>& batches) {
  const std::vector<qft_batch> views = Views(batches);
  qft_eval_result result{};
  result.struct_size = sizeof(result);
  return Try([&](qft_error** e) {
    return qft_session_evaluate(handle_, views.data(), static_cast<int64_t>(views.size()), &result,
                                nullptr, e);
  });
}

std::string TestSession::Hash() {
  char buffer[33];
  Must([&](qft_error** e) { return qft_session_state_hash(handle_, buffer, sizeof(buffer), e); });
  return buffer;
}

qft_session_metrics TestSession::Metrics() {
  qft_session_metrics metrics{};
  metrics.struct_size = sizeof(metrics);
  Must([&](qft_error** e) { return qft_session_get_metrics(handle_, &metrics, e); });
  return metrics;
}

std::string TestSession::PlanJson() {
  std::vector<char> buffer(1 << 16);
  size_t needed = 0;
  Must([&](qft_error** e) {
    return qft_session_plan_json(handle_, buffer.data(), buffer.size(), &needed, e);
  });
  return std::string(buffer.data(), needed);
}

void TestSession::Save(const std::string& folder, int64_t keep, const std::string& blob) {
  Must([&](qft_error** e) {
    return qft_session_save(handle_, folder.data(), folder.size(), blob.data(), blob.size(), keep,
                            e);
  });
}

qft_event* TestSession::SaveBegin(const std::string& folder, int64_t keep) {
  qft_event* event = nullptr;
  Must([&](qft_error** e) {
    return qft_session_save_begin(handle_, folder.data(), folder.size(), nullptr, 0, keep, &event,
                                  e);
  });
  return event;
}

std::string TestSession::Restore(const std::string& path) {
  qft_checkpoint* checkpoint = nullptr;
  const char* warning = nullptr;
  Must([&](qft_error** e) {
    return qft_checkpoint_open(path.data(), path.size(), &checkpoint, &warning, e);
  });
  std::string text = warning;
  const Outcome restored =
      Try([&](qft_error** e) { return qft_session_restore(handle_, checkpoint, e); });
  qft_checkpoint_destroy(checkpoint);
  if (restored.status != QFT_OK) throw std::runtime_error(restored.message);
  return text;
}

Outcome TryOpen(const TestModel& model, const Settings& settings,
                const std::vector<Group>& groups) {
  const Config config(kDefaults + settings, groups);
  qft_session* session = nullptr;
  Outcome outcome = Try([&](qft_error** e) {
    return qft_session_open(model.handle(), config.handle(), nullptr, &session, e);
  });
  qft_session_destroy(session);
  return outcome;
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "qft_test_XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp " + pattern);
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace qft
