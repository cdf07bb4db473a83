// What happens in a step, as data: a list of (phase, index, micro-batch). MakeSchedule is a pure
// function; step.cpp walks the list. Vertical, horizontal and recompute differ here and nowhere
// else; stack and fused in what a push does.
#pragma once

#include <cstdint>
#include <vector>

namespace qft {

enum class Phase {
  kEmbed,              // micro_batch
  kForward,            // index = block, micro_batch
  kLoss,               // final norm, then loss over the vocabulary; micro_batch
  kHeadBackward,       // index = vocabulary chunk, micro_batch
  kPushHead,           // index = vocabulary chunk
  kFinalNormBackward,  // micro_batch
  kPushFinalNorm,
  kRecompute,      // index = block, micro_batch
  kBackward,       // index = block, micro_batch; the last micro-batch pushes each tensor as soon as
                   // its gradient is whole
  kEmbedBackward,  // index = vocabulary chunk, micro_batch
  kPushEmbedding,  // index = vocabulary chunk
};

struct ScheduleItem {
  Phase phase;
  int index;
  int micro_batch;
  // The first contribution to an accumulator sets it, later ones add; after the last one it is
  // whole.
  bool first;
  bool last;
};

struct ScheduleShape {
  int blocks = 0;
  int micro_batches = 1;
  int vocabulary_chunks = 1;
  bool vertical = true;
  int recomputed = 0;  // so many blocks, from the first on, are recomputed in backward
  // Backward stops below the lowest tensor that trains: -1 the embedding, b block b, blocks: the
  // final norm or the head only.
  int lowest_trained = -1;
  bool head_trains = true;
};

std::vector<ScheduleItem> MakeSchedule(const ScheduleShape& shape);

}  // namespace qft
