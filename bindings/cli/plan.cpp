// Whether training a model would fit, and on what, before anything is downloaded.
#include <cstdio>
#include <limits>

#include "bindings/cli/command.h"
#include "bindings/cli/shape_options.h"
#include "bindings/cli/text.h"

namespace qft::cli {
namespace {

using nlohmann::json;

constexpr char kPlanExample[] =
    "Example:\n"
    "  qft plan --model llama-2-7b --batch 3 --seq 2048 --device 4090-24gb\n\n"
    "Of a folder nothing but config.json is read, and a GPU is not needed: without --device it is "
    "asked\n"
    "whether one is there, and h100-80gb is planned for where none is. Exit code 1: it does not "
    "fit;\n"
    "what is printed then has been planned and does.\n\n"
    "context is what the driver, libraries and code take beside the session, and what other "
    "programs hold.\n"
    "recomputed: backward makes a block's activations again, all of them; regated: gate, up and "
    "the\n"
    "inputs of matmuls; renewed: these inputs alone.";

std::string DeviceNames() {
  std::string names;
  for (const json& device : json::parse(qft_plan_describe_devices())) {
    names += (names.empty() ? "" : ", ") + device.at("name").get<std::string>();
  }
  return names;
}

std::string Bytes64(const json& bytes) {
  return Bytes(bytes.get<double>());
}

std::string SettingsText(const json& settings) {
  std::string text;
  for (const auto& [key, value] : settings.items()) {
    text += (text.empty() ? "" : ", ") + key + "=" + value.get<std::string>();
  }
  return text;
}

class PlanCommand : public Command {
 public:
  explicit PlanCommand(CLI::App& program)
      : Command(program, "plan", "Tell what training would hold in memory, and whether it fits"),
        table_(app_) {
    shape_.AddOptions(table_);
    table_
        .Add("Batches", "tokens-per-step", tokens_per_step_,
             "Tokens in a step: as many micro-batches as that takes")
        ->check(CLI::PositiveNumber)
        ->excludes(app_->get_option("--micro-batches"));
    table_.Add("Machine", "engine", engine_, "cuda or cpu")->check(CLI::IsMember({"cuda", "cpu"}));
    table_.Add("Machine", "device", device_,
               "What to plan for, which need not be there: " + DeviceNames());
    const auto size = [&](const char* name, int64_t& value, const char* help) {
      table_.Add("Machine", name, value, help)->transform(CLI::AsSizeValue(true));
    };
    size("host-memory", host_memory_, "Most host memory beside the session's, as in 64G");
    table_.Add(
        "Machine", "nvme", nvme_,
        "Folders for momentum on NVMe, separated by colons; momentum goes there where nothing "
        "else fits, and the disk is tried for a second");
    size("nvme-bandwidth", nvme_bandwidth_,
         "Bytes a second of a disk that is not here, reading and writing at once, together");
    app_->add_flag("--json", json_, "Print a JSON object")->group("Output");
    app_->footer(kPlanExample);
  }

  int Run() override {
    if (tokens_per_step_ > 0) {
      const int64_t tokens = shape_.micro_batch_tokens();
      shape_.set_micro_batches((tokens_per_step_ - 1) / tokens + 1);
    }
    const json plan = Ask();
    if (json_) {
      printf("%s\n", plan.dump(2).c_str());
    } else {
      Print(plan);
    }
    return plan.at("fits").get<bool>() ? 0 : kExitFailure;
  }

 private:
  json Ask() const {
    const Model model = RandomModel(shape_.model());
    Settings settings = shape_.MakeSettings();
    settings.set.push_back("engine=" + engine_);
    if (host_memory_ > 0) {
      settings.set.push_back("host_memory_limit=" + std::to_string(host_memory_));
    }
    if (!nvme_.empty()) {
      settings.set.insert(settings.set.begin(), {"nvme_folders=" + nvme_, "momentum=auto"});
    }
    const Config config = MakeConfig(settings);
    qft_plan_options options = Sized<qft_plan_options>();
    options.device = device_.empty() ? nullptr : device_.data();
    options.device_length = device_.size();
    options.nvme_bytes_per_second = static_cast<double>(nvme_bandwidth_);
    const Plan plan = Make<Plan>(qft_plan_create, model.get(), config.get(), &options);
    const char* text = nullptr;
    size_t length = 0;
    Call(qft_plan_get_json, plan.get(), &text, &length);
    json result = json::parse(text, text + length);
    result["model"] = shape_.model();
    result["batch"] = shape_.batch();
    result["seq"] = shape_.sequence();
    return result;
  }

