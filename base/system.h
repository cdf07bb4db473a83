// What the machine has.
#pragma once

#include <cstdint>

namespace qft {

// Bytes of host memory that a process may still take: MemAvailable, less where a control group
// allows less. 0: unknown.
int64_t AvailableHostMemory();

}  // namespace qft
