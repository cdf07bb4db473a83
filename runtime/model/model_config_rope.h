// The rotary embeddings of a config.json.
#pragma once

#include "base/status.h"
#include "runtime/data/json.h"
#include "runtime/model/model_config.h"

namespace qft {

// rope_theta, rope_scaling and rope_parameters. The family and max_position are set already.
Status ReadRope(const nlohmann::json& root, ModelConfig* config);

}  // namespace qft
