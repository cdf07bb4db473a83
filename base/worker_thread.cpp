#include "base/worker_thread.h"

#include <signal.h>

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

}  // namespace qft
