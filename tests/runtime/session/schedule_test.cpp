#include "runtime/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace qft {
namespace {

std::string Text(const ScheduleItem& item) {
  switch (item.phase) {
    case Phase::kEmbed:
      return absl::StrCat("embed m", item.micro_batch);
    case Phase::kForward:
      return absl::StrCat("forward ", item.index, " m", item.micro_batch);
    case Phase::kLoss:
      return absl::StrCat("loss m", item.micro_batch);
    case Phase::kHeadBackward:
      return absl::StrCat("head ", item.index, " m", item.micro_batch);
    case Phase::kPushHead:
      return absl::StrCat("push head ", item.index);
    case Phase::kFinalNormBackward:
      return absl::StrCat("norm m", item.micro_batch);
    case Phase::kPushFinalNorm:
      return "push norm";
    case Phase::kRecompute:
      return absl::StrCat("recompute ", item.index, " m", item.micro_batch);
    case Phase::kBackward:
      return absl::StrCat("backward ", item.index, " m", item.micro_batch,
                          item.last ? " push" : "");
    case Phase::kEmbedBackward:
      return absl::StrCat("embed backward ", item.index, " m", item.micro_batch);
    case Phase::kPushEmbedding:
      return absl::StrCat("push embedding ", item.index);
  }
  return "unknown";
}

std::string Text(const ScheduleShape& shape) {
  return absl::StrJoin(MakeSchedule(shape), "\n",
                       [](std::string* out, const ScheduleItem& item) { *out += Text(item); });
}

ScheduleShape Shape(int blocks, int micro_batches) {
  ScheduleShape shape;
  shape.blocks = blocks;
  shape.micro_batches = micro_batches;
  return shape;
}

TEST(ScheduleTest, VerticalTakesAllMicroBatchesThroughEachPart) {
  EXPECT_EQ(Text(Shape(2, 2)),
            "embed m0\nembed m1\n"
            "forward 0 m0\nforward 0 m1\nforward 1 m0\nforward 1 m1\n"
            "loss m0\nloss m1\n"
            "head 0 m0\nhead 0 m1\npush head 0\n"
            "norm m0\nnorm m1\npush norm\n"
            "backward 1 m0\nbackward 1 m1 push\n"
            "backward 0 m0\nbackward 0 m1 push\n"
            "embed backward 0 m0\nembed backward 0 m1\npush embedding 0");
}

TEST(ScheduleTest, HorizontalTakesEachMicroBatchThroughAllParts) {
  ScheduleShape shape = Shape(1, 2);
  shape.vertical = false;
  shape.recomputed = 1;
  const auto pass = [](int m) {
    return absl::StrCat("embed m", m, "\nforward 0 m", m, "\nloss m", m, "\nhead 0 m", m,
                        "\npush head 0\nnorm m", m, "\npush norm\nrecompute 0 m", m,
                        "\nbackward 0 m", m, " push\nembed backward 0 m", m, "\npush embedding 0");
  };
  EXPECT_EQ(Text(shape), pass(0) + "\n" + pass(1));
}

TEST(ScheduleTest, RecomputesABlockRightBeforeItsBackward) {
  ScheduleShape shape = Shape(1, 2);
  shape.recomputed = 1;
  EXPECT_NE(Text(shape).find("recompute 0 m0\nbackward 0 m0\nrecompute 0 m1\nbackward 0 m1 push\n"),
            std::string::npos);
}

TEST(ScheduleTest, BackwardStopsAtTheLowestTrained) {
  ScheduleShape shape = Shape(3, 1);
  const auto has = [&](const std::string& item) {
    return ("\n" + Text(shape) + "\n").find("\n" + item + "\n") != std::string::npos;
  };
  shape.lowest_trained = 1;
  EXPECT_TRUE(has("backward 2 m0 push"));
  EXPECT_TRUE(has("backward 1 m0 push"));
  EXPECT_FALSE(has("backward 0 m0 push"));
  EXPECT_FALSE(has("embed backward 0 m0"));
  shape.lowest_trained = 3;
  EXPECT_FALSE(has("backward 2 m0 push"));
  EXPECT_TRUE(has("push norm"));
  EXPECT_TRUE(has("push head 0"));
  shape.head_trains = false;
  EXPECT_FALSE(has("push head 0"));
  EXPECT_TRUE(has("head 0 m0")) << "the gradient passes through a frozen head";
}

// What holds for every schedule, whatever its shape.
class EveryScheduleTest : public testing::Test {
 protected:
  template <typename Check>
  static void ForEachShape(const Check& check) {
    for (int bits = 0; bits < 32; ++bits) {
      for (const int micro_batches : {1, 2, 5}) {
        ScheduleShape shape = Shape(bits & 1 ? 3 : 1, micro_batches);
        shape.vertical = (bits & 2) != 0;
        shape.recomputed = bits & 4 ? (shape.blocks + 1) / 2 : 0;
        shape.vocabulary_chunks = bits & 8 ? 3 : 1;
        shape.lowest_trained = bits & 16 ? 0 : -1;
        SCOPED_TRACE(Text(shape));
        check(shape, MakeSchedule(shape));
      }
    }
  }
  // Position of the item; -1 when it is not there.
  static int At(const std::vector<ScheduleItem>& items, Phase phase, int index, int m) {
    for (size_t i = 0; i < items.size(); ++i) {
      if (items[i].phase == phase && items[i].index == index && items[i].micro_batch == m) {
        return static_cast<int>(i);
      }
    }
    return -1;
  }
};

TEST_F(EveryScheduleTest, EachWorkIsDoneOnce) {
  ForEachShape([](const ScheduleShape& shape, const std::vector<ScheduleItem>& items) {
    std::map<std::tuple<Phase, int, int>, int> counts;
    std::map<Phase, int> totals;
    for (const ScheduleItem& item : items) {
      ++totals[item.phase];
      ASSERT_EQ(++counts[std::tuple(item.phase, item.index, item.micro_batch)], 1) << Text(item);
    }
    const int passes = shape.vertical ? 1 : shape.micro_batches;
    const int blocks = shape.blocks * shape.micro_batches;
    const int chunks = shape.vocabulary_chunks * shape.micro_batches;
    const bool embedding = shape.lowest_trained < 0;
    EXPECT_EQ(totals[Phase::kEmbed], shape.micro_batches);
    EXPECT_EQ(totals[Phase::kForward], blocks);
    EXPECT_EQ(totals[Phase::kLoss], shape.micro_batches);
    EXPECT_EQ(totals[Phase::kHeadBackward], chunks);
    EXPECT_EQ(totals[Phase::kPushHead], shape.vocabulary_chunks * passes);
    EXPECT_EQ(totals[Phase::kFinalNormBackward], shape.micro_batches);
    EXPECT_EQ(totals[Phase::kPushFinalNorm], passes);
    EXPECT_EQ(totals[Phase::kBackward], blocks);
    EXPECT_EQ(totals[Phase::kRecompute], shape.recomputed * shape.micro_batches);
    EXPECT_EQ(totals[Phase::kEmbedBackward], embedding ? chunks : 0);
    EXPECT_EQ(totals[Phase::kPushEmbedding], embedding ? shape.vocabulary_chunks * passes : 0);
  });
}

TEST_F(EveryScheduleTest, InputsComeBeforeWhatNeedsThem) {
  ForEachShape([](const ScheduleShape& shape, const std::vector<ScheduleItem>& items) {
    for (int m = 0; m < shape.micro_batches; ++m) {
      int last = At(items, Phase::kEmbed, 0, m);
      const auto next = [&](Phase phase, int index) {
        const int at = At(items, phase, index, m);
        EXPECT_GT(at, last) << Text({phase, index, m, false});
        last = at;
      };
      for (int block = 0; block < shape.blocks; ++block) next(Phase::kForward, block);
      next(Phase::kLoss, 0);
      for (int chunk = 0; chunk < shape.vocabulary_chunks; ++chunk) {
        next(Phase::kHeadBackward, chunk);
      }
      next(Phase::kFinalNormBackward, 0);
      for (int block = shape.blocks - 1; block >= 0; --block) {
        if (block < shape.recomputed) next(Phase::kRecompute, block);
        next(Phase::kBackward, block);
      }
      if (shape.lowest_trained < 0) next(Phase::kEmbedBackward, 0);
    }
  });
}

// Between two pushes of a unit exactly one contribution sets the accumulator.
TEST_F(EveryScheduleTest, TheFirstContributionSetsTheAccumulator) {
  ForEachShape([](const ScheduleShape&, const std::vector<ScheduleItem>& items) {
    bool expect_first = true;
    for (const ScheduleItem& item : items) {
      switch (item.phase) {
        case Phase::kHeadBackward:
        case Phase::kFinalNormBackward:
        case Phase::kBackward:
        case Phase::kEmbedBackward:
          ASSERT_EQ(item.first, expect_first) << Text(item);
          expect_first = item.phase == Phase::kBackward && item.last;  // which pushes
          break;
        case Phase::kPushHead:
        case Phase::kPushFinalNorm:
        case Phase::kPushEmbedding:
          ASSERT_FALSE(expect_first) << Text(item) << " without a contribution";
          expect_first = true;
          break;
        default:
          break;
      }
    }
  });
}

}  // namespace
}  // namespace qft
