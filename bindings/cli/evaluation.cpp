#include "bindings/cli/evaluation.h"

#include <chrono>

#include "bindings/cli/interrupt.h"

namespace qft::cli {

std::optional<Evaluation> Evaluate(const Session& session, int64_t batches,
                                   const BatchSource& source, Progress* progress) {
  const auto start = std::chrono::steady_clock::now();
  Evaluation sum;
  for (int64_t i = 0; i < batches; ++i) {
    if (Interrupted()) return std::nullopt;
    progress->Update("evaluating", i, batches, "");
    qft_batch batch = Sized<qft_batch>();
    source(i, &batch);
    qft_eval_result result = Sized<qft_eval_result>();
    Call(qft_session_evaluate, session.get(), &batch, int64_t{1}, &result, nullptr);
    sum.loss += result.loss_weight > 0 ? result.loss * result.loss_weight : 0;
    sum.loss_weight += result.loss_weight;
    sum.tokens += result.tokens;
  }
  progress->Clear();
  if (sum.loss_weight > 0) sum.loss /= sum.loss_weight;
  sum.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return sum;
}

BatchSource HeldOut(const Dataset& dataset) {
  return [handle = dataset.get()](int64_t index, qft_batch* batch) {
    Call(qft_dataset_get_held_out, handle, index, batch);
  };
}

qft_dataset_info GetInfo(const Dataset& dataset) {
  qft_dataset_info info = Sized<qft_dataset_info>();
  Call(qft_dataset_get_info, dataset.get(), &info);
  return info;
}

}  // namespace qft::cli
