// A model: configuration, tensor table and where the initial values come from. Holds no weights.
#pragma once

#include <memory>
#include <string>

#include "base/file.h"
#include "base/status.h"
#include "runtime/data/tensor_source.h"
#include "runtime/model/llama_tensors.h"
#include "runtime/model/model_config.h"

namespace qft {

class Model {
 public:
  // A Hugging Face folder or a GGUF file, checked whole.
  static StatusOr<std::shared_ptr<const Model>> Load(FileSystem& fs, const std::string& path);
  // Random weights of the shape that a Hugging Face config.json tells; the same seed, the same
  // bits.
  static StatusOr<std::shared_ptr<const Model>> Random(const std::string& config_json,
                                                       uint64_t seed);

  const ModelConfig& config() const { return config_; }
  const LlamaTensors& tensors() const { return tensors_; }
  const TensorTable& table() const { return tensors_.table; }
  const TensorSource& source() const { return *source_; }
  int64_t parameters() const;

 private:
  Model(ModelConfig config, std::unique_ptr<TensorSource> source);

  ModelConfig config_;
  LlamaTensors tensors_;
  std::unique_ptr<TensorSource> source_;
};

}  // namespace qft
