#include <cstdio>
#include <map>

#include "bindings/cli/command.h"
#include "bindings/cli/files.h"
#include "bindings/cli/model_path.h"
#include "bindings/cli/run_folder.h"
#include "bindings/cli/source.h"
#include "bindings/cli/text.h"

namespace qft::cli {
namespace {

using nlohmann::json;

constexpr char kInspectExample[] =
    "Example:\n"
    "  qft inspect SmolLM2-135M.gguf\n"
    "  qft inspect runs/first";

// Bytes of the INT8 states of [rows, cols]: codes, with a grid a row, or a block of a row.
constexpr int64_t kMomentumBlock = 128;
constexpr int64_t kGridBytes = 4;
constexpr int64_t kSquareSumBytes = 8;
constexpr int64_t kFloatBytes = 4;

struct Kind {
  int64_t tensors = 0;
  int64_t parameters = 0;
  bool quantised = false;
};

struct Summary {
  std::map<std::string, Kind> kinds;
  int64_t parameters = 0;
  int64_t weights = 0;
  int64_t residual = 0;  // four more bits a weight
  int64_t momentum = 0;
  int64_t gradients = 0;
};

// "model.layers.7.mlp.up_proj.weight" -> "layers.*.mlp.up_proj.weight".
std::string KindOf(const std::string& name) {
  std::string kind;
  size_t begin = name.rfind("model.", 0) == 0 ? 6 : 0;
  while (begin <= name.size()) {
    const size_t end = std::min(name.find('.', begin), name.size());
    const std::string part = name.substr(begin, end - begin);
    const bool number = !part.empty() && part.find_first_not_of("0123456789") == std::string::npos;
    kind += (kind.empty() ? "" : ".") + (number ? std::string("*") : part);
    begin = end + 1;
  }
  return kind;
}

void Add(const qft_tensor_info& info, Summary* summary) {
  const int64_t elements = info.rows * info.cols;
  Kind& kind = summary->kinds[KindOf(info.name)];
  ++kind.tensors;
  kind.parameters += elements;
  kind.quantised = info.quantised != 0;
  summary->parameters += elements;
  if (info.quantised == 0) {
    summary->weights += elements * kFloatBytes;
    summary->momentum += elements * kFloatBytes;
    summary->gradients += elements * kFloatBytes;
    return;
  }
  const int64_t blocks = (info.cols + kMomentumBlock - 1) / kMomentumBlock;
  summary->weights += elements + info.rows * kGridBytes;
  summary->residual += info.rows * ((info.cols + 15) / 16 * 8);
  summary->momentum += elements + info.rows * blocks * kGridBytes;
  summary->gradients += elements + info.rows * (kGridBytes + kSquareSumBytes);
}

Summary Summarize(const Model& model) {
  Summary summary;
  int64_t count = 0;
  Call(qft_model_get_tensor_count, model.get(), &count);
  for (int64_t i = 0; i < count; ++i) {
    qft_tensor_info info = Sized<qft_tensor_info>();
    Call(qft_model_get_tensor_info, model.get(), i, &info);
    Add(info, &summary);
  }
  return summary;
}

// A value of a manifest, or how much there is of it.
std::string InShort(const json& value) {
  constexpr size_t kLongest = 60;
  if (value.is_structured()) return std::to_string(value.size()) + " entries";
  const std::string text = Dump(value, -1);
  return text.size() <= kLongest ? text : std::to_string(text.size()) + " characters";
}

class Inspect : public Command {
 public:
  explicit Inspect(CLI::App& program)
      : Command(program, "inspect", "Show what a model or a checkpoint holds") {
    app_->add_option("path", path_, "A model (folder or GGUF), a run or a checkpoint")->required();
    app_->add_flag("--json", json_, "Print a JSON object");
    app_->footer(kInspectExample);
  }

  int Run() override {
    if (IsCheckpoint(path_)) return ShowCheckpoint();
    path_ = FindModel(path_);
    return ShowModel();
  }

 private:
  int ShowModel() const {
    const Model model = LoadModel(path_);
    const Summary summary = Summarize(model);
    const json config = json::parse(CopyText(qft_model_config_json, model.get()));
    json_ ? PrintJson(summary, config) : PrintTable(summary, config);
    return 0;
  }

  void PrintJson(const Summary& summary, const json& config) const {
    json kinds = json::object();
    for (const auto& [name, kind] : summary.kinds) {
      kinds[name] = {{"tensors", kind.tensors},
                     {"parameters", kind.parameters},
                     {"quantised", kind.quantised}};
    }
    const json result = {{"model", path_},
                         {"parameters", summary.parameters},
                         {"tensors", kinds},
                         {"config", config},
                         {"int8_bytes",
                          {{"weights", summary.weights},
                           {"residual", summary.residual},
                           {"momentum", summary.momentum},
                           {"gradients", summary.gradients}}}};
    printf("%s\n", Dump(result, 2).c_str());
  }

  void PrintTable(const Summary& summary, const json& config) const {
    printf("%s: %s, %s parameters\n\n", path_.c_str(), config.value("model_type", "?").c_str(),
           Count(static_cast<double>(summary.parameters)).c_str());
    printf("%-44s %8s %14s  %s\n", "tensors", "number", "parameters", "kept as");
    for (const auto& [name, kind] : summary.kinds) {
      printf("%-44s %8lld %14lld  %s\n", name.c_str(), static_cast<long long>(kind.tensors),
             static_cast<long long>(kind.parameters), kind.quantised ? "INT8" : "fp32");
    }
    const double weights = static_cast<double>(summary.weights);
    const double residual = static_cast<double>(summary.residual);
    const double momentum = static_cast<double>(summary.momentum);
    const double gradients = static_cast<double>(summary.gradients);
    const double all = weights + residual + momentum + gradients;
    printf(
        "\nmemory of the states in fine-tuning (critical features and activations come on top)\n");
    printf("  gradients=stack   %s: weights %s, residual %s, momentum %s, gradients %s\n",
           Bytes(all).c_str(), Bytes(weights).c_str(), Bytes(residual).c_str(),
           Bytes(momentum).c_str(), Bytes(gradients).c_str());
    printf("  gradients=fused   %s: no gradients kept\n", Bytes(all - gradients).c_str());
    printf("  fp32 with Adam    %s for comparison\n",
           Bytes(static_cast<double>(summary.parameters) * 4 * kFloatBytes).c_str());
  }

  int ShowCheckpoint() const {
    const CheckpointPlace place = FindCheckpoint(path_);
    const Checkpoint checkpoint = OpenCheckpoint(place.path);
    const char* text = nullptr;
    size_t length = 0;
    Call(qft_checkpoint_get_manifest, checkpoint.get(), &text, &length);
    const json manifest = json::parse(text, text + length);
    if (json_) {
      printf("%s\n", Dump(manifest, 2).c_str());
      return 0;
    }
    int64_t step = 0;
    Call(qft_checkpoint_get_step, checkpoint.get(), &step);
    printf("%s: whole checkpoint of step %lld\n", place.path.c_str(), static_cast<long long>(step));
    for (const auto& [name, value] : manifest.items()) {
      printf("  %-28s %s\n", name.c_str(), InShort(value).c_str());
    }
    if (place.config.contains("model")) {
      printf("  %-28s %s\n", "run's model", Dump(place.config["model"], -1).c_str());
    }
    return 0;
  }

  std::string path_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakeInspect(CLI::App& program) {
  return std::make_unique<Inspect>(program);
}

}  // namespace qft::cli
