// The lines of a text file of any size.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "base/file.h"
#include "base/status.h"

namespace qft {

inline constexpr size_t kMaxLineBytes = size_t{64} << 20;

struct Line {
  std::string_view text;  // without its end
  int64_t number = 0;     // from 1
  uint64_t offset = 0;    // of its first byte in the file
};

// Calls `use` with each line of the file that is not empty or white space, in order, its memory
// that of one line. kBadData, beginning with "file:line: ", for a line longer than kMaxLineBytes;
// errors of `use` get the same beginning.
Status ReadLines(const File& file, const std::string& path,
                 const std::function<Status(const Line&)>& use);

}  // namespace qft
