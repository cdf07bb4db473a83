// File operations and allocations that fail, for a program that links injection.cpp: its
// definitions of open, pwrite, operator new, mmap and so on come before those of the C library for
// every library the program loads, libqft.so as it is shipped among them.
#pragma once

#include <cstdint>

namespace qft::injection {

// Calls are counted from 1, from the time a plan is made until Stop.
struct Plan {
  int64_t fail_file = 0;    // the operation that fails; 0: none
  int64_t kill_after = 0;   // the operation after which the process is killed; 0: none
  int64_t fail_new = 0;     // the allocation that fails; 0: none
  int64_t fail_engine = 0;  // the one of the engine's memory that fails; 0: none
  // Counts and fails only what is allocated right in functions with this in their (mangled) names.
  const char* inside = nullptr;
  bool for_ever = false;  // everything after it fails too
  int error = 5;          // EIO
  // Reads and writes move half of what they could, and every other one is interrupted first.
  bool short_transfers = false;
  int64_t disk_bytes = -1;  // so much can be written, then the disk is full; -1: no limit
};

void Start(const Plan& plan);
void Stop();

// Since the last Start.
int64_t FileOperations();
int64_t Allocations();
int64_t EngineAllocations();
bool Failed();

// Now, whether a plan is on or not: by new, and what the engine has mapped while a plan was on.
int64_t LiveAllocations();

}  // namespace qft::injection
