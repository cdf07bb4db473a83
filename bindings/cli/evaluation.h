// The loss over batches, one batch at a time, so that it can be shown and stopped.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "bindings/cli/handles.h"
#include "bindings/cli/progress.h"

namespace qft::cli {

struct Evaluation {
  double loss = 0;
  double loss_weight = 0;
  int64_t tokens = 0;
  double seconds = 0;
};

// Gives batch `index`; it stays valid until the next call.
using BatchSource = std::function<void(int64_t index, qft_batch* batch)>;

// Nothing when the person interrupted it.
std::optional<Evaluation> Evaluate(const Session& session, int64_t batches,
                                   const BatchSource& source, Progress* progress);

// The held-out batches of a data set.
BatchSource HeldOut(const Dataset& dataset);

qft_dataset_info GetInfo(const Dataset& dataset);

}  // namespace qft::cli
