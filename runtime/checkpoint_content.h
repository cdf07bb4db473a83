// What a checkpoint is written from, whether the states still stand in the engine or in a snapshot.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/checkpoint_states.h"

namespace qft {

// Bytes [begin, begin + size) of parts[part], valid until the next call.
using PartReader = std::function<StatusOr<const char*>(size_t part, size_t begin, size_t size)>;

struct CheckpointContent {
  int64_t step = 0;
  std::string manifest;  // but for files and tensors, which come with the writing
  std::vector<StatePart> parts;
  PartReader read;
};

// The session as it is now; read from the engine, until the session next changes. Errors: POISONED,
// STATE (a step is open, nothing to save), BUSY (a save is under way).
StatusOr<CheckpointContent> ContentOf(Session& session, const std::string& blob);

// Writes both files into `folder`, which exists: durable on return, the manifest last.
Status WriteContent(const CheckpointContent& content, FileSystem& fs, const std::string& folder);

}  // namespace qft
