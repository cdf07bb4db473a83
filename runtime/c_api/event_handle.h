// What the handles of events stand for.
#pragma once

#include <memory>

#include "runtime/c_api/handle.h"
#include "runtime/checkpoint_save.h"

namespace qft {

struct EventObject {
  std::shared_ptr<BackgroundSave> save;
};

template <>
struct HandleOf<EventObject> {
  using type = qft_event;
};

}  // namespace qft
