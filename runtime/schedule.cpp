#include "runtime/schedule.h"

#include <algorithm>

namespace qft {
namespace {

// The micro-batches [begin, end) go through all phases together. With a range of one this is the
// horizontal order, with all of them the vertical one.
class Pass {
 public:
  Pass(const ScheduleShape& shape, int begin, int end, std::vector<ScheduleItem>& items)
      : shape_(shape), begin_(begin), end_(end), items_(items) {}

  void Forward() {
    Each(Phase::kEmbed, 0);
    for (int block = 0; block < shape_.blocks; ++block) Each(Phase::kForward, block);
    Each(Phase::kLoss, 0);
  }

  void Backward() {
    for (int chunk = 0; chunk < shape_.vocabulary_chunks; ++chunk) {
      Each(Phase::kHeadBackward, chunk);
      if (shape_.head_trains) Once(Phase::kPushHead, chunk);
    }
    Each(Phase::kFinalNormBackward, 0);
    Once(Phase::kPushFinalNorm, 0);
    for (int block = shape_.blocks - 1; block >= std::max(shape_.lowest_trained, 0); --block) {
      for (int m = begin_; m < end_; ++m) {
        if (block < shape_.recomputed) Add(Phase::kRecompute, block, m);
        Add(Phase::kBackward, block, m);
      }
    }
    if (shape_.lowest_trained < 0) {
      for (int chunk = 0; chunk < shape_.vocabulary_chunks; ++chunk) {
        Each(Phase::kEmbedBackward, chunk);
        Once(Phase::kPushEmbedding, chunk);
      }
    }
  }

 private:
  void Add(Phase phase, int index, int micro_batch) {
    items_.push_back({phase, index, micro_batch, micro_batch == begin_, micro_batch == end_ - 1});
  }
  void Each(Phase phase, int index) {
    for (int m = begin_; m < end_; ++m) Add(phase, index, m);
  }
  void Once(Phase phase, int index) { Add(phase, index, begin_); }

  const ScheduleShape& shape_;
  int begin_;
  int end_;
  std::vector<ScheduleItem>& items_;
};

}  // namespace

std::vector<ScheduleItem> MakeSchedule(const ScheduleShape& shape) {
  std::vector<ScheduleItem> items;
  const int width = shape.vertical ? shape.micro_batches : 1;
  for (int begin = 0; begin < shape.micro_batches; begin += width) {
    Pass pass(shape, begin, std::min(begin + width, shape.micro_batches), items);
    pass.Forward();
    pass.Backward();
  }
  return items;
}

}  // namespace qft
