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
      const HostCopy ranges[] = {
          {copies[i]->data(), sources[i]->data(), half},
          {copies[i]->data() + half, sources[i]->data() + half, kBytes - half}};
      tickets.push_back(engine_->StartCopies(ranges, 2));
    }
    for (int i = 0; i < kRanges; ++i) {
      engine_->OrderAfterCopies(tickets[i]);
      engine_->Fill(sources[i]->data(), 0xEE, kBytes);
    }
    for (int i = 0; i < kRanges; ++i) {
      ASSERT_EQ(engine_->WaitForCopies(tickets[i]), nullptr);
      ASSERT_TRUE(copies[i]->Holds(value(i))) << round << ", " << i;
    }
  }
  EXPECT_EQ(engine_->Synchronize(), nullptr);
}

TEST_P(CopiesTest, AnyThreadMayWait) {
  const EngineArray<uint8_t> source(*engine_, kBytes);
  const HostMemory copy(*engine_, kBytes);
  engine_->Fill(source.data(), 7, kBytes);
  const HostCopy range{copy.data(), source.data(), kBytes};
  const uint64_t ticket = engine_->StartCopies(&range, 1);
  bool holds = false;
  std::thread waiting([&] { holds = engine_->WaitForCopies(ticket) == nullptr && copy.Holds(7); });
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
    const HostCopy range{to + i, source.data() + i, sizeof(int32_t)};
    const uint64_t ticket = engine_->StartCopies(&range, 1);
    EXPECT_GT(ticket, last);
    last = ticket;
  }
  ASSERT_EQ(engine_->WaitForCopies(last), nullptr);
  EXPECT_TRUE(std::equal(values.begin(), values.end(), to));
}

TEST_P(CopiesTest, NothingStartedIsNothingToWaitFor) {
  engine_->OrderAfterCopies(0);
  EXPECT_EQ(engine_->WaitForCopies(0), nullptr);
}

}  // namespace
}  // namespace qft
