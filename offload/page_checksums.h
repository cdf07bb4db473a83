// What was written to a file, by an xxh3-64 of each page of 4096 bytes: any aligned range can be
// verified, however the pages in it were written. Not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace qft {

class PageChecksums {
 public:
  explicit PageChecksums(int64_t file_bytes);

  // Offsets and sizes are multiples of a page.
  void Record(int64_t offset, const std::byte* data, int64_t bytes);
  // The offset of the first page that was never recorded, if there is one.
  std::optional<int64_t> FirstUnwritten(int64_t offset, int64_t bytes) const;
  // The offset of the first page that differs from what was recorded, if there is one.
  std::optional<int64_t> FirstDifference(int64_t offset, const std::byte* data,
                                         int64_t bytes) const;
  // Nothing was written.
  void Clear();

 private:
  std::vector<uint64_t> pages_;  // 0: never written
};

}  // namespace qft
