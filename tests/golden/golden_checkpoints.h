// The checkpoints that are kept for each format version: how they were made and how they are
// opened.
#pragma once

#include <string>
#include <vector>

#include "tests/model/session_util.h"

namespace qft {

struct GoldenCheckpoint {
  std::string name;  // of its folder
  LlamaShape shape;
  Settings settings;
  std::vector<Group> groups;
};

inline constexpr int64_t kGoldenStep = 3;
inline const std::string kGoldenBlob("caller's bytes \0\xff", 17);

// All that format version 2 can hold: rows of more than one momentum block, residuals of a row that
// ends within 16 columns, critical features, also of a tied embedding, a frozen tensor, biases,
// fp32.
inline std::vector<GoldenCheckpoint> GoldenCheckpoints() {
  LlamaShape shape;
  shape.vocabulary = 48;
  shape.hidden = 16;
  shape.inner = 24;
  shape.layers = 1;
  shape.heads = 2;
  shape.kv_heads = 1;
  LlamaShape wide = shape;
  wide.inner = 136;
  wide.layers = 2;
  wide.tied = true;
  LlamaShape biased = shape;
  biased.attention_bias = true;
  const std::vector<Group> frozen = {{"model.layers.0.mlp.gate_proj.weight", 1, -1, true}};
  return {{"int8", wide, {}, {}},
          {"int8_plain",
           biased,
           {{"residual_bits", "0"}, {"critical_features", "0"}, {"gradients", "fused"}},
           frozen},
          {"fp32", shape, kPlain, {}}};
}

}  // namespace qft
