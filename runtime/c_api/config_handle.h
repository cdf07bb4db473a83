// qft_config is a SessionConfig.
#pragma once

#include "runtime/c_api/handle.h"
#include "runtime/session_config.h"

namespace qft {

template <>
struct HandleOf<SessionConfig> {
  using type = qft_config;
};

}  // namespace qft
