// The tokenizer in a GGUF file.
#include "tests/fuzz/tokenize.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qft;
  MemoryFileSystem fs = FileSystemWith("m.gguf", data, size);
  UseSpec(ReadTokenizerGguf(fs, "m.gguf"));
  return 0;
}
