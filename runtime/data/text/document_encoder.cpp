#include "runtime/data/text/document_encoder.h"

#include <algorithm>
#include <iterator>
#include <optional>

#include "runtime/data/text/metaspace.h"

namespace qft {
namespace {

// Where each token ends in the bytes of all tokens together.
StatusOr<std::vector<size_t>> TokenEnds(const Tokenizer& tokenizer, const std::vector<int32_t>& ids,
                                        std::string* bytes) {
  std::vector<size_t> ends;
  ends.reserve(ids.size());
  for (const int32_t id : ids) {
    QFT_ASSIGN_OR_RETURN(const std::string token, tokenizer.Bytes(id));
    bytes->append(token);
    ends.push_back(bytes->size());
  }
  return ends;
}

// For each place in `text` its place in the bytes of its tokens, which differ in no more than
// spaces that the tokenizer adds, and in those that the text itself writes as markers. An added
// space belongs to what follows it. Nothing where they differ in more.
std::optional<std::vector<size_t>> AlignSpaces(std::string_view text, std::string_view bytes) {
  std::vector<size_t> places(text.size() + 1);
  size_t in_text = 0;
  size_t begin = 0;  // of what belongs to the place in the text
  for (size_t at = 0; at < bytes.size(); ++at) {
    const std::string_view rest = text.substr(in_text);
    const bool is_space = bytes[at] == ' ';
    size_t length = 0;
    if (!rest.empty() && rest.front() == bytes[at]) {
      length = 1;
    } else if (is_space && rest.starts_with(kSpaceMarker)) {
      length = kSpaceMarker.size();
    } else if (!is_space) {
      return std::nullopt;
    }
    if (length == 0) continue;
    std::fill_n(places.begin() + static_cast<std::ptrdiff_t>(in_text), length, begin);
    in_text += length;
    begin = at + 1;
  }
  if (in_text < text.size()) return std::nullopt;
  places.back() = begin;
  return places;
}

// Places in a text as places in the bytes of its tokens. Where a normaliser changed more than
// spaces, a place is as far as the tokens of what precedes it reach.
class PlaceMap {
 public:
  PlaceMap(const Tokenizer& tokenizer, std::string_view text, std::string_view token_bytes)
      : tokenizer_(tokenizer), text_(text), places_(AlignSpaces(text, token_bytes)) {}

  StatusOr<size_t> operator()(size_t place) const {
    if (places_) return (*places_)[place];
    std::vector<int32_t> ids;
    QFT_RETURN_IF_ERROR(tokenizer_.Encode(text_.substr(0, place), /*special=*/true, &ids));
    std::string bytes;
    QFT_RETURN_IF_ERROR(TokenEnds(tokenizer_, ids, &bytes).status());
    return bytes.size();
  }

 private:
  const Tokenizer& tokenizer_;
  std::string_view text_;
  std::optional<std::vector<size_t>> places_;
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

int64_t Truncate(int64_t sequence_tokens, const std::vector<int32_t>& prefix,
                 EncodedDocument* document) {
  const std::vector<int32_t>& ids = document->ids;
  const auto size = static_cast<int64_t>(ids.size());
  if (size <= sequence_tokens) return 0;
  const auto learnt = std::find(document->learnt.begin(), document->learnt.end(), 1);
  const int64_t prompt = learnt - document->learnt.begin();
  const bool begins_so =
      ids.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), ids.begin());
  const int64_t begin = begins_so ? std::min<int64_t>(prompt, std::ssize(prefix)) : 0;
  const int64_t kept = std::min<int64_t>(prompt, std::max<int64_t>(begin, 1));
  const int64_t cut = std::min(size - sequence_tokens, prompt - kept);
  const auto shorten = [begin, cut, sequence_tokens](auto* values) {
    values->erase(values->begin() + begin, values->begin() + begin + cut);
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
  QFT_ASSIGN_OR_RETURN(const size_t prefix,
                       tokenizer_->Begin(record.prompt, record.prompt_has_special, &document->ids));
  const size_t prompt = document->ids.size();
  QFT_RETURN_IF_ERROR(tokenizer_->Encode(record.text, /*special=*/false, &document->ids));
  if (document->ids.size() == prefix) return BadData("the document has no tokens");
  document->ids.push_back(end_id_);
  document->learnt.assign(document->ids.size(), 1);
  std::fill_n(document->learnt.begin(), prompt, 0);
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
    return BadData("the conversation has no message of the assistant to learn");
  }
  QFT_RETURN_IF_ERROR(EncodeChat(*tokenizer_, chat, &document));
  if (!HasTarget(document)) return BadData("the conversation has no token to learn");
  return document;
}

}  // namespace qft
