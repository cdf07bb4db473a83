// The states of a session as named byte ranges: what a checkpoint holds and what the hash covers.
#pragma once

#include <string>
#include <vector>

#include "runtime/data/tensor_source.h"
#include "runtime/session.h"

namespace qft {

struct StatePart {
  int tensor = -1;  // whose; -1: no single one's
  TensorInfo info;  // name in the file: "<tensor>", "<tensor>.grid", ".momentum", ".momentum_grid"
  void* data = nullptr;  // engine memory
  size_t bytes = 0;
};

// Words first, codes after them, so that every part is aligned in a file. Last of the words:
// "critical_columns", the critical features of each site.
std::vector<StatePart> StateParts(Session& session);

}  // namespace qft
