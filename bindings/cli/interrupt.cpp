#include "bindings/cli/interrupt.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "bindings/cli/failure.h"

namespace qft::cli {
namespace {

volatile sig_atomic_t interrupted = 0;
timespec first_time;

double SecondsSinceFirst() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec - first_time.tv_sec) +
         static_cast<double>(now.tv_nsec - first_time.tv_nsec) * 1e-9;
}

// Calls only what is allowed in a signal handler.
void OnSignal(int) {
  // Some wrappers signal the program and its process group: that is one wish, not two.
  constexpr double kSameWishSeconds = 0.3;
  if (interrupted != 0) {
    if (SecondsSinceFirst() > kSameWishSeconds) _exit(kExitInterrupted);
    return;
  }
  clock_gettime(CLOCK_MONOTONIC, &first_time);
  interrupted = 1;
  constexpr char kMessage[] = "\nqft: stopping after this step; once more to stop at once\n";
  const ssize_t ignored = write(STDERR_FILENO, kMessage, sizeof(kMessage) - 1);
  static_cast<void>(ignored);
}

}  // namespace

void CatchInterrupts() {
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  // Reads and writes under way go on: what the handler asks for is done between steps.
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  // One at a time: the handler shares its memory with itself.
  sigaddset(&action.sa_mask, SIGINT);
  sigaddset(&action.sa_mask, SIGTERM);
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool Interrupted() {
  return interrupted != 0;
}

}  // namespace qft::cli
