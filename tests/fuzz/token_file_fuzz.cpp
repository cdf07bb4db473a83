// A data set that is tokens already.
#include "tests/fuzz/dataset.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  qft::CorpusOptions options;
  options.memory_limit = 8;
  options.skip_bad = true;
  qft::UseDataset(data, size, options, 0);
  return 0;
}
