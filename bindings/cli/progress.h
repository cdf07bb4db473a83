// What is going on, on stderr: a bar redrawn in place on a terminal, plain lines now and then
// elsewhere.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace qft::cli {

class Progress {
 public:
  Progress();
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // `done` of `total` of what `label` names, with details to show beside it.
  void Update(const std::string& label, int64_t done, int64_t total, const std::string& details);
  // A line that stays; the bar is taken away first.
  void Print(const std::string& line);
  // Takes the bar away.
  void Clear();

 private:
  void Draw(const std::string& label, int64_t done, int64_t total, const std::string& details);

  bool terminal_;
  bool drawn_ = false;
  std::string last_label_;
  std::chrono::steady_clock::time_point last_time_;
};

}  // namespace qft::cli
