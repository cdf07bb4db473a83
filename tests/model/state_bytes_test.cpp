// The promise of INT8 states: bytes of weights, momentum and gradients for each parameter.
#include <gtest/gtest.h>

#include "tests/model/session_util.h"

namespace qft {
namespace {

LlamaShape LargerShape() {
  LlamaShape shape;
  shape.vocabulary = 4096;
  shape.hidden = 256;
  shape.inner = 768;
  shape.layers = 8;
  shape.heads = 8;
  shape.kv_heads = 4;
  shape.head_dim = 32;
  shape.tied = true;
  return shape;
}

double BytesPerParameter(const TestModel& model, const Settings& settings) {
  TestSession session(model, settings);
  const qft_session_metrics metrics = session.Metrics();
  int64_t parameters = 0;
  for (const TensorEntry& tensor : model.tensors()) parameters += tensor.rows * tensor.cols;
  EXPECT_EQ(metrics.parameters, parameters);
  EXPECT_EQ(metrics.total_bytes, metrics.weight_bytes + metrics.critical_bytes +
                                     metrics.residual_bytes + metrics.momentum_bytes +
                                     metrics.gradient_bytes + metrics.activation_bytes +
                                     metrics.workspace_bytes);
  const int64_t states = metrics.weight_bytes + metrics.critical_bytes + metrics.residual_bytes +
                         metrics.momentum_bytes + metrics.gradient_bytes;
  return static_cast<double>(states) / static_cast<double>(parameters);
}

TEST(StateBytesTest, StackAndFused) {
  const TestModel model(LargerShape());
  const auto bytes = [&](const char* gradients, const char* critical, const char* residual) {
    return BytesPerParameter(
        model,
        {{"gradients", gradients}, {"critical_features", critical}, {"residual_bits", residual}});
  };
  const double stack = bytes("stack", "0", "0");
  const double fused = bytes("fused", "0", "0");
  EXPECT_LE(stack, 3.2);
  EXPECT_LE(fused, 2.4);
  EXPECT_GE(stack, 3.0);
  EXPECT_GE(fused, 2.0);
  EXPECT_NEAR(bytes("fused", "0", "4"), fused + 0.5, 0.001);
  // Weight and momentum in fp32 for one input in 32 of most matrices, one in 96 of the others.
  EXPECT_NEAR(bytes("fused", "8", "0"), fused + 8.0 / 32, 0.1);
  EXPECT_NEAR(BytesPerParameter(model, kPlain), 12, 0.01);
}

}  // namespace
}  // namespace qft
