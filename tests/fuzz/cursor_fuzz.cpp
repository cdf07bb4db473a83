// The place in a data set that a checkpoint holds: the input is what differs from a real one.
#include "runtime/data/text/dataset.h"

#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/small_tokenizer.h"

namespace qft {
namespace {

std::unique_ptr<Dataset> SmallDataset() {
  const std::string text = "{\"text\":\"one\"}\n{\"text\":\"two\"}\n{\"text\":\"three\"}\n";
  MemoryFileSystem fs;
  fs.files["data"] = text;
  DatasetOptions options;
  options.batch_tokens = 8;
  return Dataset::Open(fs, {{"data"}}, SmallTokenizer(), options).value();
}

}  // namespace
}  // namespace qft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qft;
  static Dataset* const dataset = SmallDataset().release();
  static const std::string start = dataset->Cursor();
  std::string cursor = start;
  cursor.resize(std::max(cursor.size(), size));
  for (size_t i = 0; i < size; ++i) cursor[i] = static_cast<char>(cursor[i] ^ data[i]);
  const std::string before = dataset->Cursor();
  const bool taken = Accepted(dataset->SetCursor(cursor));
  Require(dataset->Cursor() == (taken ? cursor : before), "a cursor is taken whole or not at all");
  return 0;
}
