// What the machine has.
#pragma once

#include <cstdint>

namespace qft {

// Bytes of host memory that a process may still take: MemAvailable, less where a control group
// allows less. 0: unknown.
int64_t AvailableHostMemory();

// Bytes of host memory that this process has in use, and that the machine has. 0: unknown.
int64_t ResidentMemory();
int64_t TotalHostMemory();

}  // namespace qft