  void Print(const json& plan) const {
    printf("model     %s: %s parameters\n", shape_.model().c_str(),
           Count(plan.at("parameters").get<double>()).c_str());
    PrintDevice(plan);
    printf("step      %lld micro-batches of %lld x %lld tokens\n",
           static_cast<long long>(shape_.micro_batches()), static_cast<long long>(shape_.batch()),
           static_cast<long long>(shape_.sequence()));
    for (const json& choice : plan.at("choices")) {
      printf("%-9s %s (%s)\n", choice.at("setting").get_ref<const std::string&>().c_str(),
             choice.at("chosen").get_ref<const std::string&>().c_str(),
             choice.at("reason").get_ref<const std::string&>().c_str());
    }
    for (const json& row : plan.at("memory")) {
      if (row.at("bytes").get<int64_t>() == 0) continue;
      printf("  %-8s %-12s %10s\n", row.at("tier").get_ref<const std::string&>().c_str(),
             row.at("purpose").get_ref<const std::string&>().c_str(),
             Bytes64(row.at("bytes")).c_str());
    }
    PrintTiers(plan);
    PrintTime(plan.at("time"));
    PrintAnswer(plan);
  }

  static void PrintDevice(const json& plan) {
    const json& device = plan.at("device");
    const json& profile = device.at("profile");
    const char* origin = device.at("measured").get<bool>() ? "measured" : "from public data";
    printf("device    %s: %s%s\n", plan.at("engine").get_ref<const std::string&>().c_str(),
           device.at("description").get_ref<const std::string&>().c_str(),
           profile.is_null() ? ""
                             : Format(" (%s, its memory and context %s)",
                                      profile.get_ref<const std::string&>().c_str(), origin)
                                   .c_str());
  }

  static void PrintTiers(const json& plan) {
    for (const json& tier : plan.at("tiers")) {
      if (tier.at("bytes").get<int64_t>() == 0) continue;
      const json& limit = tier.at("limit_bytes");
      printf("  %-8s %-12s %10s%s\n", tier.at("tier").get_ref<const std::string&>().c_str(),
             "in all", Bytes64(tier.at("bytes")).c_str(),
             limit.is_null() ? "" : (" of " + Bytes64(limit)).c_str());
      if (tier.at("reserved_bytes").get<int64_t>() == 0) continue;
      printf("  %-8s %-12s %10s, for what the driver may load yet\n", "", "left free",
             Bytes64(tier.at("reserved_bytes")).c_str());
    }
  }

  static void PrintTime(const json& time) {
    if (time.is_null()) return;
    const auto number = [&time](const char* key) { return time.at(key).get<double>(); };
    printf("time      about %.3g s a step, %.0f tokens/s\n", number("seconds_per_step"),
           number("tokens_per_second"));
    if (time.at("hidden_from_tokens").get<int64_t>() == 0) return;
    printf("          momentum moves for %.3g s of it, %.3g s of which nothing hides",
           number("transfer_seconds"), number("waits_seconds"));
    if (!time.at("nvme_bytes_per_second").is_null()) {
      printf(" (at %s a second)", Bytes(number("nvme_bytes_per_second")).c_str());
    }
    printf("; hidden from %lld tokens a step on\n",
           static_cast<long long>(time.at("hidden_from_tokens").get<int64_t>()));
  }

  void PrintAnswer(const json& plan) const {
    if (plan.at("fits").get<bool>()) {
      printf("It fits.\n");
      return;
    }
    printf("It does not fit. %s\n", plan.at("would_fit").empty()
                                        ? "Nothing that was tried would."
                                        : "What has been planned and would:");
    for (const json& remedy : plan.at("would_fit")) {
      printf("  %s (%s)%s\n", SettingsText(remedy.at("settings")).c_str(),
             Bytes64(remedy.at("bytes")).c_str(), BatchText(remedy.at("settings")).c_str());
    }
  }

  // What so many tokens in a micro-batch are in sequences.
  std::string BatchText(const json& settings) const {
    if (!settings.contains("micro_batch_tokens")) return "";
    const int64_t tokens = std::stoll(settings.at("micro_batch_tokens").get<std::string>());
    const int64_t batch = tokens / shape_.sequence();
    if (batch == 0) return Format(": --batch 1 --seq %lld", static_cast<long long>(tokens));
    return Format(": --batch %lld", static_cast<long long>(batch));
  }

  OptionTable table_;
  ShapeOptions shape_;
  int64_t tokens_per_step_ = 0;
  std::string engine_ = "cuda";
  std::string device_;
  int64_t host_memory_ = 0;
  std::string nvme_;
  int64_t nvme_bandwidth_ = 0;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Command> MakePlan(CLI::App& program) {
  return std::make_unique<PlanCommand>(program);
}

}  // namespace qft::cli
