// Kernels, containers and file systems that lack something, by a real filter of system calls.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

namespace qft {

// A system call that fails with `error`: always, or where `argument` (its low 32 bits) has any bit
// of `bits`, or equals `value`.
struct Forbidden {
  int call = 0;
  int error = 0;
  int argument = -1;
  uint32_t bits = 0;
  uint32_t value = 0;
};

// Runs `body` in a thread in which, and in all threads that it starts, the calls are forbidden.
// False: this process may not install filters, and nothing ran.
bool RunRestricted(const std::vector<Forbidden>& calls, const std::function<void()>& body);

// Runs `body` in a thread that sees a tmpfs of `bytes` at `folder`, which goes with it. False: that
// is not permitted, and nothing ran.
bool RunWithSmallDisk(const char* folder, int64_t bytes, const std::function<void()>& body);

}  // namespace qft
