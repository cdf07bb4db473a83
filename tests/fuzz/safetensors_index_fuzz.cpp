// A model.safetensors.index.json beside two shards with the tensors a and b, c.
#include "runtime/data/safetensors.h"
#include "tests/fuzz/fuzz.h"
#include "tests/runtime/data/format_bytes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qft;
  MemoryFileSystem fs = FileSystemWith("m/model.safetensors.index.json", data, size);
  fs.files["m/1.safetensors"] =
      Safetensors(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", FloatBytes({1, 2}));
  fs.files["m/2.safetensors"] =
      Safetensors(R"({"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},)"
                  R"("c":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
                  FloatBytes({3, 4}));
  const auto source = OpenSafetensorsFolder(fs, "m");
  if (Accepted(source.status())) ReadTensors(**source);
  return 0;
}
