#include "bindings/cli/interrupt.h"

#include <signal.h>
#include <unistd.h>

#include "bindings/cli/failure.h"

namespace qft::cli {
namespace {

volatile sig_atomic_t interrupts = 0;

void OnSignal(int) {
  if (interrupts != 0) _exit(kExitInterrupted);
  interrupts = 1;
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
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool Interrupted() {
  return interrupts != 0;
}

}  // namespace qft::cli
