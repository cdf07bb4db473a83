// The names of all random streams of a tensor. They are part of the checkpoint format.
#pragma once

#include <string>

#include "base/philox.h"

namespace qft {

struct TensorKeys {
  PhiloxKey weight;
  PhiloxKey momentum;
  PhiloxKey regrow;
  PhiloxKey gradient;
  PhiloxKey output_gradient;
  PhiloxKey output_gradient_transposed;
};

inline TensorKeys MakeTensorKeys(uint64_t seed, const std::string& tensor) {
  return {StreamKey(seed, "weight:" + tensor),
          StreamKey(seed, "momentum:" + tensor),
          StreamKey(seed, "regrow:" + tensor),
          StreamKey(seed, "gradient:" + tensor),
          StreamKey(seed, "output_gradient:" + tensor),
          StreamKey(seed, "output_gradient_transposed:" + tensor)};
}

// The head's output gradient is quantised chunk by chunk of the vocabulary.
inline TensorKeys MakeHeadChunkKeys(uint64_t seed, const std::string& tensor, int64_t chunk) {
  TensorKeys keys = MakeTensorKeys(seed, tensor);
  const std::string suffix = ":" + std::to_string(chunk);
  keys.output_gradient = StreamKey(seed, "output_gradient:" + tensor + suffix);
  keys.output_gradient_transposed =
      StreamKey(seed, "output_gradient_transposed:" + tensor + suffix);
  return keys;
}

}  // namespace qft
