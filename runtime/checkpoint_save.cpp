#include "runtime/checkpoint_save.h"

#include <new>
#include <system_error>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "base/worker_thread.h"
#include "runtime/checkpoint.h"
#include "runtime/checkpoint_retention.h"
#include "runtime/step.h"

namespace qft {
namespace {

// The one that the thread writes.
thread_local BackgroundSave* t_save = nullptr;

// Indices of the parts, those first that the next step overwrites first.
std::vector<size_t> CopyOrder(const Plan& plan, const std::vector<StatePart>& parts) {
  std::vector<std::vector<size_t>> by_tensor(static_cast<size_t>(plan.model->table().size()));
  std::vector<size_t> shared;
  for (size_t i = 0; i < parts.size(); ++i) {
    (parts[i].tensor < 0 ? shared : by_tensor[static_cast<size_t>(parts[i].tensor)]).push_back(i);
  }
  std::vector<size_t> order;
  for (const int tensor : UpdateOrder(plan)) {
    const std::vector<size_t>& own = by_tensor[static_cast<size_t>(tensor)];
    order.insert(order.end(), own.begin(), own.end());
  }
  order.insert(order.end(), shared.begin(), shared.end());
  return order;
}

}  // namespace

Status SaveCheckpoint(const CheckpointContent& content, FileSystem& fs, const std::string& folder,
                      int64_t keep) {
  QFT_ASSIGN_OR_RETURN(const std::unique_ptr<PreparedSave> save,
                       PreparedSave::Prepare(content, fs, folder));
  QFT_RETURN_IF_ERROR(save->Commit());
  QFT_RETURN_IF_ERROR(SetAsideLater(fs, folder, content.step));
  if (keep == 0) return absl::OkStatus();
  return PruneCheckpoints(fs, folder, {.keep = keep}).status();
}

StatusOr<std::shared_ptr<BackgroundSave>> BackgroundSave::Begin(Session& session,
                                                                const std::string& blob,
                                                                ContentWriter write) {
  QFT_ASSIGN_OR_RETURN(CheckpointContent content, ContentOf(session, blob));
  std::shared_ptr<BackgroundSave> save(new BackgroundSave(session));
  if (session.snapshot().capacity() == 0) {
    QFT_RETURN_IF_ERROR(write(content));
    save->End(absl::OkStatus());
    return save;
  }
  QFT_RETURN_IF_ERROR(save->TakeSnapshot(session, content));
  Snapshot& snapshot = session.snapshot();
  absl::Cleanup unused = [&snapshot] { snapshot.Release().IgnoreError(); };
  auto run = [save = save.get(), &snapshot, content = std::move(content),
              write = std::move(write)] { save->Run(snapshot, content, write); };
  try {
    save->thread_ = StartWorker([run, save = save.get()] {
      GiveWay();  // the engine's workers wait for the slowest of them
      t_save = save;
      run();
      const std::shared_ptr<void> owner = std::move(save->owner_);  // this save may go with it
    });
  } catch (const std::system_error&) {
    run();  // there can be no more threads
  }
  std::move(unused).Cancel();
  return save;
}

Status BackgroundSave::TakeSnapshot(Session& session, CheckpointContent& content) {
  const std::vector<size_t> order = CopyOrder(session.plan(), content.parts);
  std::vector<StateRange> ranges;
  std::vector<size_t> range_of_part(content.parts.size());
  for (const size_t i : order) {
    const StatePart& part = content.parts[i];
    range_of_part[i] = ranges.size();
    ranges.push_back({part.tensor, part.data, part.bytes});
  }
  Snapshot& snapshot = session.snapshot();
  QFT_RETURN_IF_ERROR(snapshot.Start(ranges));
  absl::Cleanup unused = [&snapshot] { snapshot.Release().IgnoreError(); };
  QFT_RETURN_IF_ERROR(session.Synchronize());  // says whether copies could be started
  content.read = [this, &snapshot, range_of_part](size_t part, size_t begin,
                                                  size_t) -> StatusOr<const char*> {
    QFT_RETURN_IF_ERROR(CheckCancelled());
    QFT_ASSIGN_OR_RETURN(const char* data, snapshot.Read(range_of_part[part]));
    return data + begin;
  };
  std::move(unused).Cancel();
  return absl::OkStatus();
}

Status BackgroundSave::CheckCancelled() const {
  if (!cancelled_.load(std::memory_order_relaxed)) return absl::OkStatus();
  return MakeError(ErrorCode::kCancelled, "the save was cancelled");
}

void BackgroundSave::Run(Snapshot& snapshot, const CheckpointContent& content,
                         const ContentWriter& write) {
  const Status written = OrNoMemory([&]() -> Status {
    try {
      return write(content);
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& exception) {
      return Internal("saving: ", exception.what());
    }
  });
  const Status released = OrNoMemory([&] { return snapshot.Release(); });
  End(written.ok() ? released : written);
}

template <typename F>
Status BackgroundSave::OrNoMemory(const F& function) const {
  try {
    return function();
  } catch (const std::bad_alloc&) {
    return no_memory_;
  }
}

void BackgroundSave::End(Status status) {
  const std::lock_guard<std::mutex> lock(mutex_);
  status_ = std::move(status);
  done_ = true;
  ended_.notify_all();
}

bool BackgroundSave::done() const {
  const std::lock_guard<std::mutex> lock(mutex_);
  return done_;
}

Status BackgroundSave::Wait(std::chrono::milliseconds timeout) const {
  if (OnOwnThread()) {
    return MakeError(ErrorCode::kReentrant, "a callback of the save can't wait for the save's end");
  }
  std::unique_lock<std::mutex> lock(mutex_);
  if (ended_.wait_for(lock, timeout, [this] { return done_; })) return status_;
  return MakeError(ErrorCode::kTimeout,
                   absl::StrCat("not done within ", timeout.count(), " milliseconds"));
}

void BackgroundSave::Stop() {
  Cancel();
  const std::lock_guard<std::mutex> lock(join_mutex_);
  if (!thread_.joinable()) return;
  if (OnOwnThread()) {
    thread_.detach();  // in its last line
  } else {
    thread_.join();
  }
}

bool BackgroundSave::OnOwnThread() const {
  return t_save == this;
}

void BackgroundSave::KeepInCallback(const Session& session, std::shared_ptr<void> owner) {
  if (t_save == nullptr || t_save->session_ != &session) return;
  t_save->Cancel();
  t_save->owner_ = std::move(owner);
}

}  // namespace qft
