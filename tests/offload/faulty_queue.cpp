#include "tests/offload/faulty_queue.h"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <new>
#include <utility>
#include <vector>

namespace qft {

struct Faults::State {
  std::mutex mutex;
  std::condition_variable never;
  Fault fault;
  int64_t seen = 0;
  int most_in_flight = 0;
  int hanging = 0;

  Fault Next(const Request& request) {
    const std::scoped_lock lock(mutex);
    if (fault.kind == FaultKind::kNone || request.write != fault.write) return {};
    ++seen;
    const bool hit = seen == fault.nth || (fault.for_ever && seen > fault.nth);
    return hit ? fault : Fault{};
  }
};

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kDelay{20};

class FaultyQueue final : public RequestQueue {
 public:
  FaultyQueue(std::unique_ptr<RequestQueue> inner, std::shared_ptr<Faults::State> state)
      : inner_(std::move(inner)), state_(std::move(state)) {}

  Status Register(void* memory, size_t bytes) override { return inner_->Register(memory, bytes); }
  void Wake() override { inner_->Wake(); }

  Status Submit(absl::Span<const Request> requests) override {
    std::vector<Request> passed;
    const int in_flight = in_flight_;
    for (const Request& request : requests) {
      ++in_flight_;
      const Fault fault = state_->Next(request);
      if (fault.kind == FaultKind::kNoMemory) {
        in_flight_ = in_flight;
        throw std::bad_alloc();
      }
      const FaultKind kind = fault.kind;
      if (Answers(request, fault)) continue;
      passed.push_back(request);
      if (kind != FaultKind::kNone) changed_[request.id] = {kind, request};
      if (kind == FaultKind::kFlipped && request.write) passed.back().data = FlippedCopy(request);
    }
    {
      const std::scoped_lock lock(state_->mutex);
      state_->most_in_flight = std::max(state_->most_in_flight, in_flight_);
    }
    return passed.empty() ? absl::OkStatus() : inner_->Submit(passed);
  }

  StatusOr<size_t> Collect(absl::Span<Completion> out, std::chrono::milliseconds timeout) override {
    if (!answers_.empty() && answers_.front().due <= Clock::now()) return TakeAnswer(out);
    if (!answers_.empty()) timeout = std::min(timeout, kDelay);
    auto count = inner_->Collect(out, timeout);
    if (!count.ok()) return count;
    size_t kept = 0;
    for (size_t i = 0; i < *count; ++i) {
      if (Change(out[i])) out[kept++] = out[i];
    }
    in_flight_ -= static_cast<int>(kept);
    return kept;
  }

 private:
  struct Changed {
    FaultKind kind;
    Request request;
  };
  struct Answer {
    Clock::time_point due;
    Completion completion;
  };

  // Whether the request is answered, or not, without being passed on.
  bool Answers(const Request& request, const Fault& fault) {
    const FaultKind kind = fault.kind;
    const auto answer = [&](int64_t result) {
      answers_.push_back({Clock::now(), {request.id, result}});
      return true;
    };
    if (kind == FaultKind::kInterrupted) return answer(-EINTR);
    if (kind == FaultKind::kAgain) return answer(-EAGAIN);
    if (kind == FaultKind::kNothing) return answer(0);
    if (kind == FaultKind::kError) return answer(-fault.error);
    if (kind == FaultKind::kHangs) {
      std::unique_lock lock(state_->mutex);
      ++state_->hanging;
      state_->never.wait(lock, [] { return false; });
    }
    return kind == FaultKind::kNoAnswer;
  }

  // Whether the completion is to be seen now.
  bool Change(Completion& completion) {
    const auto found = changed_.find(completion.id);
    if (found == changed_.end()) return true;
    const auto [kind, request] = found->second;
    changed_.erase(found);
    if (kind == FaultKind::kShort && request.bytes > kStoreAlignment)
      completion.result = completion.result * 3 / 4 - 100;
    if (kind == FaultKind::kFlipped && !request.write)
      request.data[request.bytes / 2] ^= std::byte{4};
    if (kind != FaultKind::kSlow) return true;
    answers_.push_back({Clock::now() + kDelay, completion});
    return false;
  }

  // One at a time: a queue need not tell all that it knows at once.
  size_t TakeAnswer(absl::Span<Completion> out) {
    out.front() = answers_.front().completion;
    answers_.pop_front();
    --in_flight_;
    return 1;
  }

  std::byte* FlippedCopy(const Request& request) {
    flipped_.reset(new (std::align_val_t{kStoreAlignment})
                       std::byte[static_cast<size_t>(request.bytes)]);
    std::copy_n(request.data, request.bytes, flipped_.get());
    flipped_[static_cast<size_t>(request.bytes / 2)] ^= std::byte{4};
    return flipped_.get();
  }

  struct FreeAligned {
    void operator()(std::byte* memory) const {
      ::operator delete[](memory, std::align_val_t{kStoreAlignment});
    }
  };

  std::unique_ptr<std::byte[], FreeAligned> flipped_;
  std::unique_ptr<RequestQueue> inner_;
  std::shared_ptr<Faults::State> state_;
  std::map<int, Changed> changed_;
  std::deque<Answer> answers_;
  int in_flight_ = 0;
};

}  // namespace

Faults::Faults() : state_(std::make_shared<State>()) {}
Faults::~Faults() = default;

void Faults::Arm(const Fault& fault) {
  const std::scoped_lock lock(state_->mutex);
  state_->fault = fault;
  state_->seen = 0;
}

int Faults::Hanging() const {
  const std::scoped_lock lock(state_->mutex);
  return state_->hanging;
}

int Faults::MostInFlight() const {
  const std::scoped_lock lock(state_->mutex);
  return state_->most_in_flight;
}

WrapQueue Faults::Wrap() {
  return [state = state_](std::unique_ptr<RequestQueue> inner) {
    return std::make_unique<FaultyQueue>(std::move(inner), state);
  };
}

}  // namespace qft
