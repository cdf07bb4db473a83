#include "runtime/state/arena.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <utility>

namespace qft {
namespace {

constexpr int64_t kCut = 256;  // what allocations are rounded up to

class ArenaTest : public testing::Test {
 protected:
  ArenaTest() : engine_(CreateCpuEngine(1)) {}
  std::unique_ptr<Engine> engine_;
};

bool AllZero(const char* memory, int64_t bytes) {
  return bytes == 0 || (memory[0] == 0 && std::memcmp(memory, memory + 1, bytes - 1) == 0);
}

TEST_F(ArenaTest, CutsWhatWasReservedAndThenAsksTheEngine) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "nothing is reserved";
#endif
  Arena arena(engine_.get(), 4 * kCut);
  auto* first = static_cast<char*>(arena.Allocate(Purpose::kWeights, 1));
  auto* second = static_cast<char*>(arena.Allocate(Purpose::kMomentum, kCut + 1));
  auto* third = static_cast<char*>(arena.Allocate(Purpose::kWeights, 2 * kCut));
  auto* fourth = static_cast<char*>(arena.Allocate(Purpose::kWeights, kCut));
  ASSERT_TRUE(arena.status().ok());
  EXPECT_EQ(reinterpret_cast<uintptr_t>(first) % 64, 0u);
  EXPECT_EQ(second, first + kCut);
  EXPECT_TRUE(third + 2 * kCut <= first || third >= first + 4 * kCut);
  EXPECT_EQ(fourth, first + 3 * kCut);
  for (auto [memory, bytes] : {std::pair(first, kCut), std::pair(second, 2 * kCut),
                               std::pair(third, 2 * kCut), std::pair(fourth, kCut)}) {
    EXPECT_TRUE(AllZero(memory, bytes));
    std::memset(memory, 1, static_cast<size_t>(bytes));
  }
  EXPECT_EQ(arena.bytes(Purpose::kWeights), 4 * kCut);
  EXPECT_EQ(arena.bytes(Purpose::kMomentum), 2 * kCut);
}

TEST_F(ArenaTest, SaysWhatCouldNotBeHad) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "nothing is reserved";
#endif
  Arena arena(engine_.get(), int64_t{1} << 60);
  EXPECT_EQ(arena.Allocate(Purpose::kWeights, 1), nullptr);
  EXPECT_EQ(GetErrorInfo(arena.status()).code, ErrorCode::kOutOfMemory);
}

TEST_F(ArenaTest, GroupsLieOverEachOther) {
  for (Engine* engine : {engine_.get(), static_cast<Engine*>(nullptr)}) {
    for (const int64_t reserved : {int64_t{0}, 16 * kCut}) {
      Arena arena(engine, reserved);
      char *small = nullptr, *large = nullptr, *larger = nullptr;
      arena.Overlay(
          Purpose::kWorkspace,
          {[&](Arena& part) { small = part.Allocate<char>(Purpose::kWorkspace, 3); }, [](Arena&) {},
           [&](Arena& part) {
             large = part.Allocate<char>(Purpose::kWorkspace, kCut + 1);
             larger = part.Allocate<char>(Purpose::kWorkspace, 2 * kCut);
           }});
      EXPECT_EQ(arena.bytes(Purpose::kWorkspace), 4 * kCut);
      auto* behind = arena.Allocate<char>(Purpose::kWorkspace, 1);
      EXPECT_EQ(arena.total_bytes(), 5 * kCut);
      EXPECT_EQ(small, large);
      EXPECT_EQ(small == nullptr, engine == nullptr);
      if (engine == nullptr) continue;
      EXPECT_EQ(larger, large + 2 * kCut);
      EXPECT_TRUE(behind + kCut <= large || behind >= large + 4 * kCut);
      std::memset(larger, 1, 2 * kCut);
    }
  }
}

}  // namespace
}  // namespace qft
