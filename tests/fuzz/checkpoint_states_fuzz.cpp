// A states.safetensors whose manifest fits. A session that takes it must survive a step with it.
#include "tests/fuzz/checkpoint.h"

namespace qft {
namespace {

// Any outcome but a crash: the weights may be anything.
Status Step(Session& session) {
  const std::vector<int32_t> tokens = {1, 2, 3, 4, 5, 6, 7, 63};
  BatchView batch;
  batch.tokens = static_cast<int64_t>(tokens.size());
  batch.token_ids = tokens.data();
  StepOptions options;
  options.learning_rate = 1e-2;
  QFT_RETURN_IF_ERROR(session.BeginStep(options));
  QFT_RETURN_IF_ERROR(session.Accumulate({batch}));
  return session.EndStep().status();
}

}  // namespace
}  // namespace qft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qft;
  static const bool own = Restore(ManifestOf(Small().states), Small().states) != nullptr;
  Require(own, "a checkpoint's own states are taken");
  const std::string states(reinterpret_cast<const char*>(data), size);
  Session* const session = Restore(ManifestOf(states), states);
  if (session == nullptr || Accepted(Step(*session)) || !session->step_open()) return 0;
  Accepted(session->AbandonStep());
  return 0;
}
