// A model.safetensors.
#include "runtime/data/safetensors.h"

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qft;
  MemoryFileSystem fs = FileSystemWith("m/model.safetensors", data, size);
  const auto file = OpenSafetensorsFile(fs, "m/model.safetensors");
  if (Accepted(file.status())) ReadTensors(*file->tensors);
  return 0;
}
