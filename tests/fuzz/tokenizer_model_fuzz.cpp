// A SentencePiece tokenizer.model.
#include "tests/fuzz/tokenize.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(reinterpret_cast<const char*>(data), size);
  qft::UseSpec(qft::ParseTokenizerModel(bytes));
  return 0;
}
