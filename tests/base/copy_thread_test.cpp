#include "base/copy_thread.h"

#include <gtest/gtest.h>

#include <numeric>
#include <vector>

namespace qft {
namespace {

constexpr size_t kCount = size_t{1} << 20;

std::vector<int> Ascending(int first) {
  std::vector<int> values(kCount);
  std::iota(values.begin(), values.end(), first);
  return values;
}

// The second copy reads what the first wrote.
TEST(CopyThread, CopiesInOrder) {
  const std::vector<int> from = Ascending(1);
  std::vector<int> middle(kCount);
  std::vector<int> to(kCount);
  CopyThread copies;
  EXPECT_EQ(copies.started(), 0u);
  copies.Wait(0);
  copies.Start(middle.data(), from.data(), kCount * sizeof(int));
  copies.Start(to.data(), middle.data(), kCount * sizeof(int));
  copies.Start(nullptr, nullptr, 0);
  EXPECT_EQ(copies.started(), 3u);
  copies.Wait(2);
  EXPECT_EQ(to, from);
  copies.Wait(3);
}

TEST(CopyThread, WhatIsWrittenAfterWaitingIsNotCopied) {
  std::vector<int> from = Ascending(1);
  std::vector<int> to(kCount);
  CopyThread copies;
  for (int round = 1; round <= 20; ++round) {
    copies.Start(to.data(), from.data(), kCount * sizeof(int));
    copies.Wait(copies.started());
    for (int& value : from) ++value;
    ASSERT_EQ(to, Ascending(round));
  }
}

TEST(CopyThread, EndsWhatWasStarted) {
  const std::vector<int> from = Ascending(7);
  std::vector<int> to(kCount);
  {
    CopyThread copies;
    copies.Start(to.data(), from.data(), kCount * sizeof(int));
  }
  EXPECT_EQ(to, from);
}

}  // namespace
}  // namespace qft
