// Training speed and memory of a model's shape with random weights and tokens.
#include <algorithm>
#include <cstdio>
#include <random>

#include "bindings/cli/bench_save.h"
#include "bindings/cli/command.h"
#include "bindings/cli/report.h"
#include "bindings/cli/shape_options.h"
#include "bindings/cli/source.h"
#include "bindings/cli/text.h"

namespace qft::cli {
namespace {

using nlohmann::json;

constexpr char kBenchExample[] =
    "Example:\n"
    "  qft bench --model llama-2-7b --batch 4 --seq 2048 --steps 5 --gradients fused --set "
    "engine=cuda\n\n"
    "share_of_limit = (6 * matmul parameters * tokens / s) / the device's INT8 peak, where 6 "
    "counts the\n"
    "multiplications and additions of forward and backward, and the matmul parameters are all "
    "matrices\n"
    "but the embedding. Attention, the optimizer and what is computed again count as nothing.\n\n"
    "--save: `save` in the JSON holds step_ratio, the mean time of steps during a save (with the "
    "call\n"
    "that begins it) over that of quiet ones between saves, and the bytes of a checkpoint.";

json ConfigOf(const Model& model) {
  return json::parse(CopyText(qft_model_config_json, model.get()));
}

// Parameters of the matrices that tokens are multiplied with: all but the embedding, which is the
// first in the table, unless it is the head too.
int64_t MatmulParameters(const Model& model) {
  int64_t tensors = 0;
  Call(qft_model_get_tensor_count, model.get(), &tensors);
  const bool tied = ConfigOf(model).at("tie_word_embeddings").get<bool>();
  int64_t sum = 0;
  for (int64_t i = tied ? 0 : 1; i < tensors; ++i) {
    qft_tensor_info info = Sized<qft_tensor_info>();
    Call(qft_model_get_tensor_info, model.get(), i, &info);
    if (info.dimensions == 2) sum += info.rows * info.cols;
  }
  return sum;
}

class Bench : public Command {
 public:
  explicit Bench(CLI::App& program)
      : Command(program, "bench", "Measure training speed and memory with random weights"),
        table_(app_) {
    shape_.AddOptions(table_);
    table_.Add("Batches", "steps", steps_, "Steps to time, after one that is not")
        ->check(CLI::PositiveNumber);
    table_.Add("Saving", "save", save_folder_,
               "Then time steps while checkpoints are written to this folder, the last of which "
               "stays there; with --set snapshot=host beside training");
    app_->add_flag("--json", json_, "Print a JSON object")->group("Output");
    app_->footer(kBenchExample);
  }

  int Run() override {
    const Model model = RandomModel(shape_.model());
    const Session session = OpenSession(model, shape_.MakeSettings());
    const json plan = json::parse(CopyText(qft_session_plan_json, session.get()));
    MakeBatches(ConfigOf(model).at("vocab_size").get<int32_t>());
    Measure(session);
    json result = Result(session, model, plan);
    if (!save_folder_.empty()) {
      result["save"] = MeasureSaves(session, save_folder_, steps_, [&] { return Step(session); });
      result["peak_device_bytes"] = peak_bytes_;
    }
    Print(result);
    return 0;
  }

 private:
  void MakeBatches(int32_t vocabulary) {
    const size_t tokens = static_cast<size_t>(shape_.micro_batch_tokens());
    std::minstd_rand random(1);
    ids_.resize(static_cast<size_t>(shape_.micro_batches()));
    documents_.resize(tokens);
    for (size_t t = 0; t < tokens; ++t)
      documents_[t] = static_cast<int32_t>(t) / static_cast<int32_t>(shape_.sequence());
    for (std::vector<int32_t>& part : ids_) {
      for (size_t t = 0; t < tokens; ++t) {
        part.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(vocabulary)));
      }
      qft_batch batch = Sized<qft_batch>();
      batch.tokens = static_cast<int64_t>(tokens);
      batch.token_ids = part.data();
      batch.document_ids = documents_.data();
      batches_.push_back(batch);
    }
  }

