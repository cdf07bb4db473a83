// A forward pass of LLaMA, Qwen2, Qwen3 and SmolLM3 in float64, written for these tests from the
// model's definition. It shares no code with the library. Gradients come from central differences.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "tests/model/shape.h"

namespace qft {

class ReferenceLlama {
 public:
  explicit ReferenceLlama(const LlamaShape& shape) : shape_(shape) {}

  // By name in the file, row-major. A tied model has no "lm_head.weight"; a linear layer has a
  // bias, and queries and keys are normed, where there is such a tensor.
  std::map<std::string, std::vector<double>> weights;

  // [tokens * vocabulary], natural logarithms.
  std::vector<double> LogProbabilities(const TestBatch& batch) const;
  // -log p(target) of each token, 0 where there is none.
  std::vector<double> TokenLosses(const TestBatch& batch) const;
  // Sum over all tokens of loss weight * token loss.
  double LossSum(const std::vector<TestBatch>& batches) const;
  // d LossSum / d weights[name][element].
  double Derivative(const std::string& name, size_t element, const std::vector<TestBatch>& batches);
  std::vector<double> Gradient(const std::string& name, const std::vector<TestBatch>& batches);

 private:
  using Vector = std::vector<double>;
  // One document after the other: tokens [begin, end) of the batch.
  void Document(const TestBatch& batch, size_t begin, size_t end, Vector& log_probabilities) const;
  void Attention(int layer, size_t tokens, Vector& x) const;
  void Mlp(int layer, size_t tokens, Vector& x) const;
  const Vector& Weight(const std::string& name) const { return weights.at(name); }
  const Vector& LayerWeight(int layer, const std::string& name) const;
  // x times the weight of this name, plus its bias.
  Vector LayerLinear(const Vector& x, int layer, const std::string& name, size_t tokens) const;
  // Queries or keys: normed and rotated.
  Vector Heads(const Vector& input, int layer, char which, size_t tokens, size_t heads) const;

  LlamaShape shape_;
};

}  // namespace qft
