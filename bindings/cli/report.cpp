#include "bindings/cli/report.h"

#include <sys/resource.h>

#include <cstdio>

#include "bindings/cli/text.h"

namespace qft::cli {
namespace {

using nlohmann::json;

// Lion's steps all have the size of the rate. 3 to 10 is common; --help says the same.
constexpr double kAdamRatePerLion = 10;

int64_t PeakRssBytes() {
  constexpr int64_t kUnit = 1024;
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * kUnit;
}

qft_session_metrics GetMetrics(const Session& session) {
  qft_session_metrics metrics = Sized<qft_session_metrics>();
  Call(qft_session_get_metrics, session.get(), &metrics);
  return metrics;
}

std::string Bytes64(int64_t bytes) {
  return Bytes(static_cast<double>(bytes));
}

json OrNull(const std::optional<double>& value) {
  return value ? json(*value) : json(nullptr);
}

void PrintMemory(const qft_session_metrics& metrics) {
  printf(
      "memory   %s: weights %s, critical %s, residual %s, momentum %s, gradients %s, "
      "activations %s, workspace %s\n",
      Bytes64(metrics.total_bytes).c_str(), Bytes64(metrics.weight_bytes).c_str(),
      Bytes64(metrics.critical_bytes).c_str(), Bytes64(metrics.residual_bytes).c_str(),
      Bytes64(metrics.momentum_bytes).c_str(), Bytes64(metrics.gradient_bytes).c_str(),
      Bytes64(metrics.activation_bytes).c_str(), Bytes64(metrics.workspace_bytes).c_str());
  if (metrics.snapshot_bytes > 0) {
    printf("snapshot %s of host memory, for checkpoints written beside training\n",
           Bytes64(metrics.snapshot_bytes).c_str());
  }
}

void PrintLoss(const json& summary) {
  if (summary.at("eval_loss_before").is_null() || summary.at("eval_loss_after").is_null()) return;
  const double before = summary.at("eval_loss_before");
  const double after = summary.at("eval_loss_after");
  printf("held-out loss   %.4f before, %.4f after (%+.1f %%)\n", before, after,
         (after - before) / before * 100);
}

}  // namespace

std::string Engine(const Session& session) {
  const json plan = json::parse(CopyText(qft_session_plan_json, session.get()));
  return plan.value("engine", "") + ": " + plan.value("engine_description", "");
}

void PrintPlan(const FinetuneOptions& options, const Session& session, const Dataset& dataset,
               int64_t steps) {
  const qft_session_metrics metrics = GetMetrics(session);
  const qft_dataset_info info = GetInfo(dataset);
  printf("model    %s: %s parameters, %s train\n", options.model.c_str(),
         Count(static_cast<double>(metrics.parameters)).c_str(),
         Count(static_cast<double>(metrics.parameters_trained)).c_str());
  printf(
      "data     %lld documents, %lld held out, %lld cut; %s tokens in %lld batches, %.0f %% full\n",
      static_cast<long long>(info.documents), static_cast<long long>(info.documents_held_out),
      static_cast<long long>(info.documents_truncated),
      Count(static_cast<double>(info.tokens)).c_str(), static_cast<long long>(info.batches),
      info.packing_efficiency * 100);
  if (info.records_skipped > 0) {
    printf("skipped  %lld records that are wrong; `qft data` shows why\n",
           static_cast<long long>(info.records_skipped));
  }
  const int64_t step_tokens = options.settings.micro_batch_tokens * options.settings.micro_batches;
  printf("run      %lld steps of %lld tokens, %s learning rate up to %g\n",
         static_cast<long long>(steps), static_cast<long long>(step_tokens),
         options.schedule.c_str(), options.learning_rate);
  printf("         Lion's rate; by a rule of thumb AdamW's would be %g times as large, %g\n",
         kAdamRatePerLion, kAdamRatePerLion * options.learning_rate);
  printf("engine   %s\n", Engine(session).c_str());
  PrintMemory(metrics);
  fflush(stdout);
}

json Summarize(const FinetuneOptions& options, const Session& session, const Training& training,
               const Outcome& outcome) {
  const qft_session_metrics metrics = GetMetrics(session);
  const RunState& state = training.state();
  json samples = json::array();
  for (const Sample& sample : outcome.samples) {
    samples.push_back(
        {{"prompt", sample.prompt}, {"before", sample.before}, {"after", sample.after}});
  }
  return {{"model", options.model},
          {"data", options.data.files},
          {"parameters", metrics.parameters},
          {"parameters_trained", metrics.parameters_trained},
          {"engine", Engine(session)},
          {"steps", state.step},
          {"steps_planned", training.steps()},
          {"steps_skipped", state.skipped},
          {"stopped_by", Name(outcome.reason)},
          {"tokens", state.tokens},
          {"training_seconds", state.seconds},
          {"tokens_per_second", state.TokensPerSecond()},
          {"data_seconds", state.data_seconds},
          {"data_share", state.DataShare()},
          {"eval_loss_before", OrNull(state.loss_before)},
          {"eval_loss_after", OrNull(outcome.loss_after)},
          {"codes_changed", OrNull(outcome.codes_changed)},
          {"peak_rss_bytes", PeakRssBytes()},
          {"state_bytes", StateBytes(session)},
          {"total_bytes", metrics.total_bytes},
          {"samples", samples},
          {"version", qft_version_string()}};
}

void PrintSummary(const json& summary, const RunFolder& folder) {
  printf("\n");
  for (const json& sample : summary.at("samples")) {
    printf("prompt   %s\nbefore  %s\nafter   %s\n\n",
           sample.at("prompt").get_ref<const std::string&>().c_str(),
           sample.at("before").get_ref<const std::string&>().c_str(),
           sample.at("after").get_ref<const std::string&>().c_str());
  }
  if (summary.at("stopped_by") != Name(StopReason::kDone)) {
    printf("stopped after   %lld of %lld steps (%s)\n", summary.at("steps").get<long long>(),
           summary.at("steps_planned").get<long long>(),
           summary.at("stopped_by").get_ref<const std::string&>().c_str());
  }
  PrintLoss(summary);
  printf("speed           %.0f tokens/s over %lld steps, %.2f %% of the time waiting for data\n",
         summary.at("tokens_per_second").get<double>(), summary.at("steps").get<long long>(),
         summary.at("data_share").get<double>() * 100);
  if (!summary.at("codes_changed").is_null()) {
    printf("codes changed   %.2f %% of the weights\n",
           summary.at("codes_changed").get<double>() * 100);
  }
  const json& bytes = summary.at("state_bytes");
  printf("states          weights %s, critical %s, residual %s, momentum %s, gradients %s\n",
         Bytes64(bytes.at("weights")).c_str(), Bytes64(bytes.at("critical")).c_str(),
         Bytes64(bytes.at("residual")).c_str(), Bytes64(bytes.at("momentum")).c_str(),
         Bytes64(bytes.at("gradients")).c_str());
  printf("peak memory     %s\n", Bytes64(summary.at("peak_rss_bytes")).c_str());
  printf("run folder      %s\n", folder.root.c_str());
  fflush(stdout);
}

}  // namespace qft::cli
