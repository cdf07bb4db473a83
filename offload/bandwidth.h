// How fast a store is, over a whole stretch of it.
#pragma once

#include <cstdint>

#include "offload/preflight.h"
#include "offload/store.h"

namespace qft {

enum class Traffic { kRead, kWrite, kBoth };

// What the bytes of a measurement are a multiple of, twice at least.
constexpr int64_t kMeasuredMultiple = 16 << 20;

// Writes `bytes` of the store, then keeps transfers under way for `seconds` through all of them in
// order; kBoth reads the first half and writes the second at once. The store is closed afterwards.
StatusOr<Bandwidths> MeasureBandwidths(Store& store, int64_t bytes, Traffic traffic,
                                       double seconds);

// Bytes a second, read and written at once, of a new store in the folders: for whoever plans. Takes
// a second and what 256 MiB take to be written.
StatusOr<double> TryFolders(StoreOptions options);

}  // namespace qft
