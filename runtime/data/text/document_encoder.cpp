#include "runtime/data/text/document_encoder.h"

#include <algorithm>
#include <optional>

namespace qft {
namespace {

// Where each token ends in the bytes of all tokens together.
StatusOr<std::vector<size_t>> TokenEnds(const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                                        std::string* bytes) {
  std::vector<size_t> ends;
  ends.reserve(ids.size());
  for (const int32_t id : ids) {
    QFT_ASSIGN_OR_RETURN(const std::string_view token, tokenizer.Bytes(id));
    bytes->append(token);
    ends.push_back(bytes->size());
  }
  return ends;
}

// Places in a text as places in the bytes of its tokens. They are the same unless a normaliser
// changed the text; then a place is as far as the tokens of what precedes it reach.
class PlaceMap {
 public:
  PlaceMap(const Tokenizer& tokenizer, std::string_view text, std::string_view token_bytes)
      : tokenizer_(tokenizer), text_(text), is_same_(text == token_bytes) {}

  StatusOr<size_t> operator()(size_t place) const {
    if (is_same_) return place;
    std::vector<int32_t> ids;
    QFT_RETURN_IF_ERROR(tokenizer_.Encode(text_.substr(0, place), /*special=*/true, &ids));
    std::string bytes;
    QFT_RETURN_IF_ERROR(TokenEnds(tokenizer_, ids, &bytes).status());
    return bytes.size();
  }

 private:
  const Tokenizer& tokenizer_;
  std::string_view text_;
  bool is_same_;
};

}  // namespace

bool HasTarget(const EncodedDocument& document) {
  return document.ids.size() > 1 &&
         std::find(document.learnt.begin() + 1, document.learnt.end(), 1) != document.learnt.end();
}

Status EncodeChat(const Tokenizer& tokenizer, const RenderedChat& chat, EncodedDocument* document) {
  QFT_RETURN_IF_ERROR(tokenizer.Encode(chat.text, /*special=*/true, &document->ids));
  document->learnt.assign(document->ids.size(), 0);
  std::string bytes;
  QFT_ASSIGN_OR_RETURN(const std::vector<size_t> ends, TokenEnds(tokenizer, document->ids, &bytes));
  const PlaceMap place(tokenizer, chat.text, bytes);
  for (const RenderedChat::Span& span : chat.assistant) {
    QFT_ASSIGN_OR_RETURN(const size_t begin, place(span.begin));
    QFT_ASSIGN_OR_RETURN(const size_t end, place(span.end));
    size_t i =
        static_cast<size_t>(std::upper_bound(ends.begin(), ends.end(), begin) - ends.begin());
    for (; i < ends.size() && (i == 0 ? 0 : ends[i - 1]) < end; ++i) document->learnt[i] = 1;
  }
  return absl::OkStatus();
}

int64_t Truncate(int64_t sequence_tokens, EncodedDocument* document) {
  const int64_t size = static_cast<int64_t>(document->ids.size());
  if (size <= sequence_tokens) return 0;
  const auto learnt = std::find(document->learnt.begin(), document->learnt.end(), 1);
  const int64_t prompt = learnt - document->learnt.begin();
  const int64_t cut = prompt == 0 ? 0 : std::min(size - sequence_tokens, prompt - 1);
  const auto shorten = [cut, sequence_tokens](auto* values) {
    values->erase(values->begin(), values->begin() + cut);
    values->resize(static_cast<size_t>(sequence_tokens));
  };
  shorten(&document->ids);
  shorten(&document->learnt);
  return size - sequence_tokens;
}

StatusOr<DocumentEncoder> DocumentEncoder::Create(std::shared_ptr<const Tokenizer> tokenizer,
                                                  const std::string& chat_template,
                                                  const std::string& chat_date) {
  const std::optional<int32_t> end = tokenizer->end_id();
  if (!end) return BadData("the tokenizer has no end token");
  StatusOr<ChatTemplate> found = ChatTemplate::Create(*tokenizer, chat_template, chat_date);
  if (!found.ok() && !chat_template.empty()) return found.status();
  return DocumentEncoder(std::move(tokenizer), *end, std::move(found));
}

Status DocumentEncoder::EncodeText(const Record& record, EncodedDocument* document) const {
  QFT_RETURN_IF_ERROR(tokenizer_->Encode(record.prompt, record.prompt_has_special, &document->ids));
  const size_t prompt = document->ids.size();
  QFT_RETURN_IF_ERROR(tokenizer_->Encode(record.text, /*special=*/false, &document->ids));
  document->ids.push_back(end_id_);
  document->learnt.assign(document->ids.size(), 1);
  std::fill_n(document->learnt.begin(), prompt, 0);
  if (document->ids.size() < 2) return BadData("the document has no tokens");
  return absl::OkStatus();
}

StatusOr<EncodedDocument> DocumentEncoder::Encode(const Record& record) const {
  EncodedDocument document;
  if (record.messages.empty()) {
    QFT_RETURN_IF_ERROR(EncodeText(record, &document));
    return document;
  }
  QFT_RETURN_IF_ERROR(chat_template_.status());
  QFT_ASSIGN_OR_RETURN(const RenderedChat chat,
                       chat_template_->Render(record.messages, /*generation_prompt=*/false));
  if (chat.assistant.empty()) {
    return BadData("the conversation has no message of the assistant: nothing to learn");
  }
  QFT_RETURN_IF_ERROR(EncodeChat(*tokenizer_, chat, &document));
  if (!HasTarget(document)) return BadData("the conversation has no token to learn");
  return document;
}

}  // namespace qft
