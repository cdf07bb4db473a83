// What bench and plan ask for: a model's shape, the batches of a step and the session.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "bindings/cli/named_shapes.h"
#include "bindings/cli/options.h"
#include "bindings/cli/settings.h"

namespace qft::cli {

class ShapeOptions {
 public:
  // --model, --batch, --seq, --micro-batches, --gradients, --device-memory-limit, --set.
  void AddOptions(OptionTable& table);

  Settings MakeSettings() const;
  const std::string& model() const { return model_; }
  int64_t batch() const { return batch_; }
  int64_t sequence() const { return sequence_; }
  int64_t micro_batches() const { return micro_batches_; }
  int64_t micro_batch_tokens() const { return batch_ * sequence_; }
  void set_micro_batches(int64_t count) { micro_batches_ = count; }

 private:
  std::string model_;
  int64_t batch_ = 1;
  int64_t sequence_ = 2048;
  int64_t micro_batches_ = 1;
  std::string gradients_ = "auto";
  uint64_t limit_ = 0;
  std::vector<std::string> set_;
};

}  // namespace qft::cli
