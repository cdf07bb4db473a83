#include "base/worker_thread.h"

#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace qft {
namespace {

class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &previous_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &previous_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t previous_;
};

}  // namespace

std::thread StartWorker(std::function<void()> body) {
  const SignalsBlocked inherited;
  return std::thread(std::move(body));
}

void GiveWay() {
  constexpr int kSteps = 10;
  constexpr int kLowest = 19;
  const auto thread = static_cast<id_t>(gettid());  // on Linux priorities are those of threads
  errno = 0;
  const int priority = getpriority(PRIO_PROCESS, thread);
  if (errno == 0) setpriority(PRIO_PROCESS, thread, std::min(priority + kSteps, kLowest));
}

}  // namespace qft
