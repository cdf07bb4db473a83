#include "runtime/state/gradient_stack.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>

namespace qft {
namespace {

constexpr int kTensors = 5;

TensorSpec Spec(int tensor) {
  const bool vector = tensor == 2;
  return {"t" + std::to_string(tensor), vector ? 1 : 3 + tensor, 17 * (tensor + 1), vector ? 1 : 2,
          !vector};
}

int64_t DataBytes(const Gradient& gradient) {
  return gradient.rows * gradient.cols * (gradient.dtype == DType::kI8 ? 1 : 4);
}

class GradientStackTest : public testing::TestWithParam<bool> {
 protected:
  GradientStackTest() : engine_(CreateCpuEngine(1)), arena_(engine_.get()) {
    for (int t = 0; t < kTensors; ++t) bytes_ += GradientStack::EntryBytes(Spec(t), Format());
    stack_.Allocate(bytes_, kTensors, arena_);
  }
  Gradient Push(int tensor) { return stack_.Push(tensor, Spec(tensor), Format()).gradient; }
  static StateFormat Format() {
    static constexpr int32_t kColumns[] = {1, 5};
    return {GetParam(), false, kColumns, 2};
  }

  std::unique_ptr<Engine> engine_;
  Arena arena_;
  GradientStack stack_;
  int64_t bytes_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Int8, GradientStackTest, testing::Bool());

TEST_P(GradientStackTest, LastInFirstOut) {
  for (int t = 0; t < kTensors; ++t) Push(t);
  EXPECT_EQ(stack_.size(), kTensors);
  for (int t = kTensors - 1; t >= 0; --t) {
    EXPECT_EQ(stack_.entries().back().tensor, t);
    EXPECT_EQ(stack_.Pop().tensor, t);
    EXPECT_EQ(stack_.Find(t), nullptr);
  }
  EXPECT_TRUE(stack_.empty());
}

TEST_P(GradientStackTest, EntriesHaveTheTensorsShapeAndDType) {
  for (int t = 0; t < kTensors; ++t) {
    const Gradient gradient = Push(t);
    const TensorSpec spec = Spec(t);
    EXPECT_EQ(gradient.rows, spec.rows);
    EXPECT_EQ(gradient.cols, spec.cols);
    const bool codes = GetParam() && spec.quantised;
    EXPECT_EQ(gradient.dtype, codes ? DType::kI8 : DType::kF32);
    EXPECT_EQ(gradient.grid != nullptr, codes);
    EXPECT_EQ(gradient.critical.count, codes ? 2 : 0);
    EXPECT_EQ(gradient.critical.columns, codes ? Format().critical_columns : nullptr);
  }
}

// Written full, every entry keeps what was written: none overlaps another, and all fit.
TEST_P(GradientStackTest, EntriesAreAlignedAndDoNotOverlap) {
  std::vector<Gradient> gradients;
  for (int t = 0; t < kTensors; ++t) {
    gradients.push_back(Push(t));
    const Gradient& gradient = gradients.back();
    EXPECT_EQ(reinterpret_cast<uintptr_t>(gradient.data) % 64, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(gradient.grid) % 64, 0u);
    std::memset(gradient.data, t + 1, static_cast<size_t>(DataBytes(gradient)));
    if (gradient.grid != nullptr) {
      std::memset(gradient.grid, 100 + t, static_cast<size_t>(gradient.rows) * sizeof(float));
      std::memset(gradient.critical.values, 50 + t,
                  static_cast<size_t>(2 * gradient.rows) * sizeof(float));
      std::memset(gradient.square_sums, 25 + t,
                  static_cast<size_t>(gradient.rows) * sizeof(double));
    }
  }
  const char* begin = static_cast<const char*>(gradients[0].data);
  for (int t = 0; t < kTensors; ++t) {
    const Gradient& gradient = gradients[static_cast<size_t>(t)];
    const char* data = static_cast<const char*>(gradient.data);
    for (int64_t i = 0; i < DataBytes(gradient); ++i) ASSERT_EQ(data[i], t + 1);
    EXPECT_LE(data + DataBytes(gradient), begin + bytes_);
    if (gradient.grid == nullptr) continue;
    const char* grid = reinterpret_cast<const char*>(gradient.grid);
    for (int64_t i = 0; i < gradient.rows * 4; ++i) ASSERT_EQ(grid[i], 100 + t);
    const char* critical = reinterpret_cast<const char*>(gradient.critical.values);
    for (int64_t i = 0; i < gradient.rows * 8; ++i) ASSERT_EQ(critical[i], 50 + t);
    const char* sums = reinterpret_cast<const char*>(gradient.square_sums);
    for (int64_t i = 0; i < gradient.rows * 8; ++i) ASSERT_EQ(sums[i], 25 + t);
    EXPECT_LE(sums + gradient.rows * 8, begin + bytes_);
  }
}

TEST_P(GradientStackTest, MemoryIsUsedAgainAfterPopAndClear) {
  const void* first = Push(0).data;
  const void* second = Push(1).data;
  EXPECT_EQ(stack_.Pop().gradient.data, second);
  EXPECT_EQ(Push(3).data, second);
  stack_.Clear();
  EXPECT_TRUE(stack_.empty());
  EXPECT_EQ(stack_.Find(0), nullptr);
  EXPECT_EQ(Push(4).data, first);
}

TEST_P(GradientStackTest, FindLooksThroughTheWholeStack) {
  for (const int t : {4, 1, 3}) Push(t);
  for (const int t : {4, 1, 3}) EXPECT_EQ(stack_.Find(t)->tensor, t);
  EXPECT_EQ(stack_.Find(0), nullptr);
}

TEST_P(GradientStackTest, RowsOfAGradient) {
  const Gradient gradient = Push(3);
  const Gradient rows = GradientRows(gradient, 2, 3);
  const int64_t element = gradient.dtype == DType::kI8 ? 1 : 4;
  EXPECT_EQ(static_cast<char*>(rows.data),
            static_cast<char*>(gradient.data) + 2 * gradient.cols * element);
  EXPECT_EQ(rows.grid, gradient.grid == nullptr ? nullptr : gradient.grid + 2);
  EXPECT_EQ(rows.square_sums, gradient.square_sums == nullptr ? nullptr : gradient.square_sums + 2);
  EXPECT_EQ(rows.rows, 3);
  EXPECT_EQ(rows.cols, gradient.cols);
}

}  // namespace
}  // namespace qft
