// Why a command stops: one line for the person and the program's exit code.
#pragma once

#include <stdexcept>
#include <string>

namespace qft::cli {

inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;

class Failure : public std::runtime_error {
 public:
  explicit Failure(const std::string& message, int exit_code = kExitFailure)
      : std::runtime_error(message), exit_code_(exit_code) {}
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
};

// A request that cannot be carried out as it was typed.
inline Failure Usage(const std::string& message) {
  return Failure(message, kExitUsage);
}

}  // namespace qft::cli
