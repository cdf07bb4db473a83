// The one list of a model's tensors. Import, export, plan, checkpoint and optimizer walk it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace qft {

struct TensorSpec {
  std::string name;  // as in a Hugging Face file
  int64_t rows = 1;
  int64_t cols = 0;
  int32_t dimensions = 2;
  bool quantised = true;  // INT8 codes with a grid per row when states are int8; fp32 otherwise
  std::string gguf_name;  // as in a GGUF file
  bool rotated = false;   // its rows are heads that are rotated
  float initial = 1;      // of a vector's elements in a random model

  int64_t elements() const { return rows * cols; }
};

class TensorTable {
 public:
  // Returns the index of the new tensor.
  int Add(TensorSpec spec) {
    tensors_.push_back(std::move(spec));
    return static_cast<int>(tensors_.size()) - 1;
  }
  int size() const { return static_cast<int>(tensors_.size()); }
  const TensorSpec& operator[](int index) const { return tensors_[index]; }
  auto begin() const { return tensors_.begin(); }
  auto end() const { return tensors_.end(); }
  // -1 when there is no tensor of that name.
  int Find(std::string_view name) const {
    for (int i = 0; i < size(); ++i) {
      if (tensors_[i].name == name) return i;
    }
    return -1;
  }

 private:
  std::vector<TensorSpec> tensors_;
};

// How one tensor trains: from the groups of the configuration.
struct TensorTraining {
  bool trainable = true;
  int group = -1;  // index of the group that set it, -1: none
  double learning_rate_factor = 1;
  double weight_decay = 0;
};

}  // namespace qft
