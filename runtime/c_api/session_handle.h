// What the handles of models and sessions stand for.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/c_api/handle.h"
#include "runtime/c_api/struct_size.h"
#include "runtime/checkpoint_save.h"
#include "runtime/session.h"

namespace qft {

struct ModelObject {
  std::shared_ptr<const Model> model;
};

struct SessionObject {
  ~SessionObject() {
    if (save != nullptr) save->Stop();
  }

  std::shared_ptr<void> user;  // the caller's log context, given back when the last use ends
  std::unique_ptr<Session> session;
  std::shared_ptr<BackgroundSave> save;  // the last one; may be under way
  std::atomic<int64_t> step{0};          // what metrics report while a step runs

  Session& get() { return *session; }
};

template <>
struct HandleOf<ModelObject> {
  using type = qft_model;
};
template <>
struct HandleOf<SessionObject> {
  using type = qft_session;
};

// Batches of a caller as views of the caller's memory.
StatusOr<std::vector<BatchView>> ReadBatches(const qft_batch* batches, int64_t count);

}  // namespace qft
