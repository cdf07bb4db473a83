// A manifest.json beside the states that it was written for: the input itself, and the real
// manifest with the input merged into it (RFC 7396), which keeps the hashes of the files true.
#include "tests/fuzz/checkpoint.h"

namespace qft {
namespace {

void RestoreStates(const std::string& manifest) {
  static const auto* const hash =
      new std::string(HashOf(*Restore(Small().manifest, Small().states)));
  Session* const session = Restore(manifest, Small().states);
  if (session == nullptr) return;
  Require(HashOf(*session) == *hash, "the states are those of the file");
  const Progress progress = session->progress();
  Require(session->step() >= 0 && session->config().seed >= 0, "a session can have come there");
  Require(progress.rounding_square_sum >= 0 && progress.previous_square_sum >= -1,
          "sums of squares are not negative");
}

}  // namespace
}  // namespace qft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qft;
  const std::string text(reinterpret_cast<const char*>(data), size);
  RestoreStates(text);
  const auto patch = ParseJson(text, "patch");
  if (!patch.ok()) return 0;
  nlohmann::json manifest = nlohmann::json::parse(ManifestOf(Small().states));
  manifest.merge_patch(*patch);
  RestoreStates(manifest.dump());
  return 0;
}
