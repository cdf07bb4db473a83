// Momentum's way through a ring: what has no room is an error and no endless wait, and after an
// error what an update is given still lies within the ring.
#include "runtime/state/momentum_stream.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>

#include "tests/offload/faulty_queue.h"
#include "tests/runtime/session/tiny_session.h"

namespace qft {
namespace {

constexpr int64_t kPage = kStoreAlignment;

class MomentumStreamTest : public FolderTest {
 protected:
  StatusOr<std::unique_ptr<StateHome>> OpenHome(int64_t bytes) {
    StoreOptions store;
    store.folders = {folder_};
    store.wrap_queue = faults_.Wrap();
    return StateHome::Open(*engine_, Tier::kNvme, bytes, store);
  }
  // At `at` of the home, with every piece.
  static MomentumUnit Unit(const StateHome& home, int64_t at, int64_t rows, int64_t cols) {
    MomentumUnit unit;
    unit.rows = rows;
    unit.cols = cols;
    unit.critical_count = 16;
    unit.home.data = home.base() + at;
    unit.home.grid = reinterpret_cast<float*>(home.base() + at + unit.PieceBytes()[0]);
    unit.home.critical =
        unit.home.grid + unit.PieceBytes()[1] / static_cast<int64_t>(sizeof(float));
    return unit;
  }

  Faults faults_;
  const std::unique_ptr<Engine> engine_{CreateCpuEngine(1)};
};

TEST_F(MomentumStreamTest, AUnitThatHasNoRoomIsAnError) {
  auto home = OpenHome(16 * kPage);
  ASSERT_TRUE(home.ok()) << home.status();
  const MomentumUnit unit = Unit(**home, 0, 16, 256);
  const int64_t bytes = unit.bytes();
  std::vector<char> ring(static_cast<size_t>(bytes));
  for (const auto& [ring_bytes, staging_bytes] :
       {std::pair(bytes - kPage, bytes + kPage), std::pair(bytes, bytes)}) {
    MomentumStream stream(*engine_, home->get(), ring.data(), ring_bytes, staging_bytes);
    ASSERT_EQ(stream.Open(), absl::OkStatus());
    EXPECT_EQ(GetErrorInfo(stream.Begin({unit})).code, ErrorCode::kInternal);
    stream.Enter(unit.home);  // does not wait for ever
    stream.Leave(unit.home);
    EXPECT_EQ(GetErrorInfo(stream.Finish()).code, ErrorCode::kInternal);
  }
  MomentumStream stream(*engine_, home->get(), ring.data(), bytes, bytes + kPage);
  ASSERT_EQ(stream.Open(), absl::OkStatus());
  EXPECT_EQ(stream.Begin({unit}), absl::OkStatus());
  stream.Enter(unit.home);
  stream.Leave(unit.home);
  EXPECT_EQ(stream.Settle(), absl::OkStatus());
}

TEST_F(MomentumStreamTest, AfterAnErrorAllStaysInTheRing) {
  // Many codes and few critical values, then the other way round.
  auto home = OpenHome(1024 * kPage);
  ASSERT_TRUE(home.ok()) << home.status();
  const MomentumUnit wide = Unit(**home, 0, 16, 16384);
  const MomentumUnit tall = Unit(**home, wide.bytes(), 8192, 16);
  const int64_t bytes = std::max(wide.bytes(), tall.bytes());
  std::vector<char> ring(static_cast<size_t>(bytes));
  MomentumStream stream(*engine_, home->get(), ring.data(), bytes, bytes + kPage);
  ASSERT_EQ(stream.Open(), absl::OkStatus());
  faults_.Arm({FaultKind::kError, false, 1, true, EIO});
  (void)stream.Begin({wide, tall});
  for (const MomentumUnit& unit : {wide, tall}) {
    const Momentum here = stream.Enter(unit.home);
    const auto* critical = reinterpret_cast<const char*>(here.critical);
    EXPECT_GE(critical, ring.data());
    EXPECT_LE(critical + unit.PieceBytes()[2], ring.data() + bytes);
    stream.Leave(unit.home);
  }
  EXPECT_EQ(GetErrorInfo(stream.Finish()).code, ErrorCode::kIo);
}

}  // namespace
}  // namespace qft
