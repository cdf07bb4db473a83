#include "bindings/cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "bindings/cli/text.h"

namespace qft::cli {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr double kLineSeconds = 10;
constexpr int kBarCells = 24;

int TerminalWidth() {
  winsize size = {};
  if (ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

}  // namespace

Progress::Progress() : terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  Clear();
}

void Progress::Update(const std::string& label, int64_t done, int64_t total,
                      const std::string& details) {
  const auto now = std::chrono::steady_clock::now();
  const double since = std::chrono::duration<double>(now - last_time_).count();
  const bool due = since >= (terminal_ ? kRedrawSeconds : kLineSeconds);
  if (!due && label == last_label_ && done != total) return;
  last_label_ = label;
  last_time_ = now;
  Draw(label, done, total, details);
}

void Progress::Draw(const std::string& label, int64_t done, int64_t total,
                    const std::string& details) {
  const std::string counts = Format("%s %lld/%lld", label.c_str(), static_cast<long long>(done),
                                    static_cast<long long>(total));
  if (!terminal_) {
    fprintf(stderr, "%s%s%s\n", counts.c_str(), details.empty() ? "" : "  ", details.c_str());
    return;
  }
  const double share = total > 0 ? static_cast<double>(done) / static_cast<double>(total) : 0;
  const int full = std::clamp(static_cast<int>(share * kBarCells), 0, kBarCells);
  std::string line = counts + " [" + std::string(static_cast<size_t>(full), '#') +
                     std::string(static_cast<size_t>(kBarCells - full), '.') + "] " + details;
  line.resize(std::min(line.size(), static_cast<size_t>(TerminalWidth() - 1)));
  fprintf(stderr, "\r\033[K%s", line.c_str());
  fflush(stderr);
  drawn_ = true;
}

void Progress::Print(const std::string& line) {
  Clear();
  fprintf(stderr, "%s\n", line.c_str());
}

void Progress::Clear() {
  if (drawn_) fputs("\r\033[K", stderr);
  fflush(stderr);
  drawn_ = false;
}

}  // namespace qft::cli
