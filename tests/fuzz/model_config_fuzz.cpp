// A config.json. What is taken can be written and read again.
#include "runtime/model/model_config.h"

#include "runtime/model/llama_tensors.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qft;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const auto config = ParseHuggingFaceConfig(text, "config.json");
  if (!Accepted(config.status())) return 0;
  Require(MakeLlamaTensors(*config).table.size() > 0, "a model has tensors");
  const auto again = ParseHuggingFaceConfig(ToHuggingFaceJson(*config, "bfloat16"), "again");
  Require(Accepted(again.status()), "what was written is read");
  Require(*again == *config, "what was written is what was read");
  return 0;
}
