// A model as it lies on disk: a Hugging Face folder or a GGUF file behind one set of names.
#pragma once

#include <memory>
#include <string>

#include "base/file.h"
#include "base/status.h"
#include "runtime/data/tensor_source.h"
#include "runtime/model/model_config.h"

namespace qft {

struct ModelFiles {
  ModelConfig config;
  // Exactly the tensors of MakeLlamaTensors(config), under their Hugging Face names and with the
  // Hugging Face row order, in whatever type they are stored.
  std::unique_ptr<TensorSource> tensors;
};

// Opens a Hugging Face folder or, where `path` is a file, a GGUF file. Reads headers only, and
// refuses missing and unknown tensors and wrong shapes by name.
StatusOr<ModelFiles> OpenModelFiles(FileSystem& fs, const std::string& path);

}  // namespace qft
