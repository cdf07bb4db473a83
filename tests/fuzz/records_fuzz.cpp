// A data set of JSON lines in any form, kept in memory, and read again from the file. The size of
// the input chooses the chat template.
#include "runtime/data/text/chat_family.h"
#include "tests/fuzz/dataset.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  qft::CorpusOptions options;
  options.chat_template = qft::ChatFamilies()[size % qft::ChatFamilies().size()].name;
  options.sequence_tokens = 24;
  options.skip_bad = true;
  qft::UseDataset(data, size, options, 0.5);
  options.memory_limit = 8;
  options.skip_bad = false;
  qft::UseDataset(data, size, options, 0);
  return 0;
}
