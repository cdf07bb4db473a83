// Splitting the rows of a matrix into tasks of about equal, cache-sized work.
#pragma once

#include <cstdint>

#include "kernels/cpu/simd.h"

namespace qft::QFT_ISA {

inline constexpr int64_t kElementsPerTask = 32768;

// The split depends on the shape alone, never on the number of threads.
struct RowTasks {
  int64_t rows;
  int64_t rows_per_task;
  int64_t count;

  __attribute__((always_inline)) RowTasks(int64_t row_count, int64_t cols) : rows(row_count) {
    rows_per_task = cols < kElementsPerTask ? kElementsPerTask / (cols > 0 ? cols : 1) : 1;
    count = (rows + rows_per_task - 1) / rows_per_task;
  }
  __attribute__((always_inline)) int64_t Begin(int64_t task) const { return task * rows_per_task; }
  __attribute__((always_inline)) int64_t End(int64_t task) const {
    const int64_t end = (task + 1) * rows_per_task;
    return end < rows ? end : rows;
  }
};

}  // namespace qft::QFT_ISA
