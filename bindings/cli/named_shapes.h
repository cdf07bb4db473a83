// Models by their shape alone: of a name, a folder or a config.json.
#pragma once

#include <string>

#include "bindings/cli/handles.h"

namespace qft::cli {

// "llama-7b, llama-13b, ..."
std::string ShapeNames();

// A model with random weights of the shape of `model`: a name, a folder with config.json or such a
// file. No other file is read.
Model RandomModel(const std::string& model);

}  // namespace qft::cli
