// Random initial weights, as a tensor source.
#pragma once

#include <map>
#include <string>

#include "runtime/data/tensor_source.h"
#include "runtime/state/tensor_table.h"

namespace qft {

// Matrices: sum of twelve uniform numbers, scaled to mean 0 and deviation 0.02. Vectors: ones.
class RandomSource final : public TensorSource {
 public:
  RandomSource(const TensorTable& table, uint64_t seed);

  const TensorInfo* Find(std::string_view name) const override;
  std::vector<std::string> Names() const override;
  Status ReadRows(std::string_view name, int64_t row_begin, int64_t row_count,
                  float* out) const override;

 private:
  std::map<std::string, TensorInfo, std::less<>> tensors_;
  std::map<std::string, float, std::less<>> initial_;  // of vectors
  uint64_t seed_;
};

}  // namespace qft
