// Numbers and times as people read them.
#pragma once

#include <cstdint>
#include <string>

namespace qft::cli {

// printf into a string.
__attribute__((format(printf, 1, 2))) std::string Format(const char* format, ...);
// "134.5 M", "7.24 B".
std::string Count(double count);
// "162.9 MB", "1.35 GB"; decimal units.
std::string Bytes(double bytes);
// "4:05", "1:02:03".
std::string Duration(double seconds);

}  // namespace qft::cli
