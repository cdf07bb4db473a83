// A chat_template.jinja, which is recognised by its canonical form.
#include "runtime/data/text/chat_family.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qft;
  const std::string jinja(reinterpret_cast<const char*>(data), size);
  const char* family = RecognizeChatTemplate(jinja);
  // An end of line at the end of the file does not count.
  if (!jinja.empty() && jinja.back() != '\n') {
    Require(RecognizeChatTemplate(jinja + "\n") == family, "the last line end does not count");
  }
  return 0;
}
