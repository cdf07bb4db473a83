#include "tests/model/reference_llama.h"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace qft {
namespace {

using Vector = std::vector<double>;

// y [tokens, outputs] = x [tokens, inputs] * w [outputs, inputs]^T
Vector Linear(const Vector& x, const Vector& w, size_t tokens) {
  const size_t inputs = x.size() / tokens;
  const size_t outputs = w.size() / inputs;
  Vector y(tokens * outputs);
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t n = 0; n < outputs; ++n) {
      double sum = 0;
      for (size_t k = 0; k < inputs; ++k) sum += x[t * inputs + k] * w[n * inputs + k];
      y[t * outputs + n] = sum;
    }
  }
  return y;
}

Vector RmsNorm(const Vector& x, const Vector& gain, double epsilon, size_t tokens) {
  const size_t width = gain.size();
  Vector y(x.size());
  for (size_t t = 0; t < tokens; ++t) {
    double squares = 0;
    for (size_t k = 0; k < width; ++k) squares += x[t * width + k] * x[t * width + k];
    const double scale = 1.0 / std::sqrt(squares / static_cast<double>(width) + epsilon);
    for (size_t k = 0; k < width; ++k) y[t * width + k] = x[t * width + k] * scale * gain[k];
  }
  return y;
}

// Token t stands at position t; the two halves of each head are the parts of complex numbers.
void Rotate(Vector& x, size_t tokens, size_t heads, size_t dim, double theta) {
  for (size_t t = 0; t < tokens; ++t) {
    for (size_t h = 0; h < heads; ++h) {
      double* head = x.data() + (t * heads + h) * dim;
      for (size_t i = 0; i < dim / 2; ++i) {
        const double exponent = 2.0 * static_cast<double>(i) / static_cast<double>(dim);
        const double angle = static_cast<double>(t) * std::pow(theta, -exponent);
        const double re = head[i];
        const double im = head[i + dim / 2];
        head[i] = re * std::cos(angle) - im * std::sin(angle);
        head[i + dim / 2] = im * std::cos(angle) + re * std::sin(angle);
      }
    }
  }
}

double LogSumExp(const double* values, size_t count) {
  const double largest = *std::max_element(values, values + count);
  double sum = 0;
  for (size_t i = 0; i < count; ++i) sum += std::exp(values[i] - largest);
  return largest + std::log(sum);
}

size_t DocumentEnd(const TestBatch& batch, size_t begin) {
  if (batch.documents.empty()) return batch.tokens.size();
  size_t end = begin + 1;
  while (end < batch.tokens.size() && batch.documents[end] == batch.documents[begin]) ++end;
  return end;
}

int TargetOf(const TestBatch& batch, size_t t) {
  if (!batch.targets.empty()) return batch.targets[t];
  const bool last = t + 1 == batch.tokens.size() ||
                    (!batch.documents.empty() && batch.documents[t] != batch.documents[t + 1]);
  return last ? -1 : batch.tokens[t + 1];
}

void AddTo(Vector& x, const Vector& y) {
  for (size_t i = 0; i < x.size(); ++i) x[i] += y[i];
}

}  // namespace

const Vector& ReferenceLlama::LayerWeight(int layer, const std::string& name) const {
  return weights.at("model.layers." + std::to_string(layer) + "." + name + ".weight");
}

Vector ReferenceLlama::LayerLinear(const Vector& x, int layer, const std::string& name,
                                   size_t tokens) const {
  Vector y = Linear(x, LayerWeight(layer, name), tokens);
  const auto bias = weights.find("model.layers." + std::to_string(layer) + "." + name + ".bias");
  if (bias == weights.end()) return y;
  for (size_t i = 0; i < y.size(); ++i) y[i] += bias->second[i % bias->second.size()];
  return y;
}

Vector ReferenceLlama::Heads(const Vector& input, int layer, char which, size_t tokens,
                             size_t heads) const {
  const std::string part = std::string("self_attn.") + which;
  Vector x = LayerLinear(input, layer, part + "_proj", tokens);
  if (shape_.family == "qwen3") {
    x = RmsNorm(x, LayerWeight(layer, part + "_norm"), shape_.epsilon, tokens * heads);
  }
  const bool rotates = shape_.family != "smollm3" || layer != 1;
  if (rotates) Rotate(x, tokens, heads, static_cast<size_t>(shape_.head_dim), shape_.rope_theta);
  return x;
}

