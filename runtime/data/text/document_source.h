// A file of documents of any form, read from its beginning and again at any place.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/file.h"
#include "base/status.h"
#include "runtime/data/text/document_encoder.h"
#include "runtime/data/text/record.h"

namespace qft {

// Where a document stands in its file: the offset and size of its line, or its number among tokens.
struct DocumentPlace {
  uint64_t at = 0;
  uint32_t size = 0;
};

struct FoundDocument {
  DocumentPlace place;
  int64_t number = 0;  // of its line, from 1, or of the document among tokens, from 0
  EncodedDocument document;
  uint64_t content_hash = 0;
};

class DocumentSource {
 public:
  // The document, or why it is none ("file:line: ..."), which need not end the reading.
  using Use = std::function<Status(StatusOr<FoundDocument> found)>;

  virtual ~DocumentSource() = default;
  // Calls `use` with each document in order, until that fails.
  virtual Status ReadAll(const Use& use) const = 0;
  // The document at a place that ReadAll named.
  virtual StatusOr<EncodedDocument> ReadAt(const DocumentPlace& place) const = 0;
};

// JSON lines of `form`, or a file of tokens, which its first bytes tell. The encoder and the
// tokenizer must outlive the source. vocabulary: what ids are below.
StatusOr<std::unique_ptr<DocumentSource>> OpenDocumentSource(FileSystem& fs,
                                                             const std::string& path,
                                                             RecordForm form,
                                                             const DocumentEncoder& encoder,
                                                             int64_t vocabulary);

}  // namespace qft
