#include "bindings/cli/bench_save.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>

#include "bindings/cli/text.h"

namespace qft::cli {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Mean {
 public:
  void Add(double value) {
    sum_ += value;
    largest_ = std::max(largest_, value);
    ++count_;
  }
  int64_t count() const { return count_; }
  double value() const { return count_ > 0 ? sum_ / static_cast<double>(count_) : 0; }
  double largest() const { return largest_; }

 private:
  double sum_ = 0;
  double largest_ = 0;
  int64_t count_ = 0;
};

bool Done(const Event& event) {
  int32_t done = 0;
  Call(qft_event_poll, event.get(), &done);
  return done != 0;
}

int64_t NewestBytes(const std::string& folder) {
  const Checkpoint checkpoint = [&] {
    qft_checkpoint* opened = nullptr;
    Call(qft_checkpoint_open, folder.data(), folder.size(), &opened,
         static_cast<const char**>(nullptr));
    return Checkpoint(opened);
  }();
  int64_t step = 0;
  Call(qft_checkpoint_get_step, checkpoint.get(), &step);
  int64_t bytes = 0;
  const std::filesystem::path path =
      std::filesystem::path(folder) / Format("step_%lld", static_cast<long long>(step));
  for (const auto& entry : std::filesystem::directory_iterator(path)) {
    bytes += static_cast<int64_t>(entry.file_size());
  }
  return bytes;
}

}  // namespace

json MeasureSaves(const Session& session, const std::string& folder, int64_t steps,
                  const std::function<double()>& step) {
  constexpr int64_t kKeep = 1;
  Mean during;
  Mean quiet;
  Mean begin;
  Mean whole;
  while (during.count() < steps || quiet.count() < steps) {
    const Clock::time_point start = Clock::now();
    const Event event =
        Make<Event>(qft_session_save_begin, session.get(), folder.data(), folder.size(),
                    static_cast<const void*>(nullptr), size_t{0}, kKeep);
    const double began = SecondsSince(start);
    begin.Add(began);
    during.Add(began + step());
    while (!Done(event) && during.count() < steps) during.Add(step());
    Await(event);
    whole.Add(std::max(began, SecondsSince(start)));
    while (quiet.count() < std::min(during.count(), steps)) quiet.Add(step());
  }
  return {{"saves", begin.count()},
          {"steps_during", during.count()},
          {"steps_quiet", quiet.count()},
          {"begin_seconds", begin.value()},
          {"save_seconds", whole.value()},
          {"step_seconds_during", during.value()},
          {"step_seconds_quiet", quiet.value()},
          {"step_seconds_slowest", during.largest()},
          {"step_ratio", during.value() / quiet.value()},
          {"checkpoint_bytes", NewestBytes(folder)}};
}

void PrintSaves(const json& saves) {
  printf("saving          %.3f s a step during a save, %.3f s between saves: %.3f times\n",
         saves.at("step_seconds_during").get<double>(),
         saves.at("step_seconds_quiet").get<double>(), saves.at("step_ratio").get<double>());
  printf("                %.3f s a save, %.3f s of them in the call that begins it; %s\n",
         saves.at("save_seconds").get<double>(), saves.at("begin_seconds").get<double>(),
         Bytes(saves.at("checkpoint_bytes").get<double>()).c_str());
}

}  // namespace qft::cli