void ReferenceLlama::Attention(int layer, size_t tokens, Vector& x) const {
  const size_t heads = static_cast<size_t>(shape_.heads);
  const size_t kv_heads = static_cast<size_t>(shape_.kv_heads);
  const size_t dim = static_cast<size_t>(shape_.head_dim);
  const Vector input = RmsNorm(x, LayerWeight(layer, "input_layernorm"), shape_.epsilon, tokens);
  const Vector q = Heads(input, layer, 'q', tokens, heads);
  const Vector k = Heads(input, layer, 'k', tokens, kv_heads);
  const Vector v = LayerLinear(input, layer, "self_attn.v_proj", tokens);
  Vector out(tokens * heads * dim, 0.0);
  Vector scores(tokens);
  for (size_t h = 0; h < heads; ++h) {
    const size_t kv = h / (heads / kv_heads);
    for (size_t t = 0; t < tokens; ++t) {
      for (size_t s = 0; s <= t; ++s) {
        double dot = 0;
        for (size_t i = 0; i < dim; ++i) {
          dot += q[(t * heads + h) * dim + i] * k[(s * kv_heads + kv) * dim + i];
        }
        scores[s] = dot / std::sqrt(static_cast<double>(dim));
      }
      const double normalizer = LogSumExp(scores.data(), t + 1);
      for (size_t s = 0; s <= t; ++s) {
        const double p = std::exp(scores[s] - normalizer);
        for (size_t i = 0; i < dim; ++i) {
          out[(t * heads + h) * dim + i] += p * v[(s * kv_heads + kv) * dim + i];
        }
      }
    }
  }
  AddTo(x, LayerLinear(out, layer, "self_attn.o_proj", tokens));
}

void ReferenceLlama::Mlp(int layer, size_t tokens, Vector& x) const {
  const Vector input =
      RmsNorm(x, LayerWeight(layer, "post_attention_layernorm"), shape_.epsilon, tokens);
  Vector gate = LayerLinear(input, layer, "mlp.gate_proj", tokens);
  const Vector up = LayerLinear(input, layer, "mlp.up_proj", tokens);
  for (size_t i = 0; i < gate.size(); ++i) gate[i] *= up[i] / (1.0 + std::exp(-gate[i]));
  AddTo(x, LayerLinear(gate, layer, "mlp.down_proj", tokens));
}

void ReferenceLlama::Document(const TestBatch& batch, size_t begin, size_t end,
                              Vector& log_probabilities) const {
  const size_t tokens = end - begin;
  const size_t hidden = static_cast<size_t>(shape_.hidden);
  const size_t vocabulary = static_cast<size_t>(shape_.vocabulary);
  const Vector& embedding = Weight("model.embed_tokens.weight");
  Vector x;
  for (size_t t = begin; t < end; ++t) {
    const auto row = embedding.begin() + batch.tokens[t] * static_cast<ptrdiff_t>(hidden);
    x.insert(x.end(), row, row + static_cast<ptrdiff_t>(hidden));
  }
  for (int layer = 0; layer < shape_.layers; ++layer) {
    Attention(layer, tokens, x);
    Mlp(layer, tokens, x);
  }
  const Vector normed = RmsNorm(x, Weight("model.norm.weight"), shape_.epsilon, tokens);
  Vector logits = Linear(normed, shape_.tied ? embedding : Weight("lm_head.weight"), tokens);
  for (size_t t = 0; t < tokens; ++t) {
    const double normalizer = LogSumExp(logits.data() + t * vocabulary, vocabulary);
    for (size_t v = 0; v < vocabulary; ++v) logits[t * vocabulary + v] -= normalizer;
  }
  log_probabilities.insert(log_probabilities.end(), logits.begin(), logits.end());
}

Vector ReferenceLlama::LogProbabilities(const TestBatch& batch) const {
  Vector log_probabilities;
  for (size_t begin = 0; begin < batch.tokens.size();) {
    const size_t end = DocumentEnd(batch, begin);
    Document(batch, begin, end, log_probabilities);
    begin = end;
  }
  return log_probabilities;
}

Vector ReferenceLlama::TokenLosses(const TestBatch& batch) const {
  const Vector log_probabilities = LogProbabilities(batch);
  Vector losses(batch.tokens.size(), 0.0);
  for (size_t t = 0; t < losses.size(); ++t) {
    const int target = TargetOf(batch, t);
    if (target < 0) continue;
    losses[t] = -log_probabilities[t * static_cast<size_t>(shape_.vocabulary) +
                                   static_cast<size_t>(target)];
  }
  return losses;
}

double ReferenceLlama::LossSum(const std::vector<TestBatch>& batches) const {
  double sum = 0;
  for (const TestBatch& batch : batches) {
    const Vector losses = TokenLosses(batch);
    for (size_t t = 0; t < losses.size(); ++t) {
      sum += losses[t] * (batch.weights.empty() ? 1.0 : static_cast<double>(batch.weights[t]));
    }
  }
  return sum;
}

double ReferenceLlama::Derivative(const std::string& name, size_t element,
                                  const std::vector<TestBatch>& batches) {
  constexpr double kStep = 1e-5;
  double& weight = weights.at(name)[element];
  const double before = weight;
  weight = before + kStep;
  const double above = LossSum(batches);
  weight = before - kStep;
  const double below = LossSum(batches);
  weight = before;
  return (above - below) / (2 * kStep);
}

Vector ReferenceLlama::Gradient(const std::string& name, const std::vector<TestBatch>& batches) {
  Vector gradient(weights.at(name).size());
  for (size_t i = 0; i < gradient.size(); ++i) gradient[i] = Derivative(name, i, batches);
  return gradient;
}

}  // namespace qft
