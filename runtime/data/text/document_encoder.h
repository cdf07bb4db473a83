// Records become the tokens of a document and which of them are learnt.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/status.h"
#include "runtime/data/text/chat_template.h"
#include "runtime/data/text/record.h"
#include "runtime/data/text/tokenizer.h"

namespace qft {

struct EncodedDocument {
  std::vector<int32_t> ids;
  std::vector<uint8_t> learnt;  // one a token, 0 or 1
};

// Whether a learnt token has one before it; otherwise the document teaches nothing.
bool HasTarget(const EncodedDocument& document);

// The tokens of a rendered conversation, those of the whole text as transformers tokenises it:
// special tokens are recognised wherever they stand, in what the user says too. Learnt is each
// token that has a byte of a span of the assistant's.
Status EncodeChat(const Tokenizer& tokenizer, const RenderedChat& chat, EncodedDocument* document);

// Makes `document` at most sequence_tokens > 1 long: what precedes the first learnt token goes from
// the beginning, all but `prefix`, where it begins so, or one token; then the rest goes from the
// end. Returns how many tokens went.
int64_t Truncate(int64_t sequence_tokens, const std::vector<int32_t>& prefix,
                 EncodedDocument* document);

class DocumentEncoder {
 public:
  // kBadData: the tokenizer has no end token. kUnsupported: there is no chat template of that name.
  static StatusOr<DocumentEncoder> Create(std::shared_ptr<const Tokenizer> tokenizer,
                                          const std::string& chat_template,
                                          const std::string& chat_date);

  // A text: the tokenizer's prefix, its tokens, or those of prompt and completion each for itself,
  // and the end token; text or completion and the end token are learnt. A conversation: as its
  // template has it and no more; what the assistant says is learnt. kBadData: no token could be
  // learnt. kUnsupported: a conversation, but no template.
  StatusOr<EncodedDocument> Encode(const Record& record) const;
  // What the tokenizer's texts begin with.
  const std::vector<int32_t>& prefix() const { return tokenizer_->frame().prefix; }

 private:
  DocumentEncoder(std::shared_ptr<const Tokenizer> tokenizer, int32_t end_id,
                  StatusOr<ChatTemplate> chat_template)
      : tokenizer_(std::move(tokenizer)),
        end_id_(end_id),
        chat_template_(std::move(chat_template)) {}

  Status EncodeText(const Record& record, EncodedDocument* document) const;

  std::shared_ptr<const Tokenizer> tokenizer_;
  int32_t end_id_;
  StatusOr<ChatTemplate> chat_template_;  // without conversations its error does not matter
};

}  // namespace qft
