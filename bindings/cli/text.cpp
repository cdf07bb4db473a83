#include "bindings/cli/text.h"

#include <algorithm>
#include <cmath>
#include <cstdarg>
#include <cstdio>

namespace qft::cli {

std::string Format(const char* format, ...) {
  va_list arguments;
  va_start(arguments, format);
  va_list again;
  va_copy(again, arguments);
  const int length = vsnprintf(nullptr, 0, format, arguments);
  va_end(arguments);
  std::string text(static_cast<size_t>(std::max(length, 0)) + 1, '\0');
  vsnprintf(text.data(), text.size(), format, again);
  va_end(again);
  text.pop_back();
  return text;
}

std::string Count(double count) {
  if (count >= 1e9) return Format("%.2f B", count / 1e9);
  if (count >= 1e6) return Format("%.1f M", count / 1e6);
  return Format("%.0f", count);
}

std::string Bytes(double bytes) {
  if (bytes >= 1e9) return Format("%.2f GB", bytes / 1e9);
  if (bytes >= 1e6) return Format("%.1f MB", bytes / 1e6);
  return Format("%.1f kB", bytes / 1e3);
}

std::string Duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e8) return "?";
  const long total = std::lround(seconds);
  if (total < 3600) return Format("%ld:%02ld", total / 60, total % 60);
  return Format("%ld:%02ld:%02ld", total / 3600, total / 60 % 60, total % 60);
}

}  // namespace qft::cli
