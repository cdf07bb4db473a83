// A tokenizer.json.
#include "tests/fuzz/tokenize.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  qft::UseSpec(qft::ParseTokenizerJson(text, "tokenizer.json"));
  return 0;
}
