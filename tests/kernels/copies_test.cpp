// Copies to the host beside the operations.
#include <thread>

#include "tests/kernels/test_engine.h"

namespace qft {
namespace {

constexpr size_t kBytes = size_t{1} << 22;
constexpr int kRanges = 16;

class HostMemory {
 public:
  HostMemory(Engine& engine, size_t bytes)
      : engine_(engine), bytes_(bytes), data_(static_cast<uint8_t*>(engine.AllocateHost(bytes))) {
    EXPECT_NE(data_, nullptr);
  }
  ~HostMemory() { engine_.FreeHost(data_, bytes_); }
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
  uint8_t* data() const { return data_; }
  bool Holds(uint8_t value) const {
    return std::all_of(data_, data_ + bytes_, [value](uint8_t byte) { return byte == value; });
  }

 private:
  Engine& engine_;
  size_t bytes_;
  uint8_t* data_;
};

class CopiesTest : public testing::TestWithParam<std::string> {
 protected:
  const EnginePointer engine_ = CreateVariant(GetParam(), 2);
};

INSTANTIATE_TEST_SUITE_P(Engines, CopiesTest, testing::ValuesIn(EngineVariants()),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

// Every range holds what stood in it when its copy was started, whatever is written afterwards.
TEST_P(CopiesTest, HoldWhatEarlierOperationsWroteAndNothingLater) {
  std::vector<std::unique_ptr<EngineArray<uint8_t>>> sources;
  sources.reserve(kRanges);
  for (int i = 0; i < kRanges; ++i) {
    sources.push_back(std::make_unique<EngineArray<uint8_t>>(*engine_, kBytes));
  }
  std::vector<std::unique_ptr<HostMemory>> copies;
  copies.reserve(kRanges);
  for (int i = 0; i < kRanges; ++i)
    copies.push_back(std::make_unique<HostMemory>(*engine_, kBytes));
  for (int round = 0; round < 3; ++round) {
    const auto value = [round](int i) { return static_cast<uint8_t>(16 * round + i); };
    std::vector<uint64_t> tickets;
    for (int i = 0; i < kRanges; ++i) engine_->Fill(sources[i]->data(), value(i), kBytes);
    for (int i = 0; i < kRanges; ++i) {
      const size_t half = kBytes / 2;
      const Copy ranges[] = {{copies[i]->data(), sources[i]->data(), half},
                             {copies[i]->data() + half, sources[i]->data() + half, kBytes - half}};
      tickets.push_back(engine_->StartCopies(CopyLane::kSnapshot, ranges, 2));
    }
    for (int i = 0; i < kRanges; ++i) {
      engine_->OrderAfterCopies(CopyLane::kSnapshot, tickets[i]);
      engine_->Fill(sources[i]->data(), 0xEE, kBytes);
    }
    for (int i = 0; i < kRanges; ++i) {
      ASSERT_EQ(engine_->WaitForCopies(CopyLane::kSnapshot, tickets[i]), nullptr);
      ASSERT_TRUE(copies[i]->Holds(value(i))) << round << ", " << i;
    }
  }
  EXPECT_EQ(engine_->Synchronize(), nullptr);
}

TEST_P(CopiesTest, AnyThreadMayWait) {
  const EngineArray<uint8_t> source(*engine_, kBytes);
  const HostMemory copy(*engine_, kBytes);
  engine_->Fill(source.data(), 7, kBytes);
  const Copy range{copy.data(), source.data(), kBytes};
  const uint64_t ticket = engine_->StartCopies(CopyLane::kSnapshot, &range, 1);
  bool holds = false;
  std::thread waiting([&] {
    holds = engine_->WaitForCopies(CopyLane::kSnapshot, ticket) == nullptr && copy.Holds(7);
  });
  waiting.join();
  EXPECT_TRUE(holds);
}

TEST_P(CopiesTest, ManyTickets) {
  constexpr int kMany = 3000;
  std::vector<int32_t> values(kMany);
  for (int i = 0; i < kMany; ++i) values[i] = i;
  const EngineArray<int32_t> source(*engine_, values);
  const HostMemory copy(*engine_, kMany * sizeof(int32_t));
  auto* to = reinterpret_cast<int32_t*>(copy.data());
  uint64_t last = 0;
  for (int i = 0; i < kMany; ++i) {
    const Copy range{to + i, source.data() + i, sizeof(int32_t)};
    const uint64_t ticket = engine_->StartCopies(CopyLane::kSnapshot, &range, 1);
    EXPECT_GT(ticket, last);
    last = ticket;
  }
  ASSERT_EQ(engine_->WaitForCopies(CopyLane::kSnapshot, last), nullptr);
  EXPECT_TRUE(std::equal(values.begin(), values.end(), to));
}

// A ring of engine memory through which host memory passes, changed by an operation on the way.
TEST_P(CopiesTest, LoadsFollowStoresOfTheSameMemory) {
  constexpr int kUnits = 40;
  constexpr int kSlots = 3;
  const EngineArray<uint8_t> ring(*engine_, kSlots * kBytes);
  std::vector<std::unique_ptr<HostMemory>> homes;
  for (int i = 0; i < kUnits; ++i) {
    homes.push_back(std::make_unique<HostMemory>(*engine_, kBytes));
    std::memset(homes.back()->data(), i, kBytes);
  }
  const auto slot = [&](int unit) { return ring.data() + unit % kSlots * kBytes; };
  std::vector<uint64_t> loaded(kUnits);
  const auto load = [&](int unit) {
    const Copy copy{slot(unit), homes[unit]->data(), kBytes};
    loaded[unit] = engine_->StartCopies(CopyLane::kLoad, &copy, 1);
  };
  for (int unit = 0; unit < kSlots; ++unit) load(unit);
  uint64_t stored = 0;
  for (int unit = 0; unit < kUnits; ++unit) {
    engine_->OrderAfterCopies(CopyLane::kLoad, loaded[unit]);
    // The first half stays what was loaded.
    engine_->Fill(slot(unit) + kBytes / 2, 200 + unit % 50, kBytes - kBytes / 2);
    const Copy copy{homes[unit]->data(), slot(unit), kBytes};
    stored = engine_->StartCopies(CopyLane::kStore, &copy, 1);
    if (unit + kSlots < kUnits) load(unit + kSlots);
  }
  ASSERT_EQ(engine_->WaitForCopies(CopyLane::kStore, stored), nullptr);
  for (int unit = 0; unit < kUnits; ++unit) {
    EXPECT_EQ(homes[unit]->data()[kBytes / 2 - 1], unit);
    EXPECT_EQ(homes[unit]->data()[kBytes / 2], 200 + unit % 50);
    EXPECT_EQ(homes[unit]->data()[kBytes - 1], 200 + unit % 50);
  }
}

// States that live in host memory are read and written like the engine's own.
TEST_P(CopiesTest, HostMemoryOfTheEngineIsCopiedLikeItsOwn) {
  const HostMemory home(*engine_, kBytes);
  const std::vector<uint8_t> values(kBytes, 42);
  engine_->CopyToEngine(home.data(), values.data(), kBytes);
  std::vector<uint8_t> back(kBytes);
  engine_->CopyToHost(back.data(), home.data(), kBytes);
  EXPECT_EQ(back, values);
}

TEST_P(CopiesTest, NothingStartedIsNothingToWaitFor) {
  engine_->OrderAfterCopies(CopyLane::kSnapshot, 0);
  EXPECT_EQ(engine_->WaitForCopies(CopyLane::kSnapshot, 0), nullptr);
}

}  // namespace
}  // namespace qft
