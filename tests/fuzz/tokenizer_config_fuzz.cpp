// What lies beside a tokenizer: a tokenizer_config.json with its chat template, beside each kind.
#include "runtime/data/text/chat_template.h"
#include "runtime/data/text/sentencepiece_model.h"
#include "tests/fuzz/small_tokenizer.h"
#include "tests/fuzz/tokenize.h"

namespace qft {
namespace {

std::string SmallTokenizerModel() {
  using Type = SentencePieceModel::Type;
  SentencePieceModel model;
  model.algorithm = SentencePieceModel::Algorithm::kBpe;
  model.pieces = {{"<unk>", 0, Type::kUnknown}, {"<s>", 0, Type::kControl},
                  {"</s>", 0, Type::kControl},  {"\xE2\x96\x81", -1, Type::kNormal},
                  {"a", -2, Type::kNormal},     {"\xE2\x96\x81\x61", -3, Type::kNormal}};
  return WriteSentencePieceModel(model);
}

void UseFolder(MemoryFileSystem& fs) {
  const auto tokenizer = Tokenizer::Load(fs, "m");
  if (!Accepted(tokenizer.status())) return;
  UseTokenizer(**tokenizer);
  const auto chat = ChatTemplate::Create(**tokenizer, "", "");
  if (!Accepted(chat.status())) return;
  const std::vector<ChatMessage> messages = {{"user", "Hi"}, {"assistant", "Hello <|im_end|>"}};
  const auto text = chat->Render(messages, /*generation_prompt=*/false);
  if (!Accepted(text.status())) return;
  for (const RenderedChat::Span& span : text->assistant) {
    Require(span.begin <= span.end && span.end <= text->text.size(), "spans lie in the text");
  }
}

}  // namespace
}  // namespace qft

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace qft;
  MemoryFileSystem fs = FileSystemWith("m/tokenizer_config.json", data, size);
  fs.files["m/generation_config.json"] = fs.files["m/tokenizer_config.json"];
  fs.files["m/tokenizer.model"] = SmallTokenizerModel();
  UseFolder(fs);
  fs.files["m/tokenizer.json"] = SmallTokenizerJson();
  UseFolder(fs);
  return 0;
}
