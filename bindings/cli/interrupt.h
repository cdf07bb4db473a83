// Ctrl-C and SIGTERM: the first asks the command to stop at the next good place, the second ends
// the program at once.
#pragma once

namespace qft::cli {

void CatchInterrupts();
bool Interrupted();

}  // namespace qft::cli