  // Its seconds.
  double Step(const Session& session) {
    qft_step_options options = Sized<qft_step_options>();
    options.learning_rate = 1e-5;
    qft_step_result result = Sized<qft_step_result>();
    Call(qft_session_step, session.get(), &options, batches_.data(), shape_.micro_batches(),
         &result);
    device_ = Sized<qft_device_report>();
    Call(qft_session_get_device, session.get(), &device_);
    peak_bytes_ = std::max(peak_bytes_, device_.used_bytes);
    return result.seconds;
  }

  void Measure(const Session& session) {
    Step(session);
    for (int64_t step = 0; step < steps_; ++step) seconds_.push_back(Step(session));
    std::sort(seconds_.begin(), seconds_.end());
  }

  json Result(const Session& session, const Model& model, const json& plan) const {
    const double median = seconds_[seconds_.size() / 2];
    const double tokens = static_cast<double>(shape_.micro_batch_tokens() * shape_.micro_batches());
    const double rate = tokens / median;
    const auto parameters = static_cast<double>(MatmulParameters(model));
    json share = nullptr;
    if (device_.integer_operations_per_second > 0) {
      share = 6.0 * parameters * rate / device_.integer_operations_per_second;
    }
    return {{"model", shape_.model()},
            {"device", Engine(session)},
            {"batch", shape_.batch()},
            {"seq", shape_.sequence()},
            {"micro_batches", shape_.micro_batches()},
            {"gradients", plan.at("gradients")},
            {"recomputed_blocks", plan.at("recomputed_blocks")},
            {"regated_blocks", plan.at("regated_blocks")},
            {"renewed_blocks", plan.at("renewed_blocks")},
            {"residual_bits", plan.at("residual_bits")},
            {"critical_features", plan.at("critical_features")},
            {"steps", steps_},
            {"seconds_per_step", median},
            {"tokens_per_second", rate},
            {"peak_device_bytes", peak_bytes_},
            {"planned_bytes", plan.at("bytes")},
            {"planned_device_bytes", plan.at("bytes").at("total").get<int64_t>() +
                                         plan.at("occupied_bytes").get<int64_t>()},
            {"snapshot_bytes", plan.at("host_bytes").at("snapshot")},
            {"host_bytes", device_.host_bytes},
            {"planned_host_bytes", plan.at("host_bytes").at("total")},
            {"matmul_parameters", parameters},
            {"integer_peak", device_.integer_operations_per_second},
            {"share_of_limit", share}};
  }

  void Print(const json& result) const {
    if (json_) {
      printf("%s\n", result.dump(2).c_str());
      return;
    }
    printf("device          %s\n", result.at("device").get_ref<const std::string&>().c_str());
    printf("speed           %.0f tokens/s (%.3f s a step, median of %lld)\n",
           result.at("tokens_per_second").get<double>(),
           result.at("seconds_per_step").get<double>(), static_cast<long long>(steps_));
    if (!result.at("share_of_limit").is_null()) {
      printf(
          "share of limit  %.1f %% = 6 * %.4g matmul parameters * tokens/s / %.4g INT8 "
          "operations/s\n",
          100 * result.at("share_of_limit").get<double>(),
          result.at("matmul_parameters").get<double>(), result.at("integer_peak").get<double>());
    }
    printf("peak memory     %s in use on the device, %s planned\n",
           Bytes(static_cast<double>(peak_bytes_)).c_str(),
           Bytes(result.at("planned_device_bytes").get<double>()).c_str());
    for (const auto& [purpose, bytes] : result.at("planned_bytes").items()) {
      printf("  %-13s %s planned\n", purpose.c_str(), Bytes(bytes.get<double>()).c_str());
    }
    if (result.contains("save")) PrintSaves(result.at("save"));
  }

  OptionTable table_;
  ShapeOptions shape_;
  int64_t steps_ = 5;
  std::string save_folder_;
  bool json_ = false;
  std::vector<std::vector<int32_t>> ids_;
  std::vector<int32_t> documents_;
  std::vector<qft_batch> batches_;
  std::vector<double> seconds_;
  qft_device_report device_{};
  int64_t peak_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Command> MakeBench(CLI::App& program) {
  return std::make_unique<Bench>(program);
}

}  // namespace qft::cli
