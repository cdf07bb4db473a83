// A GGUF model: header, blocks of every type, configuration, and the tensors of a model.
#include "runtime/data/gguf.h"

#include "runtime/model/model_files.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qft;
  MemoryFileSystem fs = FileSystemWith("m.gguf", data, size);
  const auto file = OpenGguf(fs, "m.gguf");
  if (!Accepted(file.status())) return 0;
  ReadTensors(*file->tensors);
  Accepted(ParseGgufConfig(*file, "m.gguf").status());
  const auto model = OpenModelFiles(fs, "m.gguf");
  if (Accepted(model.status())) ReadTensors(*model->tensors);
  return 0;
}
