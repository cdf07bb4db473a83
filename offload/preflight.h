// A trial of a store with some megabytes before it is used.
#pragma once

#include <cstdint>

#include "offload/store.h"

namespace qft {

struct Bandwidths {
  double read = 0;  // bytes a second
  double write = 0;
};

// Writes from the start of the store, for about a tenth of a second, reads it back and compares.
// `bytes` of the store, striped over `files`.
StatusOr<Bandwidths> RunPreflight(Store& store, int64_t bytes, int files);

}  // namespace qft
